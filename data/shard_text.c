#include "data/shard_text.h"

#include <stdlib.h>
#include <string.h>

#define ROWS "/text/rows"
#define RANGES "/text/ranges"
#define SHA256 "/text/sha256"

enum { CHUNK_BYTES = 1 << 19, RANGES_A_CHUNK = 8192 };
static const int64_t MAX_ROWS = (int64_t)1 << 40;

/* ---- writing -------------------------------------------------------------------------------- */

Status shard_text_create(H5File *file, int64_t width, H5Array **out)
{
    const H5Shape shape = { H5_TYPE_U16, 2, { 0, width } };
    const int64_t rows = CHUNK_BYTES / (2 * width);
    const int64_t chunk[] = { rows > 1 ? rows : 1, width };
    return h5_array_create(file, ROWS, &shape, chunk, out);
}

static Status reserve(ShardText *text)
{
    if (text->captions < text->reserved) return OK;
    const int64_t room = text->reserved < 64 ? 64 : text->reserved + text->reserved / 2;
    void *ranges = reallocarray(text->ranges, (size_t)room, sizeof(*text->ranges));
    if (ranges != NULL) text->ranges = ranges;
    void *sha256 = reallocarray(text->sha256, (size_t)room, sizeof(*text->sha256));
    if (sha256 != NULL) text->sha256 = sha256;
    CHECK(ranges != NULL && sha256 != NULL, ERR_MEMORY,
          "dataset: no memory for the embeddings of %lld captions", (long long)room);
    text->reserved = room;
    return OK;
}

Status shard_text_append(ShardText *text, H5Array *array, Tensor rows)
{
    Digest digest;
    TRY(reserve(text));
    TRY(digest_bytes(rows.data, tensor_bytes(rows), &digest));
    TRY(h5_array_append(array, rows.shape[0], rows.data));
    text->ranges[text->captions][0] = text->rows;
    text->ranges[text->captions][1] = rows.shape[0];
    memcpy(text->sha256[text->captions], digest.bytes, DIGEST_BYTES);
    text->captions++;
    text->rows += rows.shape[0];
    return OK;
}

Status shard_text_repeat(ShardText *text, int64_t caption)
{
    TRY(reserve(text));
    memcpy(text->ranges[text->captions], text->ranges[caption], sizeof(text->ranges[0]));
    memcpy(text->sha256[text->captions], text->sha256[caption], DIGEST_BYTES);
    text->captions++;
    return OK;
}

static Status write_table(H5File *file, const char *path, H5Type type, int64_t width, int64_t rows,
                          const void *data)
{
    H5Array *array = NULL;
    const H5Shape shape = { type, 2, { 0, width } };
    const int64_t chunk[] = { rows < RANGES_A_CHUNK ? rows : RANGES_A_CHUNK, width };
    TRY(h5_array_create(file, path, &shape, chunk, &array));
    const Status s = h5_array_append(array, rows, data);
    h5_array_close(array);
    return s;
}

Status shard_text_write(const ShardText *text, H5File *file)
{
    if (text->captions == 0) return OK;
    TRY(write_table(file, RANGES, H5_TYPE_I64, 2, text->captions, text->ranges));
    return write_table(file, SHA256, H5_TYPE_U8, DIGEST_BYTES, text->captions, text->sha256);
}

/* ---- reading -------------------------------------------------------------------------------- */

static Status read_table(H5File *file, const char *path, H5Type type, int64_t width, int64_t rows,
                         void *data)
{
    H5Array *array = NULL;
    const H5Shape shape = { type, 2, { rows, width } };
    TRY(h5_array_open(file, path, &shape, &array));
    const Status s = h5_array_read(array, 0, rows, data);
    h5_array_close(array);
    return s;
}

Status shard_text_open(H5File *file, const ShardText *text, int64_t width, H5Array **out)
{
    const H5Shape shape = { H5_TYPE_U16, 2, { text->rows > 0 ? text->rows : -1, width } };
    return h5_array_open(file, ROWS, &shape, out);
}

/* How many rows there are; the table says which of them are whose. */
static Status count_rows(H5File *file, int64_t width, ShardText *text)
{
    H5Array *array = NULL;
    TRY(shard_text_open(file, text, width, &array));
    text->rows = h5_array_shape(array)->dims[0];
    h5_array_close(array);
    CHECK(text->rows >= 1 && text->rows <= MAX_ROWS, ERR_FORMAT, "%s: " ROWS " has %lld rows",
          h5_path(file), (long long)text->rows);
    return OK;
}

static Status check_ranges(H5File *file, const DatasetInfo *info, const ShardText *text)
{
    for (int64_t i = 0; i < text->captions; i++) {
        const int64_t first = text->ranges[i][0], rows = text->ranges[i][1];
        CHECK(rows >= 1 && rows <= info->text_rows && first >= 0 && first <= text->rows - rows,
              ERR_FORMAT, "%s: caption %lld has %lld rows from %lld of %lld on; at most %lld",
              h5_path(file), (long long)i, (long long)rows, (long long)first, (long long)text->rows,
              (long long)info->text_rows);
    }
    return OK;
}

/* `captions` are there already, so a table of that many is no surprise. */
Status shard_text_read(H5File *file, const DatasetInfo *info, int64_t captions, ShardText *text)
{
    if (info->text_width == 0) return OK;
    text->ranges = calloc((size_t)captions, sizeof(*text->ranges));
    text->sha256 = calloc((size_t)captions, sizeof(*text->sha256));
    CHECK(text->ranges != NULL && text->sha256 != NULL, ERR_MEMORY,
          "%s: no memory for the embeddings of %lld captions", h5_path(file), (long long)captions);
    text->captions = text->reserved = captions;
    TRY(read_table(file, RANGES, H5_TYPE_I64, 2, captions, text->ranges));
    TRY(read_table(file, SHA256, H5_TYPE_U8, DIGEST_BYTES, captions, text->sha256));
    TRY(count_rows(file, info->text_width, text));
    return check_ranges(file, info, text);
}

/* ---- both ----------------------------------------------------------------------------------- */

void shard_text_digest(const ShardText *text, DigestStream *stream)
{
    if (text->captions == 0) return;
    digest_stream_update(stream, text->ranges, (size_t)text->captions * sizeof(*text->ranges));
    digest_stream_update(stream, text->sha256, (size_t)text->captions * sizeof(*text->sha256));
}

void shard_text_clear(ShardText *text)
{
    text->captions = text->rows = 0;
}

void shard_text_destroy(ShardText *text)
{
    free(text->ranges);
    free(text->sha256);
    *text = (ShardText){ 0 };
}
