#include "core/base/json_writer.h"
#include "data/shard.h"
#include "data/shard_columns.h"
#include "data/shard_condition.h"
#include "data/shard_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Bounds on what a shard may hold; products of them stay far inside 63 bits. */
static const int64_t MAX_CLIPS = 100 * 1000 * 1000;
static const int64_t MAX_CAPTIONS = 1000 * 1000 * 1000;
static const int64_t MAX_TEXT = (int64_t)1 << 36;

/* ---- reading the arrays --------------------------------------------------------------------- */

static Status read_columns(H5File *file, Shard *shard)
{
    char *values = malloc((size_t)shard->clips * sizeof(ShardRow));
    CHECK(values != NULL, ERR_MEMORY, "%s: no memory for an index of %lld clips", h5_path(file),
          (long long)shard->clips);
    Status s = OK;
    for (int i = 0; s == OK && i < SHARD_COLUMNS; i++) {
        const ShardColumn *column = &shard_columns[i];
        const size_t bytes = shard_column_bytes(column);
        const H5Shape shape = { column->type,
                                shard_column_ndim(column),
                                { shard->clips, column->width } };
        H5Array *array = NULL;
        s = h5_array_open(file, column->path, &shape, &array);
        if (s == OK) s = h5_array_read(array, 0, shard->clips, values);
        h5_array_close(array);
        for (int64_t clip = 0; s == OK && clip < shard->clips; clip++) {
            memcpy((char *)&shard->rows[clip] + column->offset, values + (size_t)clip * bytes,
                   bytes);
        }
    }
    free(values);
    return s;
}

/* A whole one-dimensional array, malloc'ed; at least `least` and at most `most` entries. */
static Status read_line(H5File *file, const char *path, H5Type type, int64_t least, int64_t most,
                        void **out, int64_t *count)
{
    H5Array *array = NULL;
    Status s = OK;
    void *values = NULL;
    const H5Shape any = { type, 1, { -1 } };
    TRY(h5_array_open(file, path, &any, &array));
    *count = h5_array_shape(array)->dims[0];
    CHECK_TO(done, s, *count >= least && *count <= most, ERR_FORMAT,
             "%s: %s has %lld entries, not %lld .. %lld", h5_path(file), path, (long long)*count,
             (long long)least, (long long)most);
    values = malloc((size_t)*count * h5_type_bytes(type));
    CHECK_TO(done, s, values != NULL, ERR_MEMORY, "%s: no memory for %lld entries of %s",
             h5_path(file), (long long)*count, path);
    TRY_TO(done, s, h5_array_read(array, 0, *count, values));
    *out = values;
    values = NULL;
done:
    free(values);
    h5_array_close(array);
    return s;
}

/* Strings must lie one after the other and fill the bytes; each is UTF-8 without 0. */
static Status cut_strings(H5File *file, const char *path, const char *bytes, int64_t total,
                          const int64_t *offsets, int64_t count, StringList *out)
{
    CHECK(offsets[0] == 0 && offsets[count] == total, ERR_FORMAT,
          "%s: %s run from %lld to %lld over %lld bytes", h5_path(file), path,
          (long long)offsets[0], (long long)offsets[count], (long long)total);
    TRY(string_list_reserve(out, count, total, path));
    for (int64_t i = 0; i < count; i++) {
        const int64_t from = offsets[i], to = offsets[i + 1];
        CHECK(from >= 0 && from <= to && to <= total, ERR_FORMAT,
              "%s: %s[%lld] and the next are %lld and %lld", h5_path(file), path, (long long)i,
              (long long)from, (long long)to);
        const size_t length = (size_t)(to - from);
        CHECK(memchr(bytes + from, 0, length) == NULL && json_utf8_valid(bytes + from, length),
              ERR_FORMAT, "%s: the text at %s[%lld] is not UTF-8 without 0", h5_path(file), path,
              (long long)i);
        TRY(string_list_add(out, bytes + from, to - from, path));
    }
    return OK;
}

