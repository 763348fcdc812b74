#include "data/shard.h"
#include "data/shard_columns.h"
#include "data/shard_condition.h"
#include "data/shard_text.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS_A_CHUNK = 8192, BYTES_A_CHUNK = 1 << 18 };

/* Writes a whole array at once. */
static Status write_array(H5File *file, const char *path, H5Type type, int ndim, int64_t rows,
                          int64_t width, int64_t chunk_rows, const void *data)
{
    H5Array *array = NULL;
    const H5Shape shape = { type, ndim, { 0, width } };
    const int64_t chunk[] = { rows < chunk_rows ? rows : chunk_rows, width };
    TRY(h5_array_create(file, path, &shape, chunk, &array));
    const Status s = h5_array_append(array, rows, data);
    h5_array_close(array);
    return s;
}

static Status write_columns(const Shard *shard, H5File *file)
{
    char *values = malloc((size_t)shard->clips * sizeof(ShardRow));
    CHECK(values != NULL, ERR_MEMORY, "%s: no memory for an index of %lld clips", h5_path(file),
          (long long)shard->clips);
    Status s = OK;
    for (int i = 0; s == OK && i < SHARD_COLUMNS; i++) {
        const ShardColumn *column = &shard_columns[i];
        const size_t bytes = shard_column_bytes(column);
        for (int64_t clip = 0; clip < shard->clips; clip++) {
            memcpy(values + (size_t)clip * bytes, (const char *)&shard->rows[clip] + column->offset,
                   bytes);
        }
        s = write_array(file, column->path, column->type, shard_column_ndim(column), shard->clips,
                        column->width, ROWS_A_CHUNK, values);
    }
    free(values);
    return s;
}

/* Takes the zeros out: string i starts i zeros later in memory than in the file. */
static Status write_strings(const StringList *list, H5File *file, const char *bytes_path,
                            const char *offsets_path)
{
    Status s = OK;
    const int64_t total = list->starts[list->count] - list->count;
    int64_t *offsets = malloc((size_t)(list->count + 1) * sizeof(*offsets));
    char *bytes = malloc((size_t)total);
    CHECK_TO(done, s, offsets != NULL && bytes != NULL, ERR_MEMORY,
             "%s: no memory for %lld bytes of %s", h5_path(file), (long long)total, bytes_path);
    for (int64_t i = 0; i <= list->count; i++) offsets[i] = list->starts[i] - i;
    for (int64_t i = 0; i < list->count; i++) {
        memcpy(bytes + offsets[i], string_list_at(list, i), (size_t)string_list_length(list, i));
    }
    TRY_TO(
        done, s,
        write_array(file, offsets_path, H5_TYPE_I64, 1, list->count + 1, 0, ROWS_A_CHUNK, offsets));
    s = write_array(file, bytes_path, H5_TYPE_U8, 1, total, 0, BYTES_A_CHUNK, bytes);
done:
    free(bytes);
    free(offsets);
    return s;
}

static Status write_buckets(const Shard *shard, H5File *file)
{
    int64_t shapes[SHARD_MAX_BUCKETS][SHARD_BUCKET_COLUMNS];
    for (int64_t i = 0; i < shard->bucket_count; i++) {
        const DatasetBucket *b = &shard->buckets[i];
        const int64_t shape[SHARD_BUCKET_COLUMNS] = { b->t, b->h, b->w, b->tokens, b->patch };
        memcpy(shapes[i], shape, sizeof(shape));
    }
    return write_array(file, SHARD_BUCKET_SHAPE, H5_TYPE_I64, 2, shard->bucket_count,
                       SHARD_BUCKET_COLUMNS, SHARD_MAX_BUCKETS, shapes);
}

Status shard_write(const Shard *shard, const InfoStore *info, H5File *file)
{
    TRY(h5_write_text(file, "format", SHARD_FORMAT));
    TRY(h5_write_i64(file, "version", dataset_version_of(&info->view)));
    TRY(h5_write_i64(file, "clips", shard->clips));
    TRY(info_store_write(info, file));
    TRY(write_buckets(shard, file));
    TRY(write_columns(shard, file));
    TRY(write_strings(&shard->sources, file, SHARD_SOURCE_BYTES, SHARD_SOURCE_OFFSETS));
    TRY(write_strings(&shard->captions, file, SHARD_CAPTION_BYTES, SHARD_CAPTION_OFFSETS));
    TRY(shard_text_write(&shard->text, file));
    return shard_condition_write(&shard->condition, &info->view, file);
}
