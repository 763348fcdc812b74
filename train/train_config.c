#include "train/train_config.h"

#include "core/formats/component_config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ROW(key, kind, member) \
    .name = (key), .type = (kind), .offset = offsetof(TrainConfig, member)
#define TEXT(key, member) ROW(key, CONFIG_STRING, member), .size = sizeof((TrainConfig *)0)->member
#define INT(key, member, default, low, high) \
    ROW(key, CONFIG_INT, member), .fallback = (default), .min = (low), .max = (high)
#define REAL(key, member, default, low, high) \
    ROW(key, CONFIG_DOUBLE, member), .fallback = (default), .min = (low), .max = (high)
#define ENUM(key, member, default, words) \
    ROW(key, CONFIG_ENUM, member), .fallback = (default), .choices = (words)
/* a size that the preset gives; model_config_check knows the ranges */
#define SIZE(key, member) \
    ROW(key, CONFIG_INT, member), .fallback = "preset", .word = "preset", .min = 1, .max = 1 << 20
#define SMALL(key, member) \
    ROW(key, CONFIG_DOUBLE, member), .fallback = "preset", .word = "preset", .min = 1e-30, .max = 1

// clang-format off
static const ConfigKey keys[] = {
    { TEXT("run.dir", run.dir), .min = 1 },
    { INT("run.seed", run.seed, "1234", 0, 9e15) },
    { TEXT("run.time_limit", run.time_limit), .fallback = "auto", .min = 1 },
    { REAL("run.time_margin_s", run.time_margin_s, "300", 0, 1e6) },

    { TEXT("model.preset", preset), .fallback = "tiny", .min = 1 },
    { TEXT("model.from", from), .fallback = "" },
    { ENUM("model.expert", expert, "none", "none|high|low") },
    { SIZE("model.num_layers", model.dit.num_layers) },
    { SIZE("model.num_attention_heads", model.dit.num_attention_heads) },
    { SIZE("model.attention_head_dim", model.dit.attention_head_dim) },
    { SIZE("model.ffn_dim", model.dit.ffn_dim) },
    { SIZE("model.text_dim", model.dit.text_dim) },
    { SIZE("model.freq_dim", model.dit.freq_dim) },
    { SIZE("model.rope_max_seq_len", model.dit.rope_max_seq_len) },
    { SMALL("model.eps", model.dit.eps) },

    { ENUM("text.encoder", text_encoder, "bytes", "bytes|umt5") },
    { SIZE("text.d_model", model.text.d_model) },
    { SIZE("text.d_kv", model.text.d_kv) },
    { SIZE("text.d_ff", model.text.d_ff) },
    { SIZE("text.num_layers", model.text.num_layers) },
    { SIZE("text.num_heads", model.text.num_heads) },
    { SIZE("text.relative_attention_num_buckets", model.text.relative_attention_num_buckets) },
    { SIZE("text.relative_attention_max_distance", model.text.relative_attention_max_distance) },
    { SIZE("text.max_length", model.text.max_length) },
    { SMALL("text.layer_norm_epsilon", model.text.layer_norm_epsilon) },

    { ENUM("codec.kind", codec, "linear", "linear|wan") },
    { TEXT("codec.vae", codec_vae), .fallback = "" },

    { TEXT("data.train", data.train), .min = 1 },
    { TEXT("data.heldout", data.heldout), .fallback = "" },
    { INT("data.batch", data.batch, "8", 1, 1 << 20) },
    { INT("data.micro_batch", data.micro_batch, "1", 1, STEP_CLIPS_MAX) },
    { REAL("data.max_bad", data.max_bad, "0.001", 0, 1) },

    { INT("train.steps", train.steps, "1000", 1, 1e9) },
    { REAL("train.lr", train.lr, "1e-4", 0, 1) },
    { INT("train.warmup", train.warmup, "0", 0, 1e9) },
    { ENUM("train.schedule", train.schedule, "cosine", "cosine|constant") },
    { REAL("train.decay_floor", train.decay_floor, "0", 0, 1) },
    { ROW("train.betas", CONFIG_DOUBLES, train.betas), .fallback = "[0.9, 0.95]", .count = 2,
      .min = 0, .max = 0.999999 },
    { REAL("train.eps", train.eps, "1e-8", 1e-30, 1) },
    { REAL("train.weight_decay", train.weight_decay, "0.01", 0, 1000) },
    { REAL("train.clip", train.clip, "1", 0, 1e9) },
    { REAL("train.ema", train.ema, "0.999", 0, 0.9999999) },
    { REAL("train.caption_drop", train.caption_drop, "0.1", 0, 1) },
    { INT("train.max_skipped", train.max_skipped, "10", 1, 1e9) },
    { INT("train.check_every", train.check_every, "10", 0, 1e9) },
    { ROW("train.profile", CONFIG_BOOL, train.profile), .fallback = "false" },
    { TEXT("train.trace", train.trace), .fallback = "" },
    { INT("train.heldout_every", train.heldout_every, "0", 0, 1e9) },
    { INT("train.sample_every", train.sample_every, "0", 0, 1e9) },
    { ROW("train.sample_prompts", CONFIG_STRINGS, train.sample_prompts), .fallback = "[]",
      .min = 1 },
    { ENUM("train.timestep.sampler", train.timestep.sampler, "logit_normal",
           "logit_normal|uniform") },
    { REAL("train.timestep.mean", train.timestep.mean, "0", -20, 20) },
    { REAL("train.timestep.std", train.timestep.std, "1", 1e-6, 20) },
    { REAL("train.timestep.shift", train.timestep.shift, "1", 0.01, 100) },

    { INT("lora.rank", lora.rank, "0", 0, 4096) },
    { REAL("lora.alpha", lora.alpha, "0", 0, 1e6) },
    /* what diffusers trains, and the feed-forward layers with it */
    { ROW("lora.targets", CONFIG_STRINGS, lora.targets), .min = 1,
      .fallback = "[attn1.to_q, attn1.to_k, attn1.to_v, attn1.to_out.0, attn2.to_q, attn2.to_k, "
                  "attn2.to_v, attn2.to_out.0, ffn.net.0.proj, ffn.net.2]" },

    { INT("parallel.tensor", parallel.tensor, "1", 1, 4096) },
    { INT("parallel.pipeline", parallel.pipeline, "1", 1, 4096) },
    { INT("parallel.context", parallel.context, "1", 1, 4096) },
    { INT("parallel.ulysses", parallel.ulysses, "auto", 1, 4096), .word = "auto" },
    { INT("parallel.data", parallel.data, "auto", 1, 65536), .word = "auto" },
    /* the words of ScheduleKind */
    { ENUM("parallel.schedule", parallel.schedule, "1f1b",
           "1f1b|gpipe|interleaved|zero_bubble") },
    { INT("parallel.chunks_per_rank", parallel.chunks_per_rank, "1", 1, 4096) },
    { ENUM("parallel.recompute", parallel.recompute, "none", "none|elementwise|block") },
    { INT("parallel.zero", parallel.zero, "1", 0, 1) },
    { INT("parallel.chunks", parallel.chunks, "8", 1, 16) },
    { INT("parallel.threads", parallel.threads, "auto", 1, 4096), .word = "auto" },

    { REAL("comm.timeout_s", comm.timeout_s, "600", 0, 1e6) },
    { ENUM("comm.overlap", comm.overlap, "auto", "auto|on|off") },
    { ROW("comm.check", CONFIG_BOOL, comm.check), .fallback = "false" },

    { INT("checkpoint.every", checkpoint.every, "500", 0, 1e9) },
    { INT("checkpoint.keep", checkpoint.keep, "3", 0, 1e6) },
    { INT("checkpoint.keep_every", checkpoint.keep_every, "0", 0, 1e9) },
    { ROW("checkpoint.async", CONFIG_BOOL, checkpoint.async), .fallback = "true" },
    { INT("checkpoint.buffer_mib", checkpoint.buffer_mib, "1024", 1, 1 << 20) },
    { TEXT("checkpoint.sign", checkpoint.sign), .fallback = "" },
    { ROW("checkpoint.require_signature", CONFIG_BOOL, checkpoint.require_signature),
      .fallback = "false" },
    { ROW("checkpoint.trusted_keys", CONFIG_STRINGS, checkpoint.trusted_keys), .fallback = "[]",
      .min = 1 },

    { ENUM("device", device, "auto", "auto|cpu|cuda") },
    { ENUM("numerics", numerics, "fast", "fast|exact") },
    { ENUM("dtype", dtype, "auto", "auto|f32|bf16") },
    { .name = NULL },
};
// clang-format on

