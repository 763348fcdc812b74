#include "core/image/clip_config.h"

#include "core/base/file.h"
#include "core/base/json.h"

#include <stddef.h>
#include <string.h>

/* ---- image_encoder/config.json -------------------------------------------------------------- */

static Status read_act(const Json *root, const char *file, bool *quick)
{
    const char *act = "quick_gelu"; /* transformers' default */
    if (json_has(root, "hidden_act")) TRY(json_get_string(root, file, "hidden_act", &act));
    *quick = strcmp(act, "quick_gelu") == 0;
    CHECK(*quick || strcmp(act, "gelu") == 0, ERR_FORMAT,
          "%s: \"hidden_act\" is \"%.40s\", expected gelu or quick_gelu", file, act);
    return OK;
}

static Status parse_sizes(const Json *root, const char *file, ClipConfig *out)
{
    const struct {
        const char *key;
        int64_t *value, max;
    } keys[] = { { "hidden_size", &out->hidden_size, 16384 },
                 { "intermediate_size", &out->intermediate_size, 65536 },
                 { "num_hidden_layers", &out->num_hidden_layers, 256 },
                 { "num_attention_heads", &out->num_attention_heads, 256 },
                 { "image_size", &out->image_size, 2048 },
                 { "patch_size", &out->patch_size, 256 } };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        TRY(json_get_int(root, file, keys[i].key, 1, keys[i].max, keys[i].value));
    return OK;
}

static Status parse_encoder(const Json *root, const char *file, ClipConfig *out)
{
    int64_t channels = 3;
    /* a whole CLIP's configuration has the tower's inside */
    if (json_has(root, "vision_config")) TRY(json_get_object(root, file, "vision_config", &root));
    TRY(parse_sizes(root, file, out));
    TRY(read_act(root, file, &out->quick_gelu));
    out->layer_norm_eps = 1e-5;
    if (json_has(root, "layer_norm_eps"))
        TRY(json_get_real(root, file, "layer_norm_eps", 1e-12, 1e-1, &out->layer_norm_eps));
    if (json_has(root, "num_channels"))
        TRY(json_get_int(root, file, "num_channels", 3, 3, &channels));
    CHECK(out->hidden_size % out->num_attention_heads == 0, ERR_FORMAT,
          "%s: hidden_size %lld is not a multiple of num_attention_heads %lld", file,
          (long long)out->hidden_size, (long long)out->num_attention_heads);
    CHECK(out->patch_size <= out->image_size && out->num_hidden_layers >= 2, ERR_FORMAT,
          "%s: image_size %lld, patch_size %lld and num_hidden_layers %lld make no image encoder",
          file, (long long)out->image_size, (long long)out->patch_size,
          (long long)out->num_hidden_layers);
    return OK;
}

/* ---- image_processor/preprocessor_config.json ----------------------------------------------- */

enum { SIDE_MAX = 4096, BICUBIC = 3 };

/* "size": 224, {"shortest_edge": 224}, or {"height": 224, "width": 224} */
static Status parse_size(const Json *root, const char *file, ClipProcessor *out)
{
    const Json *size;
    if (!json_has(root, "size")) return OK;
    if (json_get_object(root, file, "size", &size) != OK)
        return json_get_int(root, file, "size", 1, SIDE_MAX, &out->shortest_edge);
    if (json_has(size, "shortest_edge"))
        return json_get_int(size, file, "shortest_edge", 1, SIDE_MAX, &out->shortest_edge);
    out->shortest_edge = 0;
    TRY(json_get_int(size, file, "height", 1, SIDE_MAX, &out->height));
    return json_get_int(size, file, "width", 1, SIDE_MAX, &out->width);
}

