#include "data/dataset_info.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_CHANNELS = 4096,
    MAX_PATCH = 16,      /* latents along one side of a token */
    MAX_STRIDE = 64,     /* pixels along one side of a latent */
    MAX_BLOCK = 1 << 16, /* values of a pixel block */
};

/* The numbers of the geometry, each an attribute. */
static const struct {
    const char *name;
    size_t offset; /* of an int64_t in DatasetInfo */
    int64_t most;
} numbers[] = {
    { "channels", offsetof(DatasetInfo, channels), MAX_CHANNELS },
    { "patch_frames", offsetof(DatasetInfo, patch), MAX_PATCH },
    { "patch_rows", offsetof(DatasetInfo, patch) + 8, MAX_PATCH },
    { "patch_columns", offsetof(DatasetInfo, patch) + 16, MAX_PATCH },
    { "stride_frames", offsetof(DatasetInfo, stride), MAX_STRIDE },
    { "stride_rows", offsetof(DatasetInfo, stride) + 8, MAX_STRIDE },
    { "stride_columns", offsetof(DatasetInfo, stride) + 16, MAX_STRIDE },
};
enum { NUMBERS = sizeof(numbers) / sizeof(numbers[0]) };

static int64_t *number(DatasetInfo *info, int i)
{
    return (int64_t *)(void *)((char *)info + numbers[i].offset);
}

static int64_t number_of(const DatasetInfo *info, int i)
{
    int64_t value;
    memcpy(&value, (const char *)info + numbers[i].offset, sizeof(value));
    return value;
}

/* ---- checks --------------------------------------------------------------------------------- */

static Status check_finite(const char *where, const char *name, const float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        CHECK(isfinite(values[i]), ERR_FORMAT, "%s: codec %s[%lld] is %g", where, name,
              (long long)i, (double)values[i]);
    }
    return OK;
}

static Status check_codec(const DatasetInfo *info, const char *where)
{
    const Tensor parts[] = { info->basis, info->mean, info->scale };
    const char *const names[] = { "basis", "mean", "scale" };
    DigestStream *stream = NULL;
    for (int i = 0; i < 3; i++) {
        TRY(check_finite(where, names[i], tensor_f32(parts[i]), tensor_count(parts[i])));
    }
    TRY(digest_stream_create(&stream));
    for (int i = 0; i < 3; i++) {
        digest_stream_update(stream, parts[i].data, tensor_bytes(parts[i]));
    }
    Digest digest;
    char hex[DIGEST_HEX];
    digest_stream_finish(stream, &digest);
    digest_stream_destroy(stream);
    digest_hex(&digest, hex);
    CHECK(strcmp(hex, info->codec_digest) == 0, ERR_FORMAT,
          "%s: the codec's digest is %.12s..., its record says %.12s...: it was changed or damaged",
          where, hex, info->codec_digest);
    return OK;
}

static Status check_info(const DatasetInfo *info, const char *where)
{
    Digest digest;
    CHECK(info->codec[0] != '\0', ERR_FORMAT, "%s: the codec has no name", where);
    CHECK(digest_parse(info->codec_digest, &digest) == OK, ERR_FORMAT,
          "%s: codec_digest is not 64 hexadecimal digits", where);
    for (int i = 0; i < NUMBERS; i++) {
        const int64_t value = number_of(info, i);
        CHECK(value >= 1 && value <= numbers[i].most, ERR_FORMAT, "%s: %s is %lld, not 1 .. %lld",
              where, numbers[i].name, (long long)value, (long long)numbers[i].most);
    }
    CHECK(isfinite(info->fps) && info->fps > 0 && info->fps <= 1000, ERR_FORMAT,
          "%s: fps is %g, not above 0 and up to 1000", where, info->fps);
    return info->basis.data != NULL ? check_codec(info, where) : OK;
}

/* ---- memory --------------------------------------------------------------------------------- */

