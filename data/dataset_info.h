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
    char text_encoder[H5_MAX_TEXT + 1], text_digest[H5_MAX_TEXT + 1];
    uint16_t *text_null; /* owned; NULL without embeddings */
    char image_digest[H5_MAX_TEXT + 1];
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

/* The part about embeddings (data/dataset_info_text.c); each does nothing where there are none. */
Status info_text_copy(const DatasetInfo *info, const char *where, InfoStore *store);
Status info_text_write(const InfoStore *store, H5File *file);
Status info_text_read(H5File *file, InfoStore *store);
bool info_text_equal(const InfoStore *a, const InfoStore *b);
void info_text_digest(const InfoStore *store, DigestStream *stream);

/* The part about conditions (data/dataset_info_condition.c), likewise. */
Status info_condition_copy(const DatasetInfo *info, const char *where, InfoStore *store);
Status info_condition_write(const InfoStore *store, H5File *file);
Status info_condition_read(H5File *file, InfoStore *store);
bool info_condition_equal(const InfoStore *a, const InfoStore *b);
void info_condition_digest(const InfoStore *store, DigestStream *stream);

/* 1 to 3: the version of a shard, and of dataset.json, that says this. */
static inline int64_t dataset_version_of(const DatasetInfo *info)
{
    if (info->condition != CONDITION_NONE) return DATASET_VERSION_CONDITION;
    return info->text_width > 0 ? DATASET_VERSION_TEXT : DATASET_VERSION;
}

#ifdef __cplusplus
}
#endif
#endif