enum { UMT5_WIDTH = 4096 }; /* of a row of the public encoder (spec 9) */

/* by ScheduleKind */
static const char *const schedule_words[] = { "1f1b", "gpipe", "interleaved", "zero_bubble" };

static void use_preset_int(int64_t *value, int64_t preset)
{
    if (*value == 0) *value = preset;
}

static void use_preset_double(double *value, double preset)
{
    if (*value == 0) *value = preset;
}

/* What no key gave comes from the preset. */
static void resolve_dit(DitConfig *dit, const DitConfig *preset, int64_t text_width)
{
    dit->in_channels = preset->in_channels;
    dit->out_channels = preset->out_channels;
    for (int i = 0; i < 3; i++) dit->patch_size[i] = preset->patch_size[i];
    use_preset_int(&dit->num_layers, preset->num_layers);
    use_preset_int(&dit->num_attention_heads, preset->num_attention_heads);
    use_preset_int(&dit->attention_head_dim, preset->attention_head_dim);
    use_preset_int(&dit->ffn_dim, preset->ffn_dim);
    use_preset_int(&dit->text_dim, text_width);
    use_preset_int(&dit->freq_dim, preset->freq_dim);
    use_preset_int(&dit->rope_max_seq_len, preset->rope_max_seq_len);
    use_preset_double(&dit->eps, preset->eps);
}

