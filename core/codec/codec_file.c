/* The codec of a model directory: codec_load and codec_save. */
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "core/codec/codec.h"

#include <string.h>

enum { VERSION = 1 };

static const char config_name[] = "config.json", reference_name[] = "vae.json";
static const char reference_format[] = "zoetrope-vae-reference";

static Status load_wan(const char *folder, int use, Codec *out)
{
    Codec codec = { .kind = CODEC_WAN };
    TRY(wan_vae_load(folder, use, &codec.wan));
    const int64_t stride = wan_stride(&codec.wan->config);
    codec.channels = codec.wan->config.z_dim;
    codec.stride[0] = WAN_FRAMES;
    codec.stride[1] = codec.stride[2] = stride;
    memcpy(codec.digest, codec.wan->digest, sizeof codec.digest);
    *out = codec;
    return OK;
}

static Status load_linear(const char *folder, Codec *out)
{
    LinearCodec linear;
    TRY(linear_codec_load(folder, &linear));
    codec_take_linear(&linear, out);
    return OK;
}

/* Whether FOLDER/NAME/FILE is there; FOLDER/NAME into out. */
static Status find_part(const char *folder, const char *name, const char *file, bool *there,
                        char out[FILE_PATH_BYTES])
{
    char path[FILE_PATH_BYTES];
    FileKind kind;
    TRY(file_join(out, folder, name));
    TRY(file_join(path, out, file));
    TRY(file_look(path, &kind));
    *there = kind == FILE_REGULAR;
    return OK;
}

Status codec_find_vae(const char *path, bool *there)
{
    char below[FILE_PATH_BYTES];
    TRY(find_part(path, "vae", config_name, there, below));
    return *there ? OK : find_part(path, ".", config_name, there, below);
}

Status codec_load_vae(const char *path, int use, Codec *out)
{
    char below[FILE_PATH_BYTES];
    bool there;
    TRY(find_part(path, "vae", config_name, &there, below));
    return load_wan(there ? below : path, use, out);
}

/* ---- by reference ---------------------------------------------------------------------------- */

static Status parse_reference(const Json *root, const char *path, CodecReference *out)
{
    const char *text;
    int64_t version;
    Digest digest;
    TRY(json_check_string(root, path, "format", reference_format));
    TRY(json_get_int(root, path, "version", VERSION, VERSION, &version));
    TRY(json_get_string(root, path, "vae", &text));
    CHECK(strlen(text) < sizeof out->vae, ERR_FORMAT, "%s: \"vae\" is a path of %zu bytes", path,
          strlen(text));
    strcpy(out->vae, text);
    TRY(json_get_string(root, path, "sha256", &text));
    CHECK(digest_parse(text, &digest) == OK, ERR_FORMAT,
          "%s: \"sha256\" is not 64 hexadecimal digits", path);
    digest_hex(&digest, out->digest);
    return OK;
}

Status codec_reference_read(const char *folder, CodecReference *out)
{
    char path[FILE_PATH_BYTES];
    const JsonLimits limits = json_limits();
    Json *root;
    TRY(file_join(path, folder, reference_name));
    TRY(json_read(path, &limits, &root));
    const Status s = parse_reference(root, path, out);
    json_free(root);
    return s;
}

/* at: where it is now, said by whoever has put it there, or by the reference itself. */
static Status load_referred(const char *folder, const CodecReference *r, const char *at, int use,
                            Codec *out)
{
    Codec codec;
    FileKind kind;
    TRY(file_look(at, &kind));
    CHECK(kind == FILE_FOLDER, ERR_FORMAT,
          "%s: was trained on the latents of the VAE %s, which is not there; put it, or a link to "
          "it, beside this folder as vae",
          folder, at);
    TRY(codec_load_vae(at, use, &codec));
    if (!(use & WAN_COUNTS) && strcmp(codec.digest, r->digest) != 0) {
        const Status s = status_fail(ERR_FORMAT,
                                     "%s: is another VAE (%.12s...) than the one %s was trained on "
                                     "(%.12s...)",
                                     at, codec.digest, folder, r->digest);
        codec_destroy(&codec);
        return s;
    }
    *out = codec;
    return OK;
}

Status codec_load(const char *model_dir, int use, Codec *out)
{
    char own[FILE_PATH_BYTES], vae[FILE_PATH_BYTES];
    bool refers, has_own, has_vae;
    CodecReference reference;
    TRY(find_part(model_dir, "codec", reference_name, &refers, own));
    TRY(find_part(model_dir, "codec", config_name, &has_own, own));
    TRY(find_part(model_dir, "vae", config_name, &has_vae, vae));
    if (refers) {
        TRY(codec_reference_read(own, &reference));
        return load_referred(own, &reference, has_vae ? vae : reference.vae, use, out);
    }
    if (has_own) return load_linear(own, out);
    CHECK(has_vae, ERR_FORMAT,
          "%s: has neither codec/config.json nor vae/config.json: latents cannot become pixels",
          model_dir);
    return load_wan(vae, use, out);
}

Status codec_digest_of(const char *model_dir, char out[DIGEST_HEX])
{
    char own[FILE_PATH_BYTES], vae[FILE_PATH_BYTES];
    bool refers, has_own, has_vae;
    CodecReference reference;
    Codec codec;
    TRY(find_part(model_dir, "codec", reference_name, &refers, own));
    TRY(find_part(model_dir, "codec", config_name, &has_own, own));
    TRY(find_part(model_dir, "vae", config_name, &has_vae, vae));
    out[0] = 0;
    if (refers) {
        TRY(codec_reference_read(own, &reference));
        memcpy(out, reference.digest, DIGEST_HEX);
    } else if (has_own || has_vae) {
        TRY(codec_load(model_dir, 0, &codec));
        memcpy(out, codec.digest, DIGEST_HEX);
        codec_destroy(&codec);
    }
    return OK;
}

Status codec_save(const Codec *codec, const char *vae, const char *folder)
{
    char path[FILE_PATH_BYTES];
    if (codec->kind == CODEC_LINEAR) return linear_codec_save(&codec->linear, folder);
    TRY(file_make_folders(folder));
    TRY(file_join(path, folder, reference_name));
    JsonWriter w = json_writer(2);
    json_begin_object(&w, NULL);
    json_write_string(&w, "format", reference_format);
    json_write_int(&w, "version", VERSION);
    json_write_string(&w, "kind", codec_name(codec->kind));
    json_write_string(&w, "vae", vae);
    json_write_string(&w, "sha256", codec->digest);
    json_end_object(&w);
    return json_writer_save(&w, path);
}
