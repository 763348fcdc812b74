#include "core/formats/component_config.h"

#include "core/base/file.h"
#include "core/base/json.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* What these files say they were written by. */
#define DIFFUSERS_VERSION "0.35.0"

/* One integer key of a configuration. fallback -1: the key must be there; 0: null where there is
 * none. */
typedef struct Key {
    const char *name;
    size_t offset;
    int64_t min, max, fallback;
} Key;

#define DIT(name, min, max, fallback)                        \
    {                                                        \
#name, offsetof(DitConfig, name), min, max, fallback \
    }
#define TEXT(name, min, max, fallback)                        \
    {                                                         \
#name, offsetof(TextConfig, name), min, max, fallback \
    }

static const Key dit_keys[] = {
    // clang-format off
    DIT(num_layers, 1, 1024, -1),            DIT(num_attention_heads, 1, 1024, -1),
    DIT(attention_head_dim, 1, 1024, -1),    DIT(ffn_dim, 1, 1 << 20, -1),
    DIT(in_channels, 1, 4096, -1),           DIT(out_channels, 1, 4096, -1),
    DIT(text_dim, 1, 1 << 16, -1),           DIT(freq_dim, 2, 1 << 16, 256),
    DIT(rope_max_seq_len, 1, 1 << 20, 1024), DIT(image_dim, 1, 1 << 16, 0),
    DIT(pos_embed_seq_len, 1, 1 << 16, 0),
    // clang-format on
};

static const Key text_keys[] = {
    // clang-format off
    TEXT(d_model, 1, 1 << 16, -1),           TEXT(d_kv, 1, 1024, -1),
    TEXT(d_ff, 1, 1 << 20, -1),              TEXT(num_layers, 1, 1024, -1),
    TEXT(num_heads, 1, 1024, -1),            TEXT(vocab_size, 1, 1 << 24, -1),
    TEXT(relative_attention_num_buckets, 1, 4096, 32),
    TEXT(relative_attention_max_distance, 1, 1 << 20, 128),
    { "zoetrope_max_length", offsetof(TextConfig, max_length), 1, 1 << 16, 512 },
    // clang-format on
};

enum {
    DIT_KEYS = sizeof dit_keys / sizeof dit_keys[0],
    TEXT_KEYS = sizeof text_keys / sizeof text_keys[0],
};

static int64_t *slot_of(const Key *key, void *config)
{
    return (int64_t *)(void *)((char *)config + key->offset);
}

static const int64_t *value_of(const Key *key, const void *config)
{
    return (const int64_t *)(const void *)((const char *)config + key->offset);
}

static Status read_keys(const Json *root, const char *path, const Key *keys, int count,
                        void *config)
{
    for (int i = 0; i < count; i++) {
        int64_t *slot = slot_of(&keys[i], config);
        if (keys[i].fallback >= 0 && !json_has(root, keys[i].name))
            *slot = keys[i].fallback;
        else
            TRY(json_get_int(root, path, keys[i].name, keys[i].min, keys[i].max, slot));
    }
    return OK;
}

static void write_keys(JsonWriter *w, const Key *keys, int count, const void *config)
{
    for (int i = 0; i < count; i++) {
        if (keys[i].fallback == 0 && *value_of(&keys[i], config) == 0)
            json_write_null(w, keys[i].name);
        else
            json_write_int(w, keys[i].name, *value_of(&keys[i], config));
    }
}

/* A key that has one value in every model this program runs. */
static Status expect_string(const Json *root, const char *path, const char *key,
                            const char *expected)
{
    const char *value;
    if (!json_has(root, key)) return OK;
    TRY(json_get_string(root, path, key, &value));
    CHECK(strcmp(value, expected) == 0, ERR_FORMAT, "%s: \"%s\" is \"%.60s\", only \"%s\" is known",
          path, key, value, expected);
    return OK;
}

static Status read_real(const Json *root, const char *path, const char *key, double min, double max,
                        double fallback, double *out)
{
    if (json_has(root, key)) return json_get_real(root, path, key, min, max, out);
    *out = fallback;
    return OK;
}

/* --- transformer/config.json --- */

static Status read_patch(const Json *root, const char *path, int64_t patch[3])
{
    static const int64_t usual[3] = { 1, 2, 2 };
    const Json *array;
    memcpy(patch, usual, sizeof usual);
    if (!json_has(root, "patch_size")) return OK;
    TRY(json_get_array(root, path, "patch_size", &array));
    CHECK(json_count(array) == 3, ERR_FORMAT, "%s: \"patch_size\" has %lld numbers, expected 3",
          path, (long long)json_count(array));
    for (int i = 0; i < 3; i++)
        CHECK(json_as_int(json_at(array, i), &patch[i]) && patch[i] >= 1 && patch[i] <= 64,
              ERR_FORMAT, "%s: \"patch_size\"[%d] is not an integer from 1 to 64", path, i);
    return OK;
}

