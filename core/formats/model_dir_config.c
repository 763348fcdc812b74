/* The configurations of a model directory: model_dir_read and model_dir_write. */
#include "core/formats/model_dir.h"

#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "core/formats/component_config.h"
#include "core/formats/model_base.h"
#include "core/formats/scheduler_config.h"
#include "core/image/clip_config.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Status read_real(const Json *root, const char *path, const char *key, double min, double max,
                        double fallback, double *out)
{
    if (json_has(root, key)) return json_get_real(root, path, key, min, max, out);
    *out = fallback;
    return OK;
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
    json_write_string(w, "_diffusers_version", diffusers_version());
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
    json_write_string(w, "_diffusers_version", diffusers_version());
    json_write_int(w, "num_train_timesteps", 1000);
    json_write_real(w, "shift", model->shift);
    json_write_bool(w, "use_dynamic_shifting", false);
    json_end_object(w);
}

/* --- the whole --- */

static Status read_part(const char *path, const char *name, Json **root, char out[FILE_PATH_BYTES])
{
    const JsonLimits limits = json_limits();
    TRY(file_join(out, path, name));
    return json_read(out, &limits, root);
}

static Status read_scheduler(const char *path, ModelDir *model)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    TRY(read_part(path, "scheduler/scheduler_config.json", &root, file));
    SchedulerConfig config = { 0 };
    const Status s = scheduler_config_parse(root, file, &config);
    json_free(root);
    if (s != OK) return s;
    model->shift = config.shift;
    model->solver = config.solver;
    model->sigmas = config.sigmas;
    return OK;
}

/* The class of a component, NULL where the pipeline has none: the key is missing or [null, null].
 * classes: those that this program runs, ended by NULL. */
static Status read_class(const Json *root, const char *file, const char *key,
                         const char *const *classes, const char **out)
{
    const Json *part = NULL;
    *out = NULL;
    if (!json_has(root, key)) return OK;
    TRY(json_get_array(root, file, key, &part));
    const char *name = json_as_string(json_at(part, 1));
    if (!name) return OK;
    for (int i = 0; classes[i]; i++) {
        if (strcmp(name, classes[i]) != 0) continue;
        *out = classes[i];
        return OK;
    }
    return status_fail(ERR_FORMAT, "%s: \"%s\" is %.60s, expected %s", file, key, name, classes[0]);
}

static Status check_pipeline(const Json *root, const char *file)
{
    static const char *const known[] = { "WanPipeline", "WanImageToVideoPipeline", "WanI2VPipeline",
                                         "WanVideoToVideoPipeline" };
    const char *name = NULL;
    if (!json_has(root, "_class_name")) return OK;
    TRY(json_get_string(root, file, "_class_name", &name));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(name, known[i]) == 0) return OK;
    return status_fail(ERR_FORMAT,
                       "%s: \"_class_name\" is %.60s; this program runs WanPipeline, "
                       "WanImageToVideoPipeline and WanVideoToVideoPipeline",
                       file, name);
}

/* Two transformers share the timesteps: the first takes those from `boundary` on (spec 6). */
static Status read_experts(const Json *root, const char *file, ModelDir *out)
{
    static const char *const transformers[] = { "WanTransformer3DModel", NULL };
    const char *first = NULL, *second = NULL;
    TRY(read_class(root, file, "transformer", transformers, &first));
    CHECK(first, ERR_FORMAT, "%s: \"transformer\" is not named, expected WanTransformer3DModel",
          file);
    TRY(read_class(root, file, "transformer_2", transformers, &second));
    TRY(read_real(root, file, "boundary_ratio", 0.0, 1.0, 0.0, &out->boundary));
    CHECK(!second || out->boundary > 0.0, ERR_FORMAT,
          "%s: has a \"transformer_2\", but no \"boundary_ratio\" that says where it takes over",
          file);
    if (!second) out->boundary = 0.0;
    return OK;
}

/* What reads captions: bytes, by the encoder that was trained with the model, or the frozen umT5.
 */
static Status read_text_kind(const Json *root, const char *file, TextKind *out)
{
    static const char *const encoders[] = { "UMT5EncoderModel", NULL };
    static const char *const tokenizers[] = { "T5TokenizerFast", "T5Tokenizer", "ByT5Tokenizer",
                                              NULL };
    const char *encoder = NULL, *tokenizer = NULL;
    TRY(read_class(root, file, "text_encoder", encoders, &encoder));
    TRY(read_class(root, file, "tokenizer", tokenizers, &tokenizer));
    *out = TEXT_NONE;
    if (encoder)
        *out = tokenizer && strcmp(tokenizer, "ByT5Tokenizer") != 0 ? TEXT_UMT5 : TEXT_BYTES;
    return OK;
}

static Status parse_index(const Json *root, const char *file, ModelDir *out)
{
    static const char *const vaes[] = { "AutoencoderKLWan", NULL };
    static const char *const encoders[] = { "CLIPVisionModel", "CLIPVisionModelWithProjection",
                                            NULL };
    const char *vae = NULL, *image = NULL;
    TRY(check_pipeline(root, file));
    TRY(read_experts(root, file, out));
    TRY(read_text_kind(root, file, &out->text));
    TRY(read_class(root, file, "vae", vaes, &vae));
    TRY(read_class(root, file, "image_encoder", encoders, &image));
    if (json_has(root, "expand_timesteps"))
        TRY(json_get_bool(root, file, "expand_timesteps", &out->given_frame));
    out->wan_vae = vae != NULL;
    out->image_encoder = image != NULL;
    return OK;
}

