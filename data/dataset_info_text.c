/* What a shard says of its captions' embeddings: encoder, sizes, the empty caption's rows. */
#include "core/base/bf16.h"
#include "data/dataset_info.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 4096, MAX_WIDTH = 16384 };

static Status check(const DatasetInfo *info, const char *where)
{
    Digest digest;
    char shape[96];
    CHECK(info->text_rows >= 1 && info->text_rows <= MAX_ROWS && info->text_width >= 1 &&
              info->text_width <= MAX_WIDTH,
          ERR_FORMAT, "%s: embeddings of up to %lld rows of %lld values, not 1 .. %d of 1 .. %d",
          where, (long long)info->text_rows, (long long)info->text_width, MAX_ROWS, MAX_WIDTH);
    CHECK(info->text_encoder[0] != 0 && strlen(info->text_encoder) <= H5_MAX_TEXT, ERR_FORMAT,
          "%s: the text encoder has no name", where);
    CHECK(digest_parse(info->text_digest, &digest) == OK, ERR_FORMAT,
          "%s: text_digest is not 64 hexadecimal digits", where);
    CHECK(info->text_null.dtype == BF16 && info->text_null.ndim == 2 &&
              info->text_null.shape[0] >= 1 && info->text_null.shape[0] <= info->text_rows &&
              info->text_null.shape[1] == info->text_width,
          ERR_FORMAT, "%s: the empty caption's embedding is %s, not up to %lld rows of %lld BF16",
          where, tensor_describe(info->text_null, shape), (long long)info->text_rows,
          (long long)info->text_width);
    return OK;
}

static Status check_finite(const InfoStore *store, const char *where)
{
    const int64_t count = tensor_count(store->view.text_null);
    for (int64_t i = 0; i < count; i++)
        CHECK(isfinite(float_of_bf16(store->text_null[i])), ERR_FORMAT,
              "%s: the empty caption's embedding holds a value that is not finite", where);
    return OK;
}

/* Room for `rows` rows of the empty caption. */
static Status reserve(InfoStore *store, int64_t rows, int64_t width)
{
    store->text_null = calloc((size_t)(rows * width), sizeof(*store->text_null));
    CHECK(store->text_null != NULL, ERR_MEMORY, "dataset: no memory for an embedding of %lld rows",
          (long long)rows);
    store->view.text_null = tensor_of(store->text_null, BF16, SHAPE(rows, width));
    return OK;
}

Status info_text_copy(const DatasetInfo *info, const char *where, InfoStore *store)
{
    if (info->text_width == 0) return OK;
    TRY(check(info, where));
    strcpy(store->text_encoder, info->text_encoder);
    strcpy(store->text_digest, info->text_digest);
    store->view.text_rows = info->text_rows;
    store->view.text_width = info->text_width;
    TRY(reserve(store, info->text_null.shape[0], info->text_width));
    memcpy(store->text_null, info->text_null.data, tensor_bytes(info->text_null));
    return check_finite(store, where);
}

Status info_text_write(const InfoStore *store, H5File *file)
{
    const DatasetInfo *info = &store->view;
    /* version 3 has embeddings or not: its width tells */
    if (info->text_width == 0)
        return info->condition == CONDITION_NONE ? OK : h5_write_i64(file, "text_width", 0);
    H5Array *array = NULL;
    const int64_t rows = info->text_null.shape[0];
    const H5Shape shape = { H5_TYPE_U16, 2, { 0, info->text_width } };
    const int64_t chunk[] = { rows, info->text_width };
    TRY(h5_write_text(file, "text_encoder", info->text_encoder));
    TRY(h5_write_text(file, "text_digest", info->text_digest));
    TRY(h5_write_i64(file, "text_rows", info->text_rows));
    TRY(h5_write_i64(file, "text_width", info->text_width));
    TRY(h5_array_create(file, "/text/null", &shape, chunk, &array));
    const Status s = h5_array_append(array, rows, store->text_null);
    h5_array_close(array);
    return s;
}

static Status read_null(H5File *file, InfoStore *store)
{
    H5Array *array = NULL;
    const DatasetInfo *info = &store->view;
    const H5Shape any = { H5_TYPE_U16, 2, { -1, info->text_width } };
    TRY(h5_array_open(file, "/text/null", &any, &array));
    const int64_t rows = h5_array_shape(array)->dims[0];
    Status s = OK;
    if (rows < 1 || rows > info->text_rows)
        s = status_fail(ERR_FORMAT, "%s: /text/null has %lld rows, not 1 .. %lld", h5_path(file),
                        (long long)rows, (long long)info->text_rows);
    if (s == OK) s = reserve(store, rows, info->text_width);
    if (s == OK) s = h5_array_read(array, 0, rows, store->text_null);
    h5_array_close(array);
    return s;
}

Status info_text_read(H5File *file, InfoStore *store)
{
    DatasetInfo *info = &store->view;
    int64_t version;
    TRY(h5_read_i64(file, "version", &version));
    if (version == DATASET_VERSION) return OK;
    TRY(h5_read_i64(file, "text_width", &info->text_width));
    if (version == DATASET_VERSION_CONDITION && info->text_width == 0) return OK;
    TRY(h5_read_text(file, "text_encoder", store->text_encoder));
    TRY(h5_read_text(file, "text_digest", store->text_digest));
    TRY(h5_read_i64(file, "text_rows", &info->text_rows));
    CHECK(info->text_rows >= 1 && info->text_rows <= MAX_ROWS && info->text_width >= 1 &&
              info->text_width <= MAX_WIDTH,
          ERR_FORMAT, "%s: embeddings of up to %lld rows of %lld values", h5_path(file),
          (long long)info->text_rows, (long long)info->text_width);
    TRY(read_null(file, store));
    TRY(check(info, h5_path(file)));
    return check_finite(store, h5_path(file));
}

bool info_text_equal(const InfoStore *a, const InfoStore *b)
{
    const DatasetInfo *x = &a->view, *y = &b->view;
    if (x->text_width != y->text_width || x->text_rows != y->text_rows) return false;
    if (x->text_width == 0) return true;
    const size_t bytes = tensor_bytes(x->text_null);
    return strcmp(a->text_encoder, b->text_encoder) == 0 &&
           strcmp(a->text_digest, b->text_digest) == 0 && bytes == tensor_bytes(y->text_null) &&
           memcmp(a->text_null, b->text_null, bytes) == 0;
}

void info_text_digest(const InfoStore *store, DigestStream *stream)
{
    const DatasetInfo *info = &store->view;
    if (info->text_width == 0) return;
    const int64_t sizes[] = { info->text_rows, info->text_width };
    digest_stream_update(stream, store->text_encoder, strlen(store->text_encoder) + 1);
    digest_stream_update(stream, store->text_digest, strlen(store->text_digest) + 1);
    digest_stream_update(stream, sizes, sizeof(sizes));
    digest_stream_update(stream, store->text_null, tensor_bytes(info->text_null));
}