static Status read_strings(H5File *file, const char *bytes_path, const char *offsets_path,
                           int64_t most, StringList *out)
{
    void *bytes = NULL, *offsets = NULL;
    int64_t total, count;
    Status s = OK;
    TRY_TO(done, s, read_line(file, offsets_path, H5_TYPE_I64, 2, most + 1, &offsets, &count));
    TRY_TO(done, s, read_line(file, bytes_path, H5_TYPE_U8, 1, MAX_TEXT, &bytes, &total));
    s = cut_strings(file, offsets_path, bytes, total, offsets, count - 1, out);
done:
    free(bytes);
    free(offsets);
    return s;
}

static Status read_buckets(H5File *file, const DatasetInfo *info, Shard *shard)
{
    int64_t shapes[SHARD_MAX_BUCKETS][SHARD_BUCKET_COLUMNS];
    const H5Shape shape = { H5_TYPE_I64, 2, { -1, SHARD_BUCKET_COLUMNS } };
    H5Array *array = NULL;
    TRY(h5_array_open(file, SHARD_BUCKET_SHAPE, &shape, &array));
    const int64_t count = h5_array_shape(array)->dims[0];
    const Status s = count > SHARD_MAX_BUCKETS
                         ? status_fail(ERR_FORMAT, "%s: %lld latent sizes, at most %d",
                                       h5_path(file), (long long)count, SHARD_MAX_BUCKETS)
                         : h5_array_read(array, 0, count, shapes);
    h5_array_close(array);
    TRY(s);
    for (int64_t i = 0; i < count; i++) {
        const int64_t *v = shapes[i];
        const DatasetBucket bucket = {
            .t = v[0], .h = v[1], .w = v[2], .tokens = v[3], .patch = v[4]
        };
        int64_t number;
        TRY(shard_check_bucket(&bucket, info, h5_path(file)));
        TRY(shard_find_bucket(shard, &bucket, &number));
        CHECK(number == i, ERR_FORMAT, "%s: the latent size %lld x %lld x %lld is there twice",
              h5_path(file), (long long)v[0], (long long)v[1], (long long)v[2]);
    }
    return OK;
}

/* ---- checking what was read ----------------------------------------------------------------- */

/* Clip `clip`, given those before it; counts the buckets' clips. */
static Status check_row(H5File *file, Shard *shard, int64_t clip, int64_t *caption)
{
    const ShardRow *r = &shard->rows[clip];
    CHECK(r->bucket >= 0 && r->bucket < shard->bucket_count, ERR_FORMAT,
          "%s: clip %lld is in bucket %lld of %lld", h5_path(file), (long long)clip,
          (long long)r->bucket, (long long)shard->bucket_count);
    const int64_t row = shard->buckets[r->bucket].clips++;
    CHECK(r->row == row, ERR_FORMAT, "%s: clip %lld is in row %lld of its bucket, expected %lld",
          h5_path(file), (long long)clip, (long long)r->row, (long long)row);
    CHECK(r->caption_first == *caption && r->caption_count >= 1 &&
              r->caption_count <= shard->captions.count - *caption,
          ERR_FORMAT,
          "%s: clip %lld has captions %lld and %lld more, expected them from %lld of %lld",
          h5_path(file), (long long)clip, (long long)r->caption_first, (long long)r->caption_count,
          (long long)*caption, (long long)shard->captions.count);
    *caption += r->caption_count;
    CHECK(r->frames >= 1 && isfinite(r->fps) && r->fps > 0 && isfinite(r->start_s), ERR_FORMAT,
          "%s: clip %lld has %lld frames at %g per second from %g s", h5_path(file),
          (long long)clip, (long long)r->frames, r->fps, r->start_s);
    return OK;
}