static void resolve_text(TextConfig *text, const TextConfig *preset)
{
    text->vocab_size = preset->vocab_size;
    use_preset_int(&text->d_model, preset->d_model);
    use_preset_int(&text->d_kv, preset->d_kv);
    use_preset_int(&text->d_ff, preset->d_ff);
    use_preset_int(&text->num_layers, preset->num_layers);
    use_preset_int(&text->num_heads, preset->num_heads);
    use_preset_int(&text->relative_attention_num_buckets, preset->relative_attention_num_buckets);
    use_preset_int(&text->relative_attention_max_distance, preset->relative_attention_max_distance);
    use_preset_int(&text->max_length, preset->max_length);
    use_preset_double(&text->layer_norm_epsilon, preset->layer_norm_epsilon);
}

/* What exact numerics cut into chunks must divide. */
static Status check_exact(const TrainConfig *c)
{
    const int64_t chunks = c->parallel.chunks;
    const int64_t width = c->model.dit.num_attention_heads * c->model.dit.attention_head_dim;
    if (c->numerics == 0) return OK;
    CHECK((chunks & (chunks - 1)) == 0, ERR_CONFIG,
          "parallel.chunks is %lld; exact numerics want 1, 2, 4, 8 or 16", (long long)chunks);
    CHECK(width % chunks == 0 && c->model.dit.ffn_dim % chunks == 0, ERR_CONFIG,
          "numerics: exact: parallel.chunks %lld does not divide the width %lld and model.ffn_dim "
          "%lld",
          (long long)chunks, (long long)width, (long long)c->model.dit.ffn_dim);
    return OK;
}

