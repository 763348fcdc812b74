/* dataset_info: what holds for every clip (DatasetInfo of data/dataset.h), to and from a shard. */
#ifndef ZT_DATA_DATASET_INFO_H
#define ZT_DATA_DATASET_INFO_H

#include "core/base/digest.h"
#include "data/dataset.h"
#include "data/h5.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Owns what a DatasetInfo points to. */
typedef struct InfoStore {
    DatasetInfo view; /* points into the rest */
    char codec[H5_MAX_TEXT + 1], codec_digest[H5_MAX_TEXT + 1];
    float *basis, *mean, *scale; /* owned; NULL for a codec that lives elsewhere */
} InfoStore;

/* Copies and checks: names, geometry, a finite codec whose digest is what it should be. `where`
 * begins the message. ERR_FORMAT, ERR_MEMORY. */
Status info_store_copy(const DatasetInfo *info, const char *where, InfoStore **out);
void info_store_destroy(InfoStore *store);

Status info_store_write(const InfoStore *store, H5File *file);
/* Checks the same things. */
Status info_store_read(H5File *file, InfoStore **out);

bool info_store_equal(const InfoStore *a, const InfoStore *b);
void info_store_digest(const InfoStore *store, DigestStream *stream);

#ifdef __cplusplus
}
#endif
#endif