static Status parse_crop(const Json *root, const char *file, ClipProcessor *out)
{
    const Json *size;
    if (!json_has(root, "crop_size")) return OK;
    if (json_get_object(root, file, "crop_size", &size) == OK) {
        TRY(json_get_int(size, file, "height", 1, SIDE_MAX, &out->crop_height));
        return json_get_int(size, file, "width", 1, SIDE_MAX, &out->crop_width);
    }
    TRY(json_get_int(root, file, "crop_size", 1, SIDE_MAX, &out->crop_height));
    out->crop_width = out->crop_height;
    return OK;
}

static Status parse_three(const Json *root, const char *file, const char *key, double least,
                          double out[3])
{
    const Json *array;
    if (!json_has(root, key)) return OK;
    TRY(json_get_array(root, file, key, &array));
    CHECK(json_count(array) == 3, ERR_FORMAT, "%s: \"%s\" has %lld numbers, expected 3", file, key,
          (long long)json_count(array));
    for (int i = 0; i < 3; i++)
        CHECK(json_as_real(json_at(array, i), &out[i]) && out[i] >= least && out[i] <= 255.0,
              ERR_FORMAT, "%s: \"%s\"[%d] is not a number from %g to 255", file, key, i, least);
    return OK;
}

static Status read_flag(const Json *root, const char *file, const char *key, bool *out)
{
    return json_has(root, key) ? json_get_bool(root, file, key, out) : OK;
}

static Status parse_processor(const Json *root, const char *file, ClipProcessor *out)
{
    bool rescale = true, normalize = true;
    int64_t resample = BICUBIC;
    TRY(read_flag(root, file, "do_resize", &out->resize));
    TRY(read_flag(root, file, "do_center_crop", &out->crop));
    TRY(read_flag(root, file, "do_rescale", &rescale));
    TRY(read_flag(root, file, "do_normalize", &normalize));
    if (json_has(root, "resample")) TRY(json_get_int(root, file, "resample", 0, 5, &resample));
    CHECK(resample == BICUBIC, ERR_FORMAT, "%s: \"resample\" is %lld, only %d (bicubic) is known",
          file, (long long)resample, BICUBIC);
    TRY(parse_size(root, file, out));
    TRY(parse_crop(root, file, out));
    if (json_has(root, "rescale_factor"))
        TRY(json_get_real(root, file, "rescale_factor", 1e-6, 1.0, &out->scale));
    TRY(parse_three(root, file, "image_mean", 0.0, out->mean));
    TRY(parse_three(root, file, "image_std", 1e-6, out->deviation));
    if (!rescale) out->scale = 1.0;
    for (int i = 0; i < 3 && !normalize; i++) {
        out->mean[i] = 0.0;
        out->deviation[i] = 1.0;
    }
    return OK;
}

static const ClipProcessor usual = {
    .shortest_edge = 224,
    .resize = true,
    .crop = true,
    .crop_height = 224,
    .crop_width = 224,
    .scale = 1.0 / 255.0,
    .mean = { 0.48145466, 0.4578275, 0.40821073 },
    .deviation = { 0.26862954, 0.26130258, 0.27577711 },
};

/* ---- both ----------------------------------------------------------------------------------- */

static Status read_processor(const char *model_dir, ClipProcessor *out)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    FileKind kind;
    const JsonLimits limits = json_limits();
    *out = usual;
    TRY(file_join(file, model_dir, "image_processor/preprocessor_config.json"));
    TRY(file_look(file, &kind));
    if (kind == FILE_ABSENT) return OK;
    TRY(json_read(file, &limits, &root));
    const Status s = parse_processor(root, file, out);
    json_free(root);
    return s;
}

Status clip_config_read(const char *model_dir, ClipConfig *config, ClipProcessor *processor)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    ClipConfig c = { 0 };
    ClipProcessor p = { 0 };
    const JsonLimits limits = json_limits();
    TRY(file_join(file, model_dir, "image_encoder/config.json"));
    TRY(json_read(file, &limits, &root));
    const Status s = parse_encoder(root, file, &c);
    json_free(root);
    if (s != OK) return s;
    TRY(read_processor(model_dir, &p));
    *config = c;
    *processor = p;
    return OK;
}