/* Keys and values of image tokens are as wide as the model, as in every one that is published. */
static Status read_image(const Json *root, const char *path, DitConfig *out)
{
    int64_t added = 0;
    out->image_rows = 0;
    if (json_has(root, "added_kv_proj_dim"))
        TRY(json_get_int(root, path, "added_kv_proj_dim", 1, 1 << 20, &added));
    CHECK(added == (out->image_dim > 0 ? dit_width(out) : 0), ERR_FORMAT,
          "%s: \"added_kv_proj_dim\" is %lld; with \"image_dim\" %lld it must be %lld (0: null)",
          path, (long long)added, (long long)out->image_dim,
          (long long)(out->image_dim > 0 ? dit_width(out) : 0));
    CHECK(out->image_dim > 0 || out->pos_embed_seq_len == 0, ERR_FORMAT,
          "%s: \"pos_embed_seq_len\" is %lld, but \"image_dim\" is null", path,
          (long long)out->pos_embed_seq_len);
    if (out->image_dim > 0)
        out->image_rows = out->pos_embed_seq_len > 0 ? out->pos_embed_seq_len : IMAGE_ROWS_DEFAULT;
    return OK;
}

static Status parse_dit(const Json *root, const char *path, DitConfig *out)
{
    bool cross_norm = true;
    TRY(expect_string(root, path, "_class_name", "WanTransformer3DModel"));
    TRY(expect_string(root, path, "qk_norm", "rms_norm_across_heads"));
    if (json_has(root, "cross_attn_norm"))
        TRY(json_get_bool(root, path, "cross_attn_norm", &cross_norm));
    CHECK(cross_norm, ERR_FORMAT, "%s: \"cross_attn_norm\" is false, only true is known", path);
    TRY(read_keys(root, path, dit_keys, DIT_KEYS, out));
    TRY(read_patch(root, path, out->patch_size));
    TRY(read_image(root, path, out));
    return read_real(root, path, "eps", 1e-12, 1e-1, 1e-6, &out->eps);
}

void dit_config_build(JsonWriter *w, const DitConfig *config)
{
    json_begin_object(w, NULL);
    json_write_string(w, "_class_name", "WanTransformer3DModel");
    json_write_string(w, "_diffusers_version", DIFFUSERS_VERSION);
    if (config->image_dim > 0)
        json_write_int(w, "added_kv_proj_dim", dit_width(config));
    else
        json_write_null(w, "added_kv_proj_dim");
    json_write_bool(w, "cross_attn_norm", true);
    json_write_real(w, "eps", config->eps);
    json_begin_array(w, "patch_size");
    for (int i = 0; i < 3; i++) json_write_int(w, NULL, config->patch_size[i]);
    json_end_array(w);
    json_write_string(w, "qk_norm", "rms_norm_across_heads");
    write_keys(w, dit_keys, DIT_KEYS, config);
    json_end_object(w);
}

Status dit_config_read(const char *file, DitConfig *out)
{
    const JsonLimits limits = json_limits();
    Json *root = NULL;
    TRY(json_read(file, &limits, &root));
    const Status s = parse_dit(root, file, out);
    json_free(root);
    return s;
}

/* --- text_encoder/config.json --- */

static Status parse_text(const Json *root, const char *path, TextConfig *out)
{
    TRY(expect_string(root, path, "model_type", "umt5"));
    TRY(expect_string(root, path, "feed_forward_proj", "gated-gelu"));
    TRY(read_keys(root, path, text_keys, TEXT_KEYS, out));
    return read_real(root, path, "layer_norm_epsilon", 1e-12, 1e-1, 1e-6, &out->layer_norm_epsilon);
}

void text_config_build(JsonWriter *w, const TextConfig *config)
{
    json_begin_object(w, NULL);
    json_begin_array(w, "architectures");
    json_write_string(w, NULL, "UMT5EncoderModel");
    json_end_array(w);
    json_write_string(w, "model_type", "umt5");
    json_write_string(w, "feed_forward_proj", "gated-gelu");
    json_write_string(w, "dense_act_fn", "gelu_new");
    json_write_bool(w, "is_gated_act", true);
    json_write_bool(w, "is_encoder_decoder", false);
    json_write_real(w, "dropout_rate", 0.0);
    json_write_real(w, "layer_norm_epsilon", config->layer_norm_epsilon);
    json_write_int(w, "pad_token_id", 0);
    json_write_int(w, "eos_token_id", 1);
    json_write_int(w, "decoder_start_token_id", 0);
    /* only shared.weight is stored; false leaves the encoder's own copy of it empty on load */
    json_write_bool(w, "tie_word_embeddings", true);
    json_write_string(w, "torch_dtype", "float32");
    write_keys(w, text_keys, TEXT_KEYS, config);
    json_end_object(w);
}

Status text_config_read(const char *file, TextConfig *out)
{
    const JsonLimits limits = json_limits();
    Json *root = NULL;
    TRY(json_read(file, &limits, &root));
    const Status s = parse_text(root, file, out);
    json_free(root);
    return s;
}

const char *diffusers_version(void)
{
    return DIFFUSERS_VERSION;
}

static Status compare_keys(const char *path, const Key *keys, int count, const void *stored,
                           const void *wanted)
{
    for (int i = 0; i < count; i++) {
        const int64_t a = *value_of(&keys[i], stored), b = *value_of(&keys[i], wanted);
        CHECK(a == b, ERR_CONFIG, "%s: its model has %s %lld, the configuration asks for %lld",
              path, keys[i].name, (long long)a, (long long)b);
    }
    return OK;
}

Status model_config_compare(const char *path, const ModelConfig *stored, const ModelConfig *wanted)
{
    TRY(compare_keys(path, dit_keys, DIT_KEYS, &stored->dit, &wanted->dit));
    return compare_keys(path, text_keys, TEXT_KEYS, &stored->text, &wanted->text);
}
