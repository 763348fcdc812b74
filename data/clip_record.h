/* clip_record: whether what a writer is given (data/dataset_writer.h) goes together. */
#ifndef ZT_DATA_CLIP_RECORD_H
#define ZT_DATA_CLIP_RECORD_H

#include "data/dataset_writer.h"

/* bucket: the clip's. Values of latents, condition and image tokens are looked at when they are
 * narrowed. ERR_FORMAT begins with `dir`, the dataset's folder. */
Status clip_record_check(const char *dir, const DatasetInfo *info, const ClipRecord *clip,
                         DatasetBucket *bucket);

#endif
