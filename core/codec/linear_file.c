/*
 * linear_file: a linear codec as a folder of a model directory.
 *
 *   config.json                 format, version, channels, block, digest
 *   linear_codec.safetensors    basis (channels, 768), mean (768), scale (channels), F32
 */
#include "core/codec/linear_file.h"

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "core/formats/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1 };

static const char config_name[] = "config.json";
static const char weights_name[] = "linear_codec.safetensors";
static const char format_name[] = "zoetrope-linear-codec";

Status linear_codec_alloc(LinearCodec *codec, int64_t channels)
{
    *codec = (LinearCodec){ .channels = channels };
    codec->basis = calloc((size_t)(channels * LINEAR_BLOCK), sizeof(float));
    codec->mean = calloc(LINEAR_BLOCK, sizeof(float));
    codec->scale = calloc((size_t)channels, sizeof(float));
    if (codec->basis && codec->mean && codec->scale) return OK;
    linear_codec_destroy(codec);
    return status_fail(ERR_MEMORY, "linear codec: no memory for %lld channels",
                       (long long)channels);
}

void linear_codec_destroy(LinearCodec *codec)
{
    if (!codec) return;
    free(codec->basis);
    free(codec->mean);
    free(codec->scale);
    *codec = (LinearCodec){ 0 };
}

Tensor linear_codec_basis(const LinearCodec *codec)
{
    return tensor_of(codec->basis, F32, SHAPE(codec->channels, LINEAR_BLOCK));
}

Tensor linear_codec_mean(const LinearCodec *codec)
{
    return tensor_of(codec->mean, F32, SHAPE(LINEAR_BLOCK));
}

Tensor linear_codec_scale(const LinearCodec *codec)
{
    return tensor_of(codec->scale, F32, SHAPE(codec->channels));
}

Status linear_codec_digest(const LinearCodec *codec, char out[65])
{
    const Tensor parts[] = { linear_codec_basis(codec), linear_codec_mean(codec),
                             linear_codec_scale(codec) };
    DigestStream *stream;
    TRY(digest_stream_create(&stream));
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        digest_stream_update(stream, parts[i].data, tensor_bytes(parts[i]));
    }
    Digest digest;
    digest_stream_finish(stream, &digest);
    digest_stream_destroy(stream);
    digest_hex(&digest, out);
    return OK;
}

static Status check_values(Tensor t, bool positive, const char *name, const char *what)
{
    const float *values = tensor_f32(t);
    for (int64_t i = 0; i < tensor_count(t); i++) {
        CHECK(isfinite(values[i]) && (!positive || values[i] > 0), ERR_FORMAT,
              "%s: %s[%lld] of the linear codec is %g, want a %s number", what, name, (long long)i,
              (double)values[i], positive ? "positive" : "finite");
    }
    return OK;
}

/* The values are in place: are they a codec, and the one that was meant? */
static Status codec_check(LinearCodec *codec, const char *digest, const char *what)
{
    TRY(check_values(linear_codec_basis(codec), false, "basis", what));
    TRY(check_values(linear_codec_mean(codec), false, "mean", what));
    TRY(check_values(linear_codec_scale(codec), true, "scale", what));
    TRY(linear_codec_digest(codec, codec->digest));
    CHECK(!digest || strcmp(digest, codec->digest) == 0, ERR_FORMAT,
          "%s: the linear codec's digest is %.12s..., its record says %.12s...: it was changed or "
          "damaged",
          what, codec->digest, digest);
    return OK;
}

Status linear_codec_create(LinearCodec *out, Tensor basis, Tensor mean, Tensor scale,
                           const char *digest, const char *what)
{
    char text[3][96];
    const bool fits = basis.dtype == F32 && basis.ndim == 2 && basis.shape[0] >= 1 &&
                      basis.shape[0] <= LINEAR_BLOCK && basis.shape[1] == LINEAR_BLOCK &&
                      mean.dtype == F32 && mean.ndim == 1 && mean.shape[0] == LINEAR_BLOCK &&
                      scale.dtype == F32 && scale.ndim == 1 && scale.shape[0] == basis.shape[0];
    CHECK(fits && basis.data && mean.data && scale.data, ERR_FORMAT,
          "%s: linear codec has basis %s, mean %s, scale %s; want (channels, %d), (%d), (channels) "
          "F32",
          what, tensor_describe(basis, text[0]), tensor_describe(mean, text[1]),
          tensor_describe(scale, text[2]), LINEAR_BLOCK, LINEAR_BLOCK);
    LinearCodec codec;
    TRY(linear_codec_alloc(&codec, basis.shape[0]));
    memcpy(codec.basis, basis.data, tensor_bytes(basis));
    memcpy(codec.mean, mean.data, tensor_bytes(mean));
    memcpy(codec.scale, scale.data, tensor_bytes(scale));
    const Status s = codec_check(&codec, digest, what);
    if (s != OK) {
        linear_codec_destroy(&codec);
        return s;
    }
    *out = codec;
    return OK;
}