/* A store with room for a codec of `block` values; 0: none. */
static Status store_create(int64_t channels, int64_t block, InfoStore **out)
{
    InfoStore *store = calloc(1, sizeof(*store));
    CHECK(store != NULL, ERR_MEMORY, "dataset: no memory for its description");
    DatasetInfo *view = &store->view;
    *view = (DatasetInfo){ .codec = store->codec,
                           .codec_digest = store->codec_digest,
                           .basis = tensor_none(),
                           .mean = tensor_none(),
                           .scale = tensor_none(),
                           .text_encoder = store->text_encoder,
                           .text_digest = store->text_digest,
                           .text_null = tensor_none(),
                           .image_digest = store->image_digest,
                           .channels = channels };
    if (block > 0) {
        store->basis = calloc((size_t)(channels * block), sizeof(float));
        store->mean = calloc((size_t)block, sizeof(float));
        store->scale = calloc((size_t)channels, sizeof(float));
        if (store->basis == NULL || store->mean == NULL || store->scale == NULL) {
            info_store_destroy(store);
            return status_fail(ERR_MEMORY, "dataset: no memory for a codec of %lld x %lld values",
                               (long long)channels, (long long)block);
        }
        view->basis = tensor_of(store->basis, F32, SHAPE(channels, block));
        view->mean = tensor_of(store->mean, F32, SHAPE(block));
        view->scale = tensor_of(store->scale, F32, SHAPE(channels));
    }
    *out = store;
    return OK;
}

void info_store_destroy(InfoStore *store)
{
    if (store == NULL) return;
    free(store->basis);
    free(store->mean);
    free(store->scale);
    free(store->text_null);
    free(store);
}

static Status check_shapes(const DatasetInfo *info, const char *where, int64_t *block)
{
    *block = 0;
    CHECK(info->channels >= 1 && info->channels <= MAX_CHANNELS, ERR_FORMAT,
          "%s: channels is %lld, not 1 .. %d", where, (long long)info->channels, MAX_CHANNELS);
    CHECK(strlen(info->codec) <= H5_MAX_TEXT && strlen(info->codec_digest) <= H5_MAX_TEXT,
          ERR_FORMAT, "%s: the codec's name or digest is longer than %d bytes", where, H5_MAX_TEXT);
    if (info->basis.data == NULL) return OK;
    char basis[96], mean[96], scale[96];
    *block = tensor_width(info->basis);
    CHECK(info->basis.ndim == 2 && info->basis.shape[0] == info->channels && *block <= MAX_BLOCK &&
              tensor_count(info->mean) == *block && tensor_count(info->scale) == info->channels,
          ERR_FORMAT, "%s: codec of %lld channels has basis %s, mean %s, scale %s", where,
          (long long)info->channels, tensor_describe(info->basis, basis),
          tensor_describe(info->mean, mean), tensor_describe(info->scale, scale));
    return OK;
}

Status info_store_copy(const DatasetInfo *info, const char *where, InfoStore **out)
{
    int64_t block;
    InfoStore *store = NULL;
    TRY(check_shapes(info, where, &block));
    TRY(store_create(info->channels, block, &store));
    strcpy(store->codec, info->codec);
    strcpy(store->codec_digest, info->codec_digest);
    for (int i = 0; i < NUMBERS; i++) *number(&store->view, i) = number_of(info, i);
    store->view.fps = info->fps;
    if (block > 0) {
        memcpy(store->basis, info->basis.data, tensor_bytes(info->basis));
        memcpy(store->mean, info->mean.data, tensor_bytes(info->mean));
        memcpy(store->scale, info->scale.data, tensor_bytes(info->scale));
    }
    Status s = check_info(&store->view, where);
    if (s == OK) s = info_text_copy(info, where, store);
    if (s == OK) s = info_condition_copy(info, where, store);
    if (s != OK) {
        info_store_destroy(store);
        return s;
    }
    *out = store;
    return OK;
}

/* ---- files ---------------------------------------------------------------------------------- */

static Status write_floats(H5File *file, const char *path, Tensor values)
{
    H5Array *array = NULL;
    const int64_t rows = values.shape[0], width = tensor_count(values) / rows;
    const H5Shape shape = { H5_TYPE_F32, values.ndim, { 0, width } };
    const int64_t most = (1 << 20) / width; /* 4 MiB a chunk */
    const int64_t chunk[] = { rows < most ? rows : most, width };
    TRY(h5_array_create(file, path, &shape, chunk, &array));
    const Status s = h5_array_append(array, rows, values.data);
    h5_array_close(array);
    return s;
}

