/*
 * The latents of a dataset, and those of its conditions: what is read again and again, by any
 * thread, whole or in part.
 *
 * A training run draws clips from all over the set, so shards stay open; but not all of them, as a
 * set can have more shards than a process may have files.
 */
#include "core/base/bf16.h"
#include "data/dataset_folder.h"
#include "data/dataset_parts.h"
#include "data/shard_condition.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPEN = 64 };

void open_shard_close(OpenShard *shard)
{
    for (int64_t i = 0; i < shard->tables.bucket_count; i++) {
        h5_array_close(shard->latents[i]);
        h5_array_close(shard->condition[i]);
        shard->latents[i] = shard->condition[i] = NULL;
    }
    h5_array_close(shard->image);
    shard->image = NULL;
    h5_array_close(shard->text);
    shard->text = NULL;
    h5_close(shard->file);
    shard->file = NULL;
}

/* Closes the shard that was used longest ago. */
static void close_oldest(Dataset *ds)
{
    OpenShard *oldest = NULL;
    for (int64_t i = 0; i < ds->record.shard_count; i++) {
        OpenShard *shard = &ds->shards[i];
        if (shard->file == NULL) continue;
        if (oldest == NULL || shard->last_use < oldest->last_use) oldest = shard;
    }
    if (oldest == NULL) return;
    open_shard_close(oldest);
    ds->open_files--;
}

Status dataset_shard_file(Dataset *ds, OpenShard *shard, H5File **out)
{
    shard->last_use = ++ds->uses;
    if (shard->file == NULL) {
        if (ds->open_files >= MOST_OPEN) close_oldest(ds);
        TRY(h5_open(shard->path, &shard->file));
        ds->open_files++;
    }
    *out = shard->file;
    return OK;
}

/* Which latents of a clip: its own, or its condition's. */
typedef enum LatentsOf { OF_CLIP, OF_CONDITION } LatentsOf;

static Status open_latents(Dataset *ds, OpenShard *shard, LatentsOf of, int64_t bucket,
                           H5Array **out)
{
    H5File *file;
    H5Array **array = of == OF_CLIP ? &shard->latents[bucket] : &shard->condition[bucket];
    const DatasetBucket *size = &shard->tables.buckets[bucket];
    TRY(dataset_shard_file(ds, shard, &file));
    if (*array == NULL)
        TRY(of == OF_CLIP ? shard_open_latents(file, size, array)
                          : shard_open_condition(file, size, array));
    *out = *array;
    return OK;
}

static Status read_bits(Dataset *ds, OpenShard *shard, LatentsOf of, const ShardRow *row,
                        TokenRange tokens, bool whole, uint16_t *bits)
{
    H5Array *latents = NULL;
    pthread_mutex_lock(&ds->lock);
    Status s = open_latents(ds, shard, of, row->bucket, &latents);
    if (s == OK) {
        s = whole ? h5_array_read(latents, row->row, 1, bits)
                  : h5_array_read_part(latents, row->row, tokens.first, tokens.count, bits);
    }
    pthread_mutex_unlock(&ds->lock);
    return s;
}

void dataset_clip_name(const Dataset *ds, int64_t clip, char out[DATASET_CLIP_NAME])
{
    const OpenShard *shard = dataset_shard_of(ds, clip);
    const int64_t index = clip - shard->first_clip;
    snprintf(out, DATASET_CLIP_NAME, "%s: clip %lld, from %s at %.2f s", shard->path,
             (long long)clip, string_list_at(&shard->tables.sources, index),
             shard->tables.rows[index].start_s);
}

/* Whatever is wrong with it, the clip is named: the remedy is to ingest its source again. */
Status dataset_clip_fail(Status status, const Dataset *ds, int64_t clip, const char *why)
{
    char reason[512], name[DATASET_CLIP_NAME];
    const char *shard = dataset_shard_of(ds, clip)->path;
    const size_t path = strlen(shard);
    if (strncmp(why, shard, path) == 0) why += path + 2; /* "PATH: " stands in front already */
    snprintf(reason, sizeof(reason), "%s", why);
    dataset_clip_name(ds, clip, name);
    return status_fail(status, "%s: %s", name, reason);
}

TokenRange dataset_clip_tokens(const Dataset *ds, int64_t clip)
{
    return (TokenRange){ 0, ds->buckets[dataset_clip(ds, clip).bucket].tokens };
}

static Status check_digest(const Dataset *ds, int64_t clip, LatentsOf of, const uint16_t *bits,
                           int64_t count)
{
    const OpenShard *shard = dataset_shard_of(ds, clip);
    const int64_t index = clip - shard->first_clip;
    const uint8_t *written =
        of == OF_CLIP ? shard->tables.rows[index].sha256 : shard->tables.condition.latents[index];
    Digest digest;
    TRY(digest_bytes(bits, (size_t)count * sizeof(*bits), &digest));
    if (memcmp(digest.bytes, written, DIGEST_BYTES) == 0) return OK;
    return dataset_clip_fail(ERR_FORMAT, ds, clip,
                             of == OF_CLIP
                                 ? "its latents are not those that were written"
                                 : "its condition's latents are not those that were written");
}

