/* dataset_folder: the folder of a dataset, before it is written and when it is verified. */
#ifndef ZT_DATA_DATASET_FOLDER_H
#define ZT_DATA_DATASET_FOLDER_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One writer at a time: *out is a descriptor that holds the lock until it is closed. ERR_USAGE when
 * somebody else has it. */
Status dataset_folder_lock(const char *dir, int *out);
/* Removes the shards of a writer that did not finish. ERR_USAGE when the folder holds a dataset, or
 * something of a shard's name that is not ours. */
Status dataset_folder_clear(const char *dir);
/* ERR_FORMAT names a shard, whole or partial, that is not one of the first `shards`. */
Status dataset_folder_check(const char *dir, int64_t shards);

#ifdef __cplusplus
}
#endif
#endif
