#include "data/dataset_writer.h"

#include "core/base/file.h"
#include "core/base/bf16.h"
#include "data/dataset_folder.h"
#include "data/clip_record.h"
#include "data/dataset_record.h"
#include "data/shard.h"
#include "data/shard_condition.h"
#include "data/shard_text.h"

#include <errno.h>
#include <stdbool.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int64_t SHARD_BYTES_DEFAULT = (int64_t)1 << 30;

/* What a clip is stored as. */
typedef struct Narrowed {
    uint16_t *bits; /* owned */
    int64_t reserved, count;
} Narrowed;

struct DatasetWriter {
    char dir[FILE_PATH_BYTES];
    int lock; /* the folder, open and locked: one writer at a time */
    InfoStore *info;
    int64_t shard_bytes;
    DatasetRecord record;                     /* shards closed so far */
    DatasetBucket buckets[SHARD_MAX_BUCKETS]; /* of all shards */
    int64_t bucket_count;
    /* the shard being written */
    Shard shard;
    H5File *file; /* NULL between shards */
    H5Array *latents[SHARD_MAX_BUCKETS];
    H5Array *text; /* NULL until the first embedding */
    H5Array *condition[SHARD_MAX_BUCKETS], *image;
    int64_t latent_bytes;
    Narrowed clip, condition_bits, image_bits; /* of the clip at hand */
    bool failed;                               /* the shard is not whole any more */
};

Status dataset_writer_create(const char *dir, const DatasetInfo *info, DatasetWriter **out)
{
    Status s = OK;
    CHECK(strlen(dir) < FILE_PATH_BYTES - SHARD_PATH_BYTES, ERR_USAGE, "%.64s...: path too long",
          dir);
    DatasetWriter *writer = calloc(1, sizeof(*writer));
    CHECK(writer != NULL, ERR_MEMORY, "%s: no memory for a writer", dir);
    strcpy(writer->dir, dir);
    writer->lock = -1;
    writer->shard_bytes = SHARD_BYTES_DEFAULT;
    TRY_TO(fail, s, info_store_copy(info, dir, &writer->info));
    TRY_TO(fail, s, file_make_folders(dir));
    TRY_TO(fail, s, dataset_folder_lock(dir, &writer->lock));
    TRY_TO(fail, s, dataset_folder_clear(dir));
    *out = writer;
    return OK;
fail:
    dataset_writer_destroy(writer);
    return s;
}

void dataset_writer_set_shard_bytes(DatasetWriter *writer, int64_t bytes)
{
    writer->shard_bytes = bytes;
}

/* ---- shards --------------------------------------------------------------------------------- */

static Status shard_paths(const DatasetWriter *writer, char path[FILE_PATH_BYTES],
                          char partial[FILE_PATH_BYTES])
{
    char name[SHARD_NAME_BYTES], partial_name[SHARD_NAME_BYTES + 16];
    shard_file_name(writer->record.shard_count, name);
    snprintf(partial_name, sizeof(partial_name), "%s.partial", name);
    TRY(file_join(path, writer->dir, name));
    return file_join(partial, writer->dir, partial_name);
}

static Status begin_shard(DatasetWriter *writer)
{
    char path[FILE_PATH_BYTES], partial[FILE_PATH_BYTES];
    TRY(shard_paths(writer, path, partial));
    shard_clear(&writer->shard);
    writer->latent_bytes = 0;
    return h5_create(partial, &writer->file);
}

static Status close_shard_file(DatasetWriter *writer)
{
    for (int64_t i = 0; i < SHARD_MAX_BUCKETS; i++) {
        h5_array_close(writer->latents[i]);
        h5_array_close(writer->condition[i]);
        writer->latents[i] = writer->condition[i] = NULL;
    }
    h5_array_close(writer->image);
    writer->image = NULL;
    h5_array_close(writer->text);
    writer->text = NULL;
    H5File *file = writer->file;
    writer->file = NULL;
    return h5_close(file);
}

static Status sync_file(const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, ERR_IO, "%s: %s", path, strerror(errno));
    const int failed = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    CHECK(failed == 0, ERR_IO, "%s: fsync: %s", path, strerror(failed));
    return OK;
}