void dataset_widen(float *values, const uint16_t *bits, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bits + i, sizeof(half));
        const float value = float_of_bf16(half);
        memcpy(values + i, &value, sizeof(value));
    }
}

static Status read_latents(Dataset *ds, LatentsOf of, int64_t clip, TokenRange tokens, Tensor dst)
{
    CHECK(clip >= 0 && clip < ds->record.clips, ERR_USAGE, "%s: has %lld clips, no clip %lld",
          ds->dir, (long long)ds->record.clips, (long long)clip);
    OpenShard *shard = dataset_shard_of(ds, clip);
    const ShardRow *row = &shard->tables.rows[clip - shard->first_clip];
    const DatasetBucket *bucket = &shard->tables.buckets[row->bucket];
    CHECK(tokens.first >= 0 && tokens.count >= 0 && tokens.count <= bucket->tokens &&
              tokens.first <= bucket->tokens - tokens.count,
          ERR_USAGE, "%s: clip %lld has %lld tokens, not %lld from %lld on", ds->dir,
          (long long)clip, (long long)bucket->tokens, (long long)tokens.count,
          (long long)tokens.first);
    const int64_t count = tokens.count * bucket->patch;
    char shape[96];
    CHECK(dst.dtype == F32 && tensor_count(dst) == count, ERR_USAGE,
          "%s: latents of clip %lld are (%lld, %lld), to be read into %s", ds->dir, (long long)clip,
          (long long)tokens.count, (long long)bucket->patch, tensor_describe(dst, shape));
    if (count == 0) return OK;

    /* the bf16 bits are read into the second half of dst and widened from the front: value i ends
     * before bits i + 1 begin, so nothing is overwritten that is still to be read */
    uint16_t *bits = (uint16_t *)dst.data + count;
    const bool whole = tokens.count == bucket->tokens;
    const Status s = read_bits(ds, shard, of, row, tokens, whole, bits);
    if (s != OK) return dataset_clip_fail(s, ds, clip, status_message());
    if (whole) TRY(check_digest(ds, clip, of, bits, count));
    dataset_widen(tensor_f32(dst), bits, count);
    return OK;
}

Status dataset_read_latents(Dataset *ds, int64_t clip, TokenRange tokens, Tensor dst)
{
    return read_latents(ds, OF_CLIP, clip, tokens, dst);
}

Status dataset_read_condition(Dataset *ds, int64_t clip, TokenRange tokens, Tensor dst)
{
    CHECK(ds->info->view.condition != CONDITION_NONE, ERR_USAGE,
          "%s: has no conditions of its clips", ds->dir);
    return read_latents(ds, OF_CONDITION, clip, tokens, dst);
}

/* ---- verification --------------------------------------------------------------------------- */

static Status verify_clips(Dataset *ds, int rank, int size)
{
    int64_t most = 0;
    for (int64_t i = 0; i < ds->bucket_count; i++) {
        const int64_t count = ds->buckets[i].tokens * ds->buckets[i].patch;
        if (count > most) most = count;
    }
    float *values = malloc((size_t)most * sizeof(*values));
    CHECK(values != NULL, ERR_MEMORY, "%s: no memory for a clip of %lld values", ds->dir,
          (long long)most);
    Status s = OK;
    for (int64_t clip = rank; s == OK && clip < ds->record.clips; clip += size) {
        const DatasetBucket *b = &ds->buckets[dataset_clip(ds, clip).bucket];
        const TokenRange all = dataset_clip_tokens(ds, clip);
        const Tensor dst = tensor_of(values, F32, SHAPE(b->tokens, b->patch));
        s = dataset_read_latents(ds, clip, all, dst);
        if (s == OK) s = dataset_verify_text(ds, clip);
        if (s == OK && ds->info->view.condition != CONDITION_NONE)
            s = dataset_read_condition(ds, clip, all, dst);
        if (s == OK) s = dataset_verify_image(ds, clip);
    }
    free(values);
    return s;
}

Status dataset_verify(Dataset *ds)
{
    return dataset_verify_share(ds, 0, 1);
}

Status dataset_verify_share(Dataset *ds, int rank, int size)
{
    TRY(dataset_folder_check(ds->dir, ds->record.shard_count));
    /* clips first: what they say is more exact than what a whole file can say */
    TRY(verify_clips(ds, rank, size));
    for (int64_t i = rank; i < ds->record.shard_count; i += size) {
        Digest digest;
        TRY(digest_file(ds->shards[i].path, &digest, NULL));
        CHECK(memcmp(&digest, &ds->record.shards[i].sha256, sizeof(digest)) == 0, ERR_FORMAT,
              "%s: is not the file that was written (SHA-256), though its clips are",
              ds->shards[i].path);
    }
    return OK;
}
