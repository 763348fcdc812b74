/* The configurations of a model directory: model_dir_read and model_dir_write. */
#include "core/formats/model_dir.h"

#include "core/base/json.h"
#include "core/base/json_writer.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What these files say they were written by: the versions whose keys they follow. */
#define DIFFUSERS_VERSION "0.35.0"

/* One integer key of a configuration. fallback -1: the key must be there. */
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
    DIT(rope_max_seq_len, 1, 1 << 20, 1024),
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
    for (int i = 0; i < count; i++) json_write_int(w, keys[i].name, *value_of(&keys[i], config));
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

static Status parse_dit(const Json *root, const char *path, DitConfig *out)
{
    bool cross_norm = true;
    TRY(expect_string(root, path, "_class_name", "WanTransformer3DModel"));
    TRY(expect_string(root, path, "qk_norm", "rms_norm_across_heads"));
    if (json_has(root, "cross_attn_norm"))
        TRY(json_get_bool(root, path, "cross_attn_norm", &cross_norm));
    CHECK(cross_norm, ERR_FORMAT, "%s: \"cross_attn_norm\" is false, only true is known", path);
    CHECK(!json_has(root, "image_dim") && !json_has(root, "added_kv_proj_dim"), ERR_FORMAT,
          "%s: \"image_dim\" and \"added_kv_proj_dim\" belong to image-to-video; text-to-video "
          "models have null",
          path);
    TRY(read_keys(root, path, dit_keys, DIT_KEYS, out));
    TRY(read_patch(root, path, out->patch_size));
    return read_real(root, path, "eps", 1e-12, 1e-1, 1e-6, &out->eps);
}

static void build_dit(JsonWriter *w, const DitConfig *config)
{
    json_begin_object(w, NULL);
    json_write_string(w, "_class_name", "WanTransformer3DModel");
    json_write_string(w, "_diffusers_version", DIFFUSERS_VERSION);
    json_write_null(w, "added_kv_proj_dim");
    json_write_bool(w, "cross_attn_norm", true);
    json_write_real(w, "eps", config->eps);
    json_write_null(w, "image_dim");
    json_begin_array(w, "patch_size");
    for (int i = 0; i < 3; i++) json_write_int(w, NULL, config->patch_size[i]);
    json_end_array(w);
    json_write_null(w, "pos_embed_seq_len");
    json_write_string(w, "qk_norm", "rms_norm_across_heads");
    write_keys(w, dit_keys, DIT_KEYS, config);
    json_end_object(w);
}

/* --- text_encoder/config.json --- */

static Status parse_text(const Json *root, const char *path, TextConfig *out)
{
    TRY(expect_string(root, path, "model_type", "umt5"));
    TRY(expect_string(root, path, "feed_forward_proj", "gated-gelu"));
    TRY(read_keys(root, path, text_keys, TEXT_KEYS, out));
    return read_real(root, path, "layer_norm_epsilon", 1e-12, 1e-1, 1e-6, &out->layer_norm_epsilon);
}

static void build_text(JsonWriter *w, const TextConfig *config)
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

/* --- the small files --- */

static void build_index(JsonWriter *w, const ModelDir *model)
{
    static const char *const parts[][3] = {
        { "transformer", "diffusers", "WanTransformer3DModel" },
        { "scheduler", "diffusers", "FlowMatchEulerDiscreteScheduler" },
        { "text_encoder", "transformers", "UMT5EncoderModel" },
        { "tokenizer", "transformers", "ByT5Tokenizer" },
    };
    const size_t count = model->config.text.num_layers > 0 ? 4 : 2;
    json_begin_object(w, NULL);
    json_write_string(w, "_class_name", "WanPipeline");
    json_write_string(w, "_diffusers_version", DIFFUSERS_VERSION);
    for (size_t i = 0; i < count; i++) {
        json_begin_array(w, parts[i][0]);
        json_write_string(w, NULL, parts[i][1]);
        json_write_string(w, NULL, parts[i][2]);
        json_end_array(w);
    }
    json_end_object(w);
}

static void build_tokenizer(JsonWriter *w, const ModelDir *model)
{
    json_begin_object(w, NULL);
    json_write_string(w, "tokenizer_class", "ByT5Tokenizer");
    json_write_string(w, "pad_token", "<pad>");
    json_write_string(w, "eos_token", "</s>");
    json_write_string(w, "unk_token", "<unk>");
    /* 3 special ids and 256 bytes come before them */
    json_write_int(w, "extra_ids", model->config.text.vocab_size - 259);
    json_write_int(w, "model_max_length", model->config.text.max_length);
    json_end_object(w);
}

static void build_scheduler(JsonWriter *w, const ModelDir *model)
{
    json_begin_object(w, NULL);
    json_write_string(w, "_class_name", "FlowMatchEulerDiscreteScheduler");
    json_write_string(w, "_diffusers_version", DIFFUSERS_VERSION);
    json_write_int(w, "num_train_timesteps", 1000);
    json_write_real(w, "shift", model->shift);
    json_write_bool(w, "use_dynamic_shifting", false);
    json_end_object(w);
}