/* Tables, close, fsync, rename: after this the shard is never written again. */
static Status finish_shard(DatasetWriter *writer)
{
    char path[FILE_PATH_BYTES], partial[FILE_PATH_BYTES];
    ShardEntry entry = { .clips = writer->shard.clips, .captions = writer->shard.captions.count };
    TRY(shard_paths(writer, path, partial));
    TRY(shard_digest(&writer->shard, writer->info, &entry.index));
    TRY(shard_write(&writer->shard, writer->info, writer->file));
    TRY(close_shard_file(writer));
    TRY(sync_file(partial));
    TRY(digest_file(partial, &entry.sha256, &entry.size_bytes));
    TRY(file_rename(partial, path));
    return dataset_record_add(&writer->record, &entry);
}

/* ---- clips ---------------------------------------------------------------------------------- */

/* What rounds to infinity is refused like what is infinite. */
static Status narrow(const DatasetWriter *writer, const char *source, const char *what,
                     Tensor given, Narrowed *out)
{
    const int64_t count = given.data != NULL ? tensor_count(given) : 0;
    const float *values = given.data;
    if (count > out->reserved) {
        uint16_t *bigger = reallocarray(out->bits, (size_t)count, sizeof(*bigger));
        CHECK(bigger != NULL, ERR_MEMORY, "%s: no memory for %lld %s values", writer->dir,
              (long long)count, what);
        out->bits = bigger;
        out->reserved = count;
    }
    for (int64_t i = 0; i < count; i++) {
        const bool finite = isfinite(values[i]);
        out->bits[i] = finite ? bf16_of_float(values[i]) : 0;
        CHECK(finite && isfinite(float_of_bf16(out->bits[i])), ERR_FORMAT,
              "%s: %s value %lld of a clip of %s is %g", writer->dir, what, (long long)i, source,
              (double)values[i]);
    }
    out->count = count;
    return OK;
}

static Status narrow_clip(DatasetWriter *writer, const ClipRecord *clip)
{
    TRY(narrow(writer, clip->source, "latent", clip->latents, &writer->clip));
    TRY(narrow(writer, clip->source, "condition", clip->condition, &writer->condition_bits));
    return narrow(writer, clip->source, "image token", clip->image, &writer->image_bits);
}

static Status digest_narrowed(const Narrowed *narrowed, Digest *out)
{
    return digest_bytes(narrowed->bits, (size_t)narrowed->count * sizeof(*narrowed->bits), out);
}

static Status append_latents(DatasetWriter *writer, int64_t bucket)
{
    const DatasetBucket *b = &writer->shard.buckets[bucket];
    if (writer->latents[bucket] == NULL) {
        char path[SHARD_PATH_BYTES];
        int64_t chunk[3];
        const H5Shape shape = { H5_TYPE_U16, 3, { 0, b->tokens, b->patch } };
        shard_latents_path(b, path);
        shard_latents_chunk(b, chunk);
        TRY(h5_array_create(writer->file, path, &shape, chunk, &writer->latents[bucket]));
    }
    return h5_array_append(writer->latents[bucket], 1, writer->clip.bits);
}

/* The clip's condition, and its image tokens where there are some. */
static Status append_condition(DatasetWriter *writer, int64_t bucket)
{
    const DatasetInfo *info = &writer->info->view;
    const bool image = info->image_width > 0;
    H5Array **array = &writer->condition[bucket];
    Digest latents, tokens;
    if (info->condition == CONDITION_NONE) return OK;
    if (*array == NULL)
        TRY(shard_create_condition(writer->file, &writer->shard.buckets[bucket], array));
    TRY(h5_array_append(*array, 1, writer->condition_bits.bits));
    TRY(digest_narrowed(&writer->condition_bits, &latents));
    if (image && writer->image == NULL) TRY(shard_create_image(writer->file, info, &writer->image));
    if (image) {
        TRY(h5_array_append(writer->image, 1, writer->image_bits.bits));
        TRY(digest_narrowed(&writer->image_bits, &tokens));
    }
    return shard_condition_add(&writer->shard.condition, &latents, image ? &tokens : NULL);
}

/* The clip before, in the same shard, has the same captions: most clips of a video do. */
static bool repeats_captions(const Shard *shard, const ClipRecord *clip)
{
    if (shard->clips == 0) return false;
    const ShardRow *before = &shard->rows[shard->clips - 1];
    if (before->caption_count != clip->caption_count) return false;
    for (int64_t i = 0; i < clip->caption_count; i++)
        if (strcmp(string_list_at(&shard->captions, before->caption_first + i),
                   clip->captions[i]) != 0)
            return false;
    return true;
}

