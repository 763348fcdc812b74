/* dataset_parts: the insides of a Dataset, for data/dataset.c and data/dataset_latents.c only. */
#ifndef ZT_DATA_DATASET_PARTS_H
#define ZT_DATA_DATASET_PARTS_H

#include "core/base/file.h"
#include "data/dataset.h"
#include "data/dataset_record.h"
#include "data/shard.h"

#include <pthread.h>

typedef struct OpenShard {
    char path[FILE_PATH_BYTES];
    Shard tables;                             /* constant once read */
    int64_t first_clip;                       /* number of its first clip in the dataset */
    int64_t global_bucket[SHARD_MAX_BUCKETS]; /* of the shard's buckets */
    /* below: guarded by the dataset's lock */
    H5File *file;                                  /* NULL when closed */
    H5Array *latents[SHARD_MAX_BUCKETS];           /* NULL until needed */
    H5Array *text;                                 /* the same */
    H5Array *condition[SHARD_MAX_BUCKETS], *image; /* the same */
    uint64_t last_use;
} OpenShard;

struct Dataset {
    char dir[FILE_PATH_BYTES];
    DatasetRecord record;
    OpenShard *shards;      /* owned, record.shard_count */
    DatasetBucket *buckets; /* owned; by t, h, w */
    int64_t bucket_count;
    InfoStore *info; /* owned */
    char digest[DIGEST_HEX];
    pthread_mutex_t lock; /* the open files and their order of use */
    int64_t open_files;
    uint64_t uses;
};

/* The shard that holds a clip. */
OpenShard *dataset_shard_of(const Dataset *ds, int64_t clip);
/* The shard's file, open; the lock is held. */
Status dataset_shard_file(Dataset *ds, OpenShard *shard, H5File **out);
/* Fails with `why`, which names the file perhaps, said of the clip. */
Status dataset_clip_fail(Status status, const Dataset *ds, int64_t clip, const char *why);
/* values (count) F32 = bits (count), which lie in their second half. */
void dataset_widen(float *values, const uint16_t *bits, int64_t count);
/* Embeddings of a clip's captions, against their SHA-256. */
Status dataset_verify_text(Dataset *ds, int64_t clip);
/* A clip's image tokens, against their SHA-256. */
Status dataset_verify_image(Dataset *ds, int64_t clip);
/* Closes the file if it is open. */
void open_shard_close(OpenShard *shard);

#endif