static Status read_index(const char *path, ModelDir *out)
{
    char file[FILE_PATH_BYTES];
    Json *root = NULL;
    TRY(read_part(path, "model_index.json", &root, file));
    const Status s = parse_index(root, file, out);
    json_free(root);
    return s;
}

/* The second expert has the first's sizes: they work on one latent in turn. */
static Status check_second(const char *path, const ModelDir *model)
{
    char file[FILE_PATH_BYTES];
    const ModelConfig *first = &model->config;
    ModelConfig second = *first;
    TRY(model_base_find(model, path, "transformer_2/config.json", file));
    TRY(dit_config_read(file, &second.dit));
    return model_config_compare(path, &second, first) == OK
               ? OK
               : status_fail(ERR_FORMAT, "%s: its sizes are not those of transformer/config.json",
                             file);
}

/* How many tokens a picture is, the image encoder says; a transformer with positions reads two
 * pictures. */
static Status read_image_rows(const char *path, ModelDir *model)
{
    DitConfig *dit = &model->config.dit;
    char holder[FILE_PATH_BYTES];
    ClipConfig clip;
    ClipProcessor processor;
    if (!model->image_encoder || dit->image_dim == 0) return OK;
    TRY(model_base_holder(model, path, "image_encoder", holder));
    TRY(clip_config_read(holder, &clip, &processor));
    const int64_t pictures = dit->pos_embed_seq_len > 0 ? 2 : 1;
    const int64_t rows = pictures * clip_tokens(&clip);
    CHECK(clip.hidden_size == dit->image_dim, ERR_FORMAT,
          "%s: the image encoder's hidden_size is %lld, the transformer's image_dim %lld", path,
          (long long)clip.hidden_size, (long long)dit->image_dim);
    CHECK(pictures == 1 || rows == dit->pos_embed_seq_len, ERR_FORMAT,
          "%s: two pictures are %lld tokens, the transformer's pos_embed_seq_len is %lld", path,
          (long long)rows, (long long)dit->pos_embed_seq_len);
    dit->image_rows = rows;
    return OK;
}

static Status read_components(const char *path, ModelDir *out)
{
    char file[FILE_PATH_BYTES];
    TRY(model_base_find(out, path, "transformer/config.json", file));
    TRY(dit_config_read(file, &out->config.dit));
    if (out->boundary > 0.0) TRY(check_second(path, out));
    TRY(read_image_rows(path, out));
    if (out->text == TEXT_BYTES) {
        TRY(file_join(file, path, "text_encoder/config.json"));
        return text_config_read(file, &out->config.text);
    }
    out->config.text =
        (TextConfig){ .max_length = FROZEN_TEXT_ROWS, .d_model = out->config.dit.text_dim };
    return OK;
}

/* `check` fails: its message is about the folder. */
static Status checked(const char *path, Status check)
{
    char why[1024];
    if (check == OK) return OK;
    (void)snprintf(why, sizeof why, "%s", status_message());
    return status_fail(ERR_FORMAT, "%s: %s", path, why);
}

Status model_dir_read_text(const char *path, TextConfig *out)
{
    char file[FILE_PATH_BYTES];
    TextConfig text = { 0 };
    ModelDir model = { 0 };
    TRY(model_base_read(path, &model));
    TRY(model_base_find(&model, path, "text_encoder/config.json", file));
    TRY(text_config_read(file, &text));
    TRY(checked(path, model_config_check_text(&text)));
    *out = text;
    return OK;
}

Status model_dir_read_over(const char *path, const char *base, ModelDir *out)
{
    ModelDir model = { 0 };
    FileKind kind;
    TRY(file_look(path, &kind));
    CHECK(kind == FILE_FOLDER, ERR_IO, "%s: is not a folder; a model directory is wanted", path);
    TRY(read_index(path, &model));
    TRY(model_base_read(path, &model));
    if (model.base[0] && base[0]) (void)snprintf(model.base, sizeof model.base, "%s", base);
    TRY(read_components(path, &model));
    TRY(checked(path, model_config_check(&model.config)));
    TRY(read_scheduler(path, &model));
    *out = model;
    return OK;
}

Status model_dir_read(const char *path, ModelDir *out)
{
    return model_dir_read_over(path, "", out);
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
    dit_config_build(&w, &model->config.dit);
    TRY(save_part(path, transformer, "config.json", &w));
    if (model->config.text.num_layers == 0) return OK;
    text_config_build(&w, &model->config.text);
    return save_part(path, text, "config.json", &w);
}

Status model_dir_write(const char *path, const ModelDir *model, bool ema)
{
    const char *transformer = model_base_folder(model, COMPONENT_TRANSFORMER);
    char average[64];
    (void)snprintf(average, sizeof average, "%s_ema", transformer);
    if (!model->low_rank) {
        TRY(save_configs(path, model, transformer, "text_encoder"));
        if (ema) TRY(save_configs(path, model, average, "text_encoder_ema"));
    }
    if (model->base[0]) return model_base_write(path, model);
    JsonWriter w = json_writer(2);
    build_scheduler(&w, model);
    TRY(save_part(path, "scheduler", "scheduler_config.json", &w));
    if (model->config.text.num_layers > 0) {
        build_tokenizer(&w, model);
        TRY(save_part(path, "tokenizer", "tokenizer_config.json", &w));
    }
    build_index(&w, model);
    return save_part(path, "", "model_index.json", &w);
}
