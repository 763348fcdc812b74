/*
 * shard: everything of one HDF5 shard but its latents: the index, strings and buckets.
 *
 * The same tables are filled clip by clip when writing and checked as a whole when reading. Their
 * digest covers what is in memory, not how the file stores it, so it also holds against faults that
 * the library does not see.
 */
#ifndef ZT_DATA_SHARD_H
#define ZT_DATA_SHARD_H

#include "core/base/digest.h"
#include "data/dataset.h"
#include "data/dataset_info.h"
#include "data/h5.h"
#include "data/string_list.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SHARD_FORMAT "zoetrope-dataset"

enum {
    SHARD_MAX_BUCKETS = 256,
    SHARD_NAME_BYTES = 32, /* "shard-00000.h5" */
    SHARD_PATH_BYTES = 96, /* "/buckets/5_8_8/latents" */
};

/* One clip's row of the index. No padding: the digest reads it as bytes. */
typedef struct ShardRow {
    int64_t bucket; /* of this shard */
    int64_t row;    /* of the bucket's latents: 0, 1, 2, ... in the order of the clips */
    int64_t frames;
    double fps, start_s;
    int64_t crop[4];
    int64_t caption_first, caption_count; /* one clip's captions after the other's */
    uint8_t sha256[DIGEST_BYTES];
} ShardRow;

/* Where the captions' embeddings lie in /text/rows. Empty where a dataset has none. */
typedef struct ShardText {
    int64_t (*ranges)[2];            /* (captions) owned: first row, rows */
    uint8_t (*sha256)[DIGEST_BYTES]; /* (captions) owned: of the rows' bytes */
    int64_t captions, reserved;
    int64_t rows; /* of /text/rows */
} ShardText;

/* Conditions, clip by clip. Empty where a dataset has none. */
typedef struct ShardCondition {
    uint8_t (*latents)[DIGEST_BYTES]; /* (clips) owned: of the bytes of a clip's condition */
    uint8_t (*image)[DIGEST_BYTES];   /* (clips) owned: of its image tokens; zeros without them */
    int64_t clips, reserved;
} ShardCondition;

typedef struct Shard {
    ShardRow *rows; /* (clips) owned */
    int64_t clips, reserved;
    StringList sources;  /* (clips) */
    StringList captions; /* of all clips */
    ShardText text;
    ShardCondition condition;
    DatasetBucket buckets[SHARD_MAX_BUCKETS];
    int64_t bucket_count;
} Shard;

/* ---- writing -------------------------------------------------------------------------------- */

/* The bucket's number in this shard; added when it is new. ERR_FORMAT when there are too many. */
Status shard_find_bucket(Shard *shard, const DatasetBucket *size, int64_t *out);
/* Appends a row with its strings; bucket counts, row and caption range are filled in here. */
Status shard_add(Shard *shard, const ShardRow *row, const char *source,
                 const char *const *captions);
/* The chunk of the latents of a bucket: a clip, or a part of its tokens when that is large. */
void shard_latents_chunk(const DatasetBucket *bucket, int64_t chunk[3]);
Status shard_write(const Shard *shard, const InfoStore *info, H5File *file);

/* ---- reading -------------------------------------------------------------------------------- */

/* Fills a zeroed shard and checks all of it. The caller destroys it in any case. */
Status shard_read(H5File *file, Shard *shard, InfoStore **info);
/* Opens the latents of a bucket, whose shape must be the index's. */
Status shard_open_latents(H5File *file, const DatasetBucket *bucket, H5Array **out);

/* ---- both ----------------------------------------------------------------------------------- */

void shard_file_name(int64_t number, char out[SHARD_NAME_BYTES]);
void shard_latents_path(const DatasetBucket *bucket, char out[SHARD_PATH_BYTES]);
/* "5x8x8" and so on must fit the geometry. ERR_FORMAT begins with `where`. */
Status shard_check_bucket(const DatasetBucket *bucket, const DatasetInfo *info, const char *where);
Status shard_digest(const Shard *shard, const InfoStore *info, Digest *out);
/* Ready for the next shard; keeps the memory. */
void shard_clear(Shard *shard);
void shard_destroy(Shard *shard);

#ifdef __cplusplus
}
#endif
#endif