static Status check_low_rank(const TrainConfig *c)
{
    if (c->lora.rank == 0) return OK;
    CHECK(c->from[0] != 0 && c->text_encoder == TEXT_KEY_UMT5, ERR_CONFIG,
          "lora.rank is %lld, but model.from names no public model that it would change",
          (long long)c->lora.rank);
    CHECK(c->numerics == 0, ERR_CONFIG, "lora.rank %lld and numerics: exact do not go together",
          (long long)c->lora.rank);
    CHECK(c->lora.targets.count > 0, ERR_CONFIG, "lora.rank is %lld, but lora.targets is empty",
          (long long)c->lora.rank);
    return OK;
}

/* Whether the layers are enough is for the mesh to say. */
static Status check_schedule(const ParallelKeys *p)
{
    CHECK(p->chunks_per_rank == 1 || p->schedule == SCHEDULE_INTERLEAVED, ERR_CONFIG,
          "parallel.chunks_per_rank %lld needs parallel.schedule interleaved; it is %s",
          (long long)p->chunks_per_rank, schedule_words[p->schedule]);
    CHECK(p->chunks_per_rank > 1 || p->schedule != SCHEDULE_INTERLEAVED, ERR_CONFIG,
          "parallel.schedule interleaved needs parallel.chunks_per_rank of 2 or more; it is 1");
    CHECK(
        p->schedule != SCHEDULE_ZERO_BUBBLE || p->recompute == 0, ERR_CONFIG,
        "parallel.schedule zero_bubble keeps what its later products read: parallel.recompute must "
        "be none");
    return OK;
}

/* What one key alone cannot say. */
static Status check_together(const TrainConfig *c)
{
    const TrainKeys *t = &c->train;
    double limit_s = 0.0;
    TRY(train_time_limit_parse(c->run.time_limit, &limit_s));
    CHECK(c->data.micro_batch <= c->data.batch, ERR_CONFIG,
          "data.micro_batch %lld is larger than data.batch %lld", (long long)c->data.micro_batch,
          (long long)c->data.batch);
    CHECK(t->warmup <= t->steps, ERR_CONFIG, "train.warmup %lld is longer than train.steps %lld",
          (long long)t->warmup, (long long)t->steps);
    CHECK(t->sample_every == 0 || t->sample_prompts.count > 0, ERR_CONFIG,
          "train.sample_every is %lld, but train.sample_prompts is empty",
          (long long)t->sample_every);
    CHECK(c->codec != CODEC_WAN || c->codec_vae[0] != 0, ERR_CONFIG,
          "codec.kind is wan, but codec.vae names no folder of a VAE");
    CHECK(c->codec == CODEC_WAN || c->codec_vae[0] == 0, ERR_CONFIG,
          "codec.vae is %s, but codec.kind is linear", c->codec_vae);
    CHECK(t->sample_every == 0 || c->text_encoder == TEXT_KEY_BYTES, ERR_CONFIG,
          "train.sample_every is %lld, but a frozen text encoder is not loaded while the model "
          "trains: render its checkpoints with zoetrope infer",
          (long long)t->sample_every);
    TRY(check_low_rank(c));
    CHECK(c->expert == 0 || c->from[0] != 0, ERR_CONFIG,
          "model.expert is %s, but model.from names no model of two experts",
          c->expert == 1 ? "high" : "low");
    CHECK(t->heldout_every == 0 || c->data.heldout[0] != 0, ERR_CONFIG,
          "train.heldout_every is %lld, but data.heldout names no dataset",
          (long long)t->heldout_every);
    CHECK(!c->checkpoint.require_signature || c->checkpoint.trusted_keys.count > 0, ERR_CONFIG,
          "checkpoint.require_signature is true, but checkpoint.trusted_keys is empty");
    CHECK(c->checkpoint.require_signature || c->checkpoint.trusted_keys.count == 0, ERR_CONFIG,
          "checkpoint.trusted_keys names %s, but checkpoint.require_signature is false, so no "
          "signature would be looked at",
          c->checkpoint.trusted_keys.items[0]);
    TRY(check_exact(c));
    TRY(check_schedule(&c->parallel));
    return model_config_check(&c->model);
}