/* Before the clip itself is added to the shard. */
static Status append_text(DatasetWriter *writer, const ClipRecord *clip)
{
    Shard *shard = &writer->shard;
    if (clip->text == NULL) return OK;
    if (writer->text == NULL)
        TRY(shard_text_create(writer->file, writer->info->view.text_width, &writer->text));
    const bool repeated = repeats_captions(shard, clip);
    const int64_t before = repeated ? shard->rows[shard->clips - 1].caption_first : 0;
    for (int64_t i = 0; i < clip->caption_count; i++) {
        TRY(repeated ? shard_text_repeat(&shard->text, before + i)
                     : shard_text_append(&shard->text, writer->text, clip->text[i]));
    }
    return OK;
}

/* Counts the clip in the totals that dataset.json shows. */
static Status count_bucket(DatasetWriter *writer, const DatasetBucket *size)
{
    for (int64_t i = 0; i < writer->bucket_count; i++) {
        DatasetBucket *b = &writer->buckets[i];
        if (b->t == size->t && b->h == size->h && b->w == size->w) {
            b->clips++;
            return OK;
        }
    }
    CHECK(writer->bucket_count < SHARD_MAX_BUCKETS, ERR_FORMAT, "%s: more than %d latent sizes",
          writer->dir, SHARD_MAX_BUCKETS);
    writer->buckets[writer->bucket_count] = *size;
    writer->buckets[writer->bucket_count++].clips = 1;
    return OK;
}

static Status write_clip(DatasetWriter *writer, const ClipRecord *clip, const DatasetBucket *bucket)
{
    ShardRow row = { .frames = clip->frames,
                     .fps = clip->fps,
                     .start_s = clip->start_s,
                     .caption_count = clip->caption_count };
    Digest digest;
    memcpy(row.crop, clip->crop, sizeof(row.crop));
    TRY(digest_narrowed(&writer->clip, &digest));
    memcpy(row.sha256, digest.bytes, sizeof(row.sha256));
    if (writer->file == NULL) TRY(begin_shard(writer));
    TRY(shard_find_bucket(&writer->shard, bucket, &row.bucket));
    TRY(append_latents(writer, row.bucket));
    TRY(append_text(writer, clip));
    TRY(append_condition(writer, row.bucket));
    TRY(shard_add(&writer->shard, &row, clip->source, clip->captions));
    writer->latent_bytes +=
        (writer->clip.count + writer->condition_bits.count) * (int64_t)sizeof(*writer->clip.bits);
    return writer->latent_bytes >= writer->shard_bytes ? finish_shard(writer) : OK;
}

Status dataset_writer_add(DatasetWriter *writer, const ClipRecord *record)
{
    DatasetBucket bucket;
    CHECK(!writer->failed, ERR_IO, "%s: writing has failed before", writer->dir);
    TRY(clip_record_check(writer->dir, &writer->info->view, record, &bucket));
    TRY(narrow_clip(writer, record));
    TRY(count_bucket(writer, &bucket));
    const Status s = write_clip(writer, record, &bucket);
    writer->failed = s != OK;
    return s;
}

Status dataset_writer_finish(DatasetWriter *writer)
{
    CHECK(!writer->failed, ERR_IO, "%s: writing has failed before", writer->dir);
    CHECK(writer->bucket_count > 0, ERR_FORMAT, "%s: no clip to write", writer->dir);
    writer->failed = true; /* nothing may be added, whatever the answer */
    if (writer->file != NULL) TRY(finish_shard(writer));
    return dataset_record_save(&writer->record, &writer->info->view, writer->buckets,
                               writer->bucket_count, writer->dir);
}

void dataset_writer_destroy(DatasetWriter *writer)
{
    if (writer == NULL) return;
    if (writer->file != NULL) close_shard_file(writer);
    if (writer->lock >= 0) {
        char path[FILE_PATH_BYTES], partial[FILE_PATH_BYTES];
        if (shard_paths(writer, path, partial) == OK) unlink(partial);
        close(writer->lock);
    }
    dataset_record_destroy(&writer->record);
    shard_destroy(&writer->shard);
    info_store_destroy(writer->info);
    free(writer->clip.bits);
    free(writer->condition_bits.bits);
    free(writer->image_bits.bits);
    free(writer);
}