Status info_store_write(const InfoStore *store, H5File *file)
{
    const DatasetInfo *info = &store->view;
    TRY(h5_write_text(file, "codec", info->codec));
    TRY(h5_write_text(file, "codec_digest", info->codec_digest));
    TRY(h5_write_f64(file, "fps", info->fps));
    for (int i = 0; i < NUMBERS; i++) {
        TRY(h5_write_i64(file, numbers[i].name, number_of(info, i)));
    }
    TRY(h5_write_i64(file, "codec_block", info->basis.data ? tensor_width(info->basis) : 0));
    TRY(info_text_write(store, file));
    TRY(info_condition_write(store, file));
    if (info->basis.data == NULL) return OK;
    TRY(write_floats(file, "/codec/basis", info->basis));
    TRY(write_floats(file, "/codec/mean", info->mean));
    return write_floats(file, "/codec/scale", info->scale);
}

static Status read_floats(H5File *file, const char *path, Tensor dst)
{
    H5Array *array = NULL;
    const H5Shape shape = { H5_TYPE_F32, dst.ndim, { dst.shape[0], dst.shape[1] } };
    TRY(h5_array_open(file, path, &shape, &array));
    const Status s = h5_array_read(array, 0, dst.shape[0], dst.data);
    h5_array_close(array);
    return s;
}

static Status read_into(H5File *file, InfoStore *store)
{
    DatasetInfo *info = &store->view;
    TRY(h5_read_text(file, "codec", store->codec));
    TRY(h5_read_text(file, "codec_digest", store->codec_digest));
    TRY(h5_read_f64(file, "fps", &info->fps));
    for (int i = 0; i < NUMBERS; i++) {
        TRY(h5_read_i64(file, numbers[i].name, number(info, i)));
    }
    if (info->basis.data != NULL) {
        TRY(read_floats(file, "/codec/basis", info->basis));
        TRY(read_floats(file, "/codec/mean", info->mean));
        TRY(read_floats(file, "/codec/scale", info->scale));
    }
    TRY(check_info(info, h5_path(file)));
    TRY(info_text_read(file, store));
    return info_condition_read(file, store);
}

Status info_store_read(H5File *file, InfoStore **out)
{
    InfoStore *store = NULL;
    int64_t channels, block;
    TRY(h5_read_i64(file, "channels", &channels));
    TRY(h5_read_i64(file, "codec_block", &block));
    CHECK(channels >= 1 && channels <= MAX_CHANNELS && block >= 0 && block <= MAX_BLOCK, ERR_FORMAT,
          "%s: a codec of %lld channels over blocks of %lld values", h5_path(file),
          (long long)channels, (long long)block);
    TRY(store_create(channels, block, &store));
    const Status s = read_into(file, store);
    if (s != OK) {
        info_store_destroy(store);
        return s;
    }
    *out = store;
    return OK;
}

/* ---- comparison ----------------------------------------------------------------------------- */

bool info_store_equal(const InfoStore *a, const InfoStore *b)
{
    /* the digest stands for the codec's tensors: it was checked against them */
    bool equal = strcmp(a->codec, b->codec) == 0 && strcmp(a->codec_digest, b->codec_digest) == 0 &&
                 a->view.fps == b->view.fps && (a->basis == NULL) == (b->basis == NULL);
    for (int i = 0; i < NUMBERS; i++) {
        equal = equal && number_of(&a->view, i) == number_of(&b->view, i);
    }
    return equal && info_text_equal(a, b) && info_condition_equal(a, b);
}

void info_store_digest(const InfoStore *store, DigestStream *stream)
{
    digest_stream_update(stream, store->codec, strlen(store->codec) + 1);
    digest_stream_update(stream, store->codec_digest, strlen(store->codec_digest) + 1);
    digest_stream_update(stream, &store->view.fps, sizeof(double));
    for (int i = 0; i < NUMBERS; i++) {
        const int64_t value = number_of(&store->view, i);
        digest_stream_update(stream, &value, sizeof(value));
    }
    info_text_digest(store, stream);
    info_condition_digest(store, stream);
}