/* The message says which file; the code stays. */
static Status name_file(const char *path, Status status)
{
    if (status == OK) return OK;
    char message[900];
    (void)snprintf(message, sizeof message, "%s", status_message());
    return status_fail(status, "%s: %s", path, message);
}

/* A size of the text encoder that `key` gave, 0: none, and what the model has in its place. */
static void sizes_of_text(const ConfigKey *key, const TrainConfig *c, const TextConfig *model,
                          double *given, double *own)
{
    const char *one = (const char *)c + key->offset;
    const char *other = (const char *)model + (key->offset - offsetof(TrainConfig, model.text));
    const bool whole = key->type == CONFIG_INT;
    *given = whole ? (double)*(const int64_t *)one : *(const double *)one;
    *own = whole ? (double)*(const int64_t *)other : *(const double *)other;
}

/* A frozen encoder's rows, as the model reads them; keys may say the same and no other. */
static Status use_frozen_text(TrainConfig *c, const TextConfig *model)
{
    double given, own;
    for (const ConfigKey *key = keys; key->name; key++) {
        if (strncmp(key->name, "text.", 5) != 0 || !key->word) continue;
        sizes_of_text(key, c, model, &given, &own);
        CHECK(given == 0 || given == own, ERR_CONFIG,
              "%s is %g, but of the frozen encoder umt5 that %s reads it is %g: leave the key out",
              key->name, given, c->from[0] ? c->from : "the model", own);
    }
    c->model.text = *model;
    return OK;
}

/* From nothing: sizes of a preset. */
static Status resolve_preset(TrainConfig *config)
{
    ModelConfig preset;
    TRY(model_config_preset(config->preset, &preset));
    const int64_t width = config->model.dit.text_dim > 0 ? config->model.dit.text_dim : UMT5_WIDTH;
    const TextConfig frozen = { .max_length = FROZEN_TEXT_ROWS, .d_model = width };
    if (config->text_encoder == TEXT_KEY_UMT5)
        TRY(use_frozen_text(config, &frozen));
    else
        resolve_text(&config->model.text, &preset.text);
    /* the transformer reads what the text encoder writes, whatever its width */
    resolve_dit(&config->model.dit, &preset.dit, config->model.text.d_model);
    return OK;
}

static Status check_base(const TrainConfig *c)
{
    const DitConfig *dit = &c->base.config.dit;
    CHECK((c->base.boundary > 0) == (c->expert != 0), ERR_CONFIG,
          "model.expert is %s, but %s has %s: say high or low for a model of two experts, none "
          "otherwise",
          c->expert == 0   ? "none"
          : c->expert == 1 ? "high"
                           : "low",
          c->from, c->base.boundary > 0 ? "two experts" : "one transformer");
    CHECK(c->base.text == TEXT_UMT5 || (dit->in_channels == dit->out_channels && !dit->image_dim),
          ERR_CONFIG,
          "model.from %s is an image-to-video model whose text encoder is not umT5; there are none "
          "such",
          c->from);
    CHECK(c->base.text != TEXT_NONE, ERR_CONFIG, "model.from %s has no text encoder", c->from);
    CHECK(!c->base.low_rank, ERR_CONFIG,
          "model.from %s is a LoRA checkpoint, whose changes are not weights to begin from: name "
          "its base %s, or a folder that another program has merged both into",
          c->from, c->base.base);
    return OK;
}