static Status write_weights(const LinearCodec *codec, const char *path)
{
    const SafetensorsSpec specs[] = {
        { "basis", F32, SHAPE(codec->channels, LINEAR_BLOCK) },
        { "mean", F32, SHAPE(LINEAR_BLOCK) },
        { "scale", F32, SHAPE(codec->channels) },
    };
    const Tensor tensors[] = { linear_codec_basis(codec), linear_codec_mean(codec),
                               linear_codec_scale(codec) };
    const char *metadata[] = { "format", format_name, NULL };
    SafetensorsWriter *writer;
    TRY(safetensors_create(path, specs, 3, metadata, &writer));
    for (int i = 0; i < 3; i++) {
        const Status s = safetensors_write(writer, tensors[i].data, tensor_bytes(tensors[i]));
        if (s != OK) {
            safetensors_abandon(writer);
            return s;
        }
    }
    return safetensors_finish(writer, NULL, NULL);
}

Status linear_codec_save(const LinearCodec *codec, const char *folder)
{
    char path[FILE_PATH_BYTES];
    TRY(file_make_folders(folder));
    TRY(file_join(path, folder, weights_name));
    TRY(write_weights(codec, path));

    TRY(file_join(path, folder, config_name));
    JsonWriter w = json_writer(2);
    json_begin_object(&w, NULL);
    json_write_string(&w, "format", format_name);
    json_write_int(&w, "version", VERSION);
    json_write_int(&w, "channels", codec->channels);
    json_begin_array(&w, "block");
    json_write_int(&w, NULL, LINEAR_FRAMES);
    json_write_int(&w, NULL, LINEAR_SIDE);
    json_write_int(&w, NULL, LINEAR_SIDE);
    json_write_int(&w, NULL, 3);
    json_end_array(&w);
    json_write_string(&w, "sha256", codec->digest);
    json_end_object(&w);
    return json_writer_save(&w, path);
}

static Status read_config(const char *path, int64_t *channels, char digest[65])
{
    const JsonLimits limits = json_limits();
    Json *root;
    TRY(json_read(path, &limits, &root));
    Status s = OK;
    int64_t version;
    const char *text;
    TRY_TO(done, s, json_get_string(root, path, "format", &text));
    CHECK_TO(done, s, strcmp(text, format_name) == 0, ERR_FORMAT,
             "%s: format is \"%.64s\", want "
             "\"%s\"",
             path, text, format_name);
    TRY_TO(done, s, json_get_int(root, path, "version", VERSION, VERSION, &version));
    TRY_TO(done, s, json_get_int(root, path, "channels", 1, LINEAR_BLOCK, channels));
    TRY_TO(done, s, json_get_string(root, path, "sha256", &text));
    CHECK_TO(done, s, strlen(text) == 64, ERR_FORMAT, "%s: sha256 has %zu characters, want 64",
             path, strlen(text));
    memcpy(digest, text, 65);
done:
    json_free(root);
    return s;
}

static Status read_tensor(const Safetensors *file, const char *name, Tensor out)
{
    const char *path = safetensors_path(file);
    const SafetensorsEntry *entry = safetensors_find(file, name);
    CHECK(entry, ERR_FORMAT, "%s: has no tensor %s", path, name);
    char found[352], want[96];
    CHECK(entry->dtype == F32 && entry->ndim == out.ndim &&
              memcmp(entry->shape, out.shape, (size_t)out.ndim * sizeof *out.shape) == 0,
          ERR_FORMAT, "%s: %s is %s %s, want %s", path, name, safetensors_shape(entry, found),
          entry->dtype_name, tensor_describe(out, want));
    return safetensors_read(file, entry, (SafetensorsSlice){ .dim = -1 }, out);
}

static Status read_weights(const char *path, LinearCodec *codec)
{
    Safetensors *file;
    TRY(safetensors_open(path, &file));
    Status s = OK;
    TRY_TO(done, s, read_tensor(file, "basis", linear_codec_basis(codec)));
    TRY_TO(done, s, read_tensor(file, "mean", linear_codec_mean(codec)));
    TRY_TO(done, s, read_tensor(file, "scale", linear_codec_scale(codec)));
done:
    safetensors_close(file);
    return s;
}

Status linear_codec_load(const char *folder, LinearCodec *out)
{
    char config[FILE_PATH_BYTES], weights[FILE_PATH_BYTES], digest[65];
    int64_t channels;
    TRY(file_join(config, folder, config_name));
    TRY(file_join(weights, folder, weights_name));
    TRY(read_config(config, &channels, digest));

    LinearCodec codec;
    TRY(linear_codec_alloc(&codec, channels));
    Status s = read_weights(weights, &codec);
    if (s == OK) s = codec_check(&codec, digest, weights);
    if (s != OK) {
        linear_codec_destroy(&codec);
        return s;
    }
    *out = codec;
    return OK;
}
