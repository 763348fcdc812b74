#include "data/shard_condition.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHA256 "/condition/sha256"
#define IMAGE "/condition/image"
#define IMAGE_SHA256 "/condition/image_sha256"

enum { DIGESTS_A_CHUNK = 8192 };

static void condition_path(const DatasetBucket *b, char out[SHARD_PATH_BYTES])
{
    snprintf(out, SHARD_PATH_BYTES, "/buckets/%lld_%lld_%lld/condition", (long long)b->t,
             (long long)b->h, (long long)b->w);
}

/* ---- writing -------------------------------------------------------------------------------- */

static Status reserve(ShardCondition *condition)
{
    if (condition->clips < condition->reserved) return OK;
    const int64_t room =
        condition->reserved < 64 ? 64 : condition->reserved + condition->reserved / 2;
    void *latents = reallocarray(condition->latents, (size_t)room, DIGEST_BYTES);
    if (latents != NULL) condition->latents = latents;
    void *image = reallocarray(condition->image, (size_t)room, DIGEST_BYTES);
    if (image != NULL) condition->image = image;
    CHECK(latents != NULL && image != NULL, ERR_MEMORY,
          "dataset: no memory for the conditions of %lld clips", (long long)room);
    condition->reserved = room;
    return OK;
}

Status shard_condition_add(ShardCondition *condition, const Digest *latents, const Digest *image)
{
    TRY(reserve(condition));
    memcpy(condition->latents[condition->clips], latents->bytes, DIGEST_BYTES);
    if (image)
        memcpy(condition->image[condition->clips], image->bytes, DIGEST_BYTES);
    else
        memset(condition->image[condition->clips], 0, DIGEST_BYTES);
    condition->clips++;
    return OK;
}

static Status write_digests(H5File *file, const char *path, int64_t clips,
                            uint8_t (*digests)[DIGEST_BYTES])
{
    H5Array *array = NULL;
    const H5Shape shape = { H5_TYPE_U8, 2, { 0, DIGEST_BYTES } };
    const int64_t chunk[] = { clips < DIGESTS_A_CHUNK ? clips : DIGESTS_A_CHUNK, DIGEST_BYTES };
    TRY(h5_array_create(file, path, &shape, chunk, &array));
    const Status s = h5_array_append(array, clips, digests);
    h5_array_close(array);
    return s;
}

Status shard_condition_write(const ShardCondition *condition, const DatasetInfo *info, H5File *file)
{
    if (condition->clips == 0) return OK;
    TRY(write_digests(file, SHA256, condition->clips, condition->latents));
    if (info->image_width == 0) return OK;
    return write_digests(file, IMAGE_SHA256, condition->clips, condition->image);
}

Status shard_create_condition(H5File *file, const DatasetBucket *bucket, H5Array **out)
{
    char path[SHARD_PATH_BYTES];
    int64_t chunk[3];
    const H5Shape shape = { H5_TYPE_U16, 3, { 0, bucket->tokens, bucket->patch } };
    condition_path(bucket, path);
    shard_latents_chunk(bucket, chunk);
    return h5_array_create(file, path, &shape, chunk, out);
}

Status shard_create_image(H5File *file, const DatasetInfo *info, H5Array **out)
{
    /* read whole, clip by clip; chunked as latents are */
    const DatasetBucket rows = { .tokens = info->image_rows, .patch = info->image_width };
    int64_t chunk[3];
    const H5Shape shape = { H5_TYPE_U16, 3, { 0, info->image_rows, info->image_width } };
    shard_latents_chunk(&rows, chunk);
    return h5_array_create(file, IMAGE, &shape, chunk, out);
}

/* ---- reading -------------------------------------------------------------------------------- */

static Status read_digests(H5File *file, const char *path, int64_t clips,
                           uint8_t (*digests)[DIGEST_BYTES])
{
    H5Array *array = NULL;
    const H5Shape shape = { H5_TYPE_U8, 2, { clips, DIGEST_BYTES } };
    TRY(h5_array_open(file, path, &shape, &array));
    const Status s = h5_array_read(array, 0, clips, digests);
    h5_array_close(array);
    return s;
}

Status shard_open_condition(H5File *file, const DatasetBucket *bucket, H5Array **out)
{
    char path[SHARD_PATH_BYTES];
    const H5Shape shape = { H5_TYPE_U16, 3, { bucket->clips, bucket->tokens, bucket->patch } };
    condition_path(bucket, path);
    return h5_array_open(file, path, &shape, out);
}

Status shard_open_image(H5File *file, const DatasetInfo *info, int64_t clips, H5Array **out)
{
    const H5Shape shape = { H5_TYPE_U16, 3, { clips, info->image_rows, info->image_width } };
    return h5_array_open(file, IMAGE, &shape, out);
}

/* The arrays are there, in their shapes. */
static Status check_arrays(H5File *file, const DatasetInfo *info, const Shard *shard)
{
    H5Array *array = NULL;
    for (int64_t i = 0; i < shard->bucket_count; i++) {
        TRY(shard_open_condition(file, &shard->buckets[i], &array));
        h5_array_close(array);
    }
    if (info->image_width == 0) return OK;
    TRY(shard_open_image(file, info, shard->clips, &array));
    h5_array_close(array);
    return OK;
}

/* The clips are there already, so a table of as many is no surprise. */
Status shard_condition_read(H5File *file, const DatasetInfo *info, Shard *shard)
{
    ShardCondition *condition = &shard->condition;
    const int64_t clips = shard->clips;
    if (info->condition == CONDITION_NONE) return OK;
    condition->latents = calloc((size_t)clips, DIGEST_BYTES);
    condition->image = calloc((size_t)clips, DIGEST_BYTES);
    CHECK(condition->latents != NULL && condition->image != NULL, ERR_MEMORY,
          "%s: no memory for the conditions of %lld clips", h5_path(file), (long long)clips);
    condition->clips = condition->reserved = clips;
    TRY(read_digests(file, SHA256, clips, condition->latents));
    if (info->image_width > 0) TRY(read_digests(file, IMAGE_SHA256, clips, condition->image));
    return check_arrays(file, info, shard);
}

/* ---- both ----------------------------------------------------------------------------------- */

void shard_condition_digest(const ShardCondition *condition, DigestStream *stream)
{
    if (condition->clips == 0) return;
    digest_stream_update(stream, condition->latents, (size_t)condition->clips * DIGEST_BYTES);
    digest_stream_update(stream, condition->image, (size_t)condition->clips * DIGEST_BYTES);
}

void shard_condition_clear(ShardCondition *condition)
{
    condition->clips = 0;
}

void shard_condition_destroy(ShardCondition *condition)
{
    free(condition->latents);
    free(condition->image);
    *condition = (ShardCondition){ 0 };
}