/* From a model directory: its sizes; keys may say the same and no other. */
static Status resolve_base(TrainConfig *config)
{
    ModelConfig *model = &config->model;
    TRY(model_dir_read(config->from, &config->base));
    const ModelConfig *base = &config->base.config;
    TRY(check_base(config));
    CHECK(
        config->text_encoder == TEXT_KEY_BYTES || config->base.text == TEXT_UMT5, ERR_CONFIG,
        "text.encoder is umt5, but model.from %s has a text encoder of its own: leave the key out",
        config->from);
    config->text_encoder = config->base.text == TEXT_UMT5 ? TEXT_KEY_UMT5 : TEXT_KEY_BYTES;
    if (config->text_encoder == TEXT_KEY_UMT5)
        TRY(use_frozen_text(config, &base->text));
    else
        resolve_text(&model->text, &base->text);
    resolve_dit(&model->dit, &base->dit, base->dit.text_dim);
    model->dit.image_dim = base->dit.image_dim;
    model->dit.image_rows = base->dit.image_rows;
    model->dit.pos_embed_seq_len = base->dit.pos_embed_seq_len;
    return model_config_compare(config->from, base, model);
}

/* What no key gave, and what one key alone cannot say. */
static Status resolve(TrainConfig *config)
{
    TRY(config->from[0] ? resolve_base(config) : resolve_preset(config));
    return check_together(config);
}

Status train_config_load(const char *path, int override_count, const char *const *overrides,
                         TrainConfig *out)
{
    TrainConfig config;
    TRY(config_load(keys, path, override_count, overrides, &config, sizeof config));
    TRY(name_file(path, resolve(&config)));
    *out = config;
    return OK;
}

Status train_config_parse(const char *name, const char *text, size_t length, TrainConfig *out)
{
    TrainConfig config;
    TRY(config_parse(keys, name, text, length, 0, NULL, &config, sizeof config));
    TRY(name_file(name, resolve(&config)));
    *out = config;
    return OK;
}

Status train_config_print(const TrainConfig *config, FILE *stream)
{
    return config_print(keys, config, stream);
}

/* Two digits at *text, below `end`; moves on. */
static bool take_two_digits(const char **text, int end, int *out)
{
    const char *t = *text;
    if (t[0] < '0' || t[0] > '9' || t[1] < '0' || t[1] > '9') return false;
    *out = 10 * (t[0] - '0') + t[1] - '0';
    *text = t + 2;
    return *out < end;
}

static bool parse_duration(const char *text, double *seconds)
{
    char *dash = NULL;
    int hours = 0, minutes = 0, rest = 0;
    long days = 0;
    if (strchr(text, '-')) {
        if (text[0] < '0' || text[0] > '9') return false;
        days = strtol(text, &dash, 10);
        if (*dash != '-' || days > 10000) return false;
        text = dash + 1;
    }
    if (!take_two_digits(&text, dash ? 24 : 100, &hours) || *text++ != ':') return false;
    if (!take_two_digits(&text, 60, &minutes) || *text++ != ':') return false;
    if (!take_two_digits(&text, 60, &rest) || *text) return false;
    *seconds = 86400.0 * (double)days + 3600.0 * hours + 60.0 * minutes + rest;
    return *seconds > 0.0;
}

Status train_time_limit_parse(const char *text, double *seconds)
{
    *seconds = strcmp(text, "auto") == 0 ? -1.0 : 0.0;
    if (*seconds < 0.0 || strcmp(text, "none") == 0) return OK;
    CHECK(parse_duration(text, seconds), ERR_CONFIG,
          "run.time_limit: '%s' is not auto, none, HH:MM:SS or D-HH:MM:SS", text);
    return OK;
}

Status train_device_open(const TrainConfig *config, int threads, Device *out)
{
    static const char *const names[] = { "auto", "cpu", "cuda" };
    const bool exact = config->numerics != 0, bf16 = config->dtype == 2;
    CHECK(!exact || !bf16, ERR_CONFIG,
          "dtype: bf16 does not go with numerics: exact, whose order of sums is that of f32");
    TRY(device_open(out, names[config->device], NULL, threads, exact));
    return bf16 ? device_take_bf16(out, NULL) : OK;
}

int train_exact_chunks(const TrainConfig *config)
{
    return config->numerics ? (int)config->parallel.chunks : 0;
}

int64_t train_clips_of_pass(const TrainConfig *config)
{
    return config->numerics ? 1 : config->data.micro_batch;
}