static Status parse_scheduler(const Json *root, const char *path, double *shift)
{
    /* UniPCMultistepScheduler calls it flow_shift; both classes take none as 1 */
    const char *key = json_has(root, "flow_shift") ? "flow_shift" : "shift";
    CHECK(json_as_object(root), ERR_FORMAT, "%s: is not a JSON object", path);
    return read_real(root, path, key, 0.01, 100.0, 1.0, shift);
}

/* --- the whole --- */

static Status read_part(const char *path, const char *name, Json **root, char out[FILE_PATH_BYTES])
{
    const JsonLimits limits = json_limits();
    TRY(file_join(out, path, name));
    return json_read(out, &limits, root);
}

static Status read_transformer(const char *path, DitConfig *out)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    TRY(read_part(path, "transformer/config.json", &root, file));
    const Status s = parse_dit(root, file, out);
    json_free(root);
    return s;
}

/* `check` fails: its message is about the folder. */
static Status checked(const char *path, Status check)
{
    char why[1024];
    if (check == OK) return OK;
    (void)snprintf(why, sizeof why, "%s", status_message());
    return status_fail(ERR_FORMAT, "%s: %s", path, why);
}

static Status read_text(const char *path, TextConfig *out)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    TRY(read_part(path, "text_encoder/config.json", &root, file));
    const Status s = parse_text(root, file, out);
    json_free(root);
    return s;
}

Status model_dir_read_text(const char *path, TextConfig *out)
{
    TextConfig text = { 0 };
    TRY(read_text(path, &text));
    TRY(checked(path, model_config_check_text(&text)));
    *out = text;
    return OK;
}

static Status read_scheduler(const char *path, double *shift)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    TRY(read_part(path, "scheduler/scheduler_config.json", &root, file));
    const Status s = parse_scheduler(root, file, shift);
    json_free(root);
    return s;
}

/* Says whether there is a text encoder; refuses a second transformer, which this program lacks. */
static Status read_index(const char *path, bool *text)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    Status s = OK;
    const Json *part;
    TRY(read_part(path, "model_index.json", &root, file));
    TRY_TO(done, s, json_get_array(root, file, "transformer", &part));
    const char *name = json_as_string(json_at(part, 1));
    CHECK_TO(done, s, name && strcmp(name, "WanTransformer3DModel") == 0, ERR_FORMAT,
             "%s: \"transformer\" is %.60s, expected WanTransformer3DModel", file,
             name ? name : "not named");
    part = NULL;
    if (json_has(root, "transformer_2"))
        TRY_TO(done, s, json_get_array(root, file, "transformer_2", &part));
    CHECK_TO(done, s, !json_as_string(json_at(part, 1)), ERR_FORMAT,
             "%s: has a \"transformer_2\"; models of two experts are not supported", file);
    part = NULL;
    if (json_has(root, "text_encoder"))
        TRY_TO(done, s, json_get_array(root, file, "text_encoder", &part));
    *text = json_as_string(json_at(part, 1)) != NULL;
done:
    json_free(root);
    return s;
}

Status model_dir_read(const char *path, ModelDir *out)
{
    ModelDir model = { 0 };
    bool text = false;
    FileKind kind;
    TRY(file_look(path, &kind));
    CHECK(kind == FILE_FOLDER, ERR_IO, "%s: is not a folder; a model directory is wanted", path);
    TRY(read_index(path, &text));
    TRY(read_transformer(path, &model.config.dit));
    if (text) {
        TRY(read_text(path, &model.config.text));
        TRY(checked(path, model_config_check(&model.config)));
    }
    TRY(read_scheduler(path, &model.shift));
    *out = model;
    return OK;
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

Status model_dir_compare(const char *path, const ModelConfig *stored, const ModelConfig *wanted)
{
    TRY(compare_keys(path, dit_keys, DIT_KEYS, &stored->dit, &wanted->dit));
    return compare_keys(path, text_keys, TEXT_KEYS, &stored->text, &wanted->text);
}

static Status save_part(const char *path, const char *folder, const char *name, JsonWriter *w)
{
    char directory[FILE_PATH_BYTES], file[FILE_PATH_BYTES];
    Status s = file_join(directory, path, folder);
    if (s == OK) s = file_make_folders(directory);
    if (s == OK) s = file_join(file, directory, name);
    if (s == OK) return json_writer_save(w, file);
    json_writer_destroy(w);
    return s;
}

static Status save_configs(const char *path, const ModelDir *model, const char *transformer,
                           const char *text)
{
    JsonWriter w = json_writer(2);
    build_dit(&w, &model->config.dit);
    TRY(save_part(path, transformer, "config.json", &w));
    if (model->config.text.num_layers == 0) return OK;
    build_text(&w, &model->config.text);
    return save_part(path, text, "config.json", &w);
}

Status model_dir_write(const char *path, const ModelDir *model, bool ema)
{
    JsonWriter w = json_writer(2);
    TRY(save_configs(path, model, "transformer", "text_encoder"));
    if (ema) TRY(save_configs(path, model, "transformer_ema", "text_encoder_ema"));
    build_scheduler(&w, model);
    TRY(save_part(path, "scheduler", "scheduler_config.json", &w));
    if (model->config.text.num_layers > 0) {
        build_tokenizer(&w, model);
        TRY(save_part(path, "tokenizer", "tokenizer_config.json", &w));
    }
    build_index(&w, model);
    return save_part(path, "", "model_index.json", &w);
}