static Status check_rows(H5File *file, Shard *shard)
{
    int64_t caption = 0;
    CHECK(shard->sources.count == shard->clips, ERR_FORMAT, "%s: %lld sources for %lld clips",
          h5_path(file), (long long)shard->sources.count, (long long)shard->clips);
    for (int64_t clip = 0; clip < shard->clips; clip++) {
        TRY(check_row(file, shard, clip, &caption));
    }
    CHECK(caption == shard->captions.count, ERR_FORMAT, "%s: %lld captions, its clips have %lld",
          h5_path(file), (long long)shard->captions.count, (long long)caption);
    return OK;
}

/* ---- public --------------------------------------------------------------------------------- */

Status shard_open_latents(H5File *file, const DatasetBucket *bucket, H5Array **out)
{
    char path[SHARD_PATH_BYTES];
    const H5Shape shape = { H5_TYPE_U16, 3, { bucket->clips, bucket->tokens, bucket->patch } };
    shard_latents_path(bucket, path);
    return h5_array_open(file, path, &shape, out);
}

/* Nothing is known of a file before its format and version are. */
static Status read_head(H5File *file, int64_t *clips)
{
    char format[H5_MAX_TEXT + 1];
    int64_t version;
    TRY(h5_read_text(file, "format", format));
    CHECK(strcmp(format, SHARD_FORMAT) == 0, ERR_FORMAT, "%s: is not a " SHARD_FORMAT,
          h5_path(file));
    TRY(h5_read_i64(file, "version", &version));
    CHECK(version >= DATASET_VERSION && version <= DATASET_VERSION_CONDITION, ERR_FORMAT,
          "%s: dataset of version %lld, this zoetrope reads %d to %d", h5_path(file),
          (long long)version, DATASET_VERSION, DATASET_VERSION_CONDITION);
    TRY(h5_read_i64(file, "clips", clips));
    CHECK(*clips >= 1 && *clips <= MAX_CLIPS, ERR_FORMAT, "%s: %lld clips, not 1 .. %lld",
          h5_path(file), (long long)*clips, (long long)MAX_CLIPS);
    return OK;
}

/* The rows are the largest allocation: before it, one column must show that the clips are there. */
static Status alloc_rows(H5File *file, Shard *shard, int64_t clips)
{
    H5Array *array = NULL;
    const H5Shape shape = { H5_TYPE_U8, 2, { clips, DIGEST_BYTES } };
    TRY(h5_array_open(file, "/index/sha256", &shape, &array));
    h5_array_close(array);
    shard->rows = calloc((size_t)clips, sizeof(ShardRow));
    CHECK(shard->rows != NULL, ERR_MEMORY, "%s: no memory for an index of %lld clips",
          h5_path(file), (long long)clips);
    shard->clips = shard->reserved = clips;
    return OK;
}

static Status read_tables(H5File *file, const DatasetInfo *info, Shard *shard, int64_t clips)
{
    TRY(read_buckets(file, info, shard));
    TRY(alloc_rows(file, shard, clips));
    TRY(read_columns(file, shard));
    TRY(read_strings(file, SHARD_SOURCE_BYTES, SHARD_SOURCE_OFFSETS, MAX_CLIPS, &shard->sources));
    TRY(read_strings(file, SHARD_CAPTION_BYTES, SHARD_CAPTION_OFFSETS, MAX_CAPTIONS,
                     &shard->captions));
    TRY(shard_text_read(file, info, shard->captions.count, &shard->text));
    TRY(check_rows(file, shard));
    for (int64_t i = 0; i < shard->bucket_count; i++) {
        H5Array *latents = NULL;
        TRY(shard_open_latents(file, &shard->buckets[i], &latents));
        h5_array_close(latents);
    }
    return shard_condition_read(file, info, shard);
}

Status shard_read(H5File *file, Shard *shard, InfoStore **info)
{
    int64_t clips;
    InfoStore *store = NULL;
    TRY(read_head(file, &clips));
    TRY(info_store_read(file, &store));
    const Status s = read_tables(file, &store->view, shard, clips);
    if (s != OK) {
        info_store_destroy(store);
        return s;
    }
    *info = store;
    return OK;
}
