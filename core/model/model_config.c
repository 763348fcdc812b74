#include "core/model/model_config.h"

#include <string.h>

typedef struct Preset {
    const char *name;
    ModelConfig config;
} Preset;

/* Sizes shared by every preset (spec 1). Channels are the linear codec's default until a codec says
 * otherwise. */
#define DIT(layers, heads, head_dim, ffn, text)                                                   \
    {                                                                                             \
        .num_layers = (layers), .num_attention_heads = (heads), .attention_head_dim = (head_dim), \
        .ffn_dim = (ffn), .in_channels = 48, .out_channels = 48, .text_dim = (text),              \
        .freq_dim = 256, .patch_size = { 1, 2, 2 }, .rope_max_seq_len = 1024, .eps = 1e-6         \
    }
#define TEXT(model, kv, ff, layers, heads, length)                                                 \
    {                                                                                              \
        .d_model = (model), .d_kv = (kv), .d_ff = (ff), .num_layers = (layers),                    \
        .num_heads = (heads), .vocab_size = 384, .relative_attention_num_buckets = 32,             \
        .relative_attention_max_distance = 128, .max_length = (length), .layer_norm_epsilon = 1e-6 \
    }

/* tiny learns in minutes on two cores; small is the CPU benchmark; the Wan sizes are spec 1's, with
 * a trained byte encoder in place of umT5-XXL. */
static const Preset presets[] = {
    { "tiny", { DIT(6, 8, 32, 1024, 128), TEXT(128, 32, 256, 2, 4, 96) } },
    { "small", { DIT(8, 8, 64, 2048, 256), TEXT(256, 32, 512, 4, 8, 128) } },
    { "wan-1.3b", { DIT(30, 12, 128, 8960, 1024), TEXT(1024, 64, 2816, 8, 16, 512) } },
    { "wan-5b", { DIT(30, 24, 128, 14336, 1024), TEXT(1024, 64, 2816, 12, 16, 512) } },
    { "wan-14b", { DIT(40, 40, 128, 13824, 1024), TEXT(1024, 64, 2816, 16, 16, 512) } },
};

Status model_config_preset(const char *name, ModelConfig *out)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(presets[i].name, name) != 0) continue;
        *out = presets[i].config;
        return OK;
    }
    return status_fail(ERR_CONFIG,
                       "model.preset: no preset is called '%s'; there are tiny, small, wan-1.3b, "
                       "wan-5b, wan-14b",
                       name);
}

typedef struct Range {
    const char *key;
    int64_t value, low, high;
} Range;

static Status check_ranges(const Range *ranges, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const Range *r = &ranges[i];
        CHECK(r->value >= r->low && r->value <= r->high, ERR_CONFIG,
              "%s is %lld; it must be between %lld and %lld", r->key, (long long)r->value,
              (long long)r->low, (long long)r->high);
    }
    return OK;
}

Status model_config_check_text(const TextConfig *c)
{
    const Range length = { "text.max_length", c->max_length, 2, 4096 };
    const Range ranges[] = {
        { "text.d_model", c->d_model, 1, 16384 },
        { "text.d_kv", c->d_kv, 1, 1024 },
        { "text.d_ff", c->d_ff, 1, 65536 },
        { "text.num_layers", c->num_layers, 1, 128 },
        { "text.num_heads", c->num_heads, 1, 256 },
        { "text.vocab_size", c->vocab_size, 260, 1 << 20 },
        { "text.relative_attention_num_buckets", c->relative_attention_num_buckets, 4, 1024 },
        { "text.relative_attention_max_distance", c->relative_attention_max_distance, 8, 65536 },
    };
    TRY(check_ranges(&length, 1));
    if (c->num_layers == 0) return OK; /* embeddings come from elsewhere */
    TRY(check_ranges(ranges, sizeof ranges / sizeof ranges[0]));
    CHECK(c->layer_norm_epsilon > 0 && c->layer_norm_epsilon < 1, ERR_CONFIG,
          "text.layer_norm_epsilon is %g; it must be above 0 and below 1", c->layer_norm_epsilon);
    /* a quarter of the buckets are single distances, the others are up to the largest (spec 9) */
    CHECK(c->relative_attention_max_distance > c->relative_attention_num_buckets / 4, ERR_CONFIG,
          "text.relative_attention_max_distance is %lld; it must be above a quarter of the %lld "
          "text.relative_attention_num_buckets",
          (long long)c->relative_attention_max_distance,
          (long long)c->relative_attention_num_buckets);
    return OK;
}

Status model_config_check(const ModelConfig *config)
{
    const DitConfig *c = &config->dit;
    const Range ranges[] = {
        { "model.num_layers", c->num_layers, 1, 1024 },
        { "model.num_attention_heads", c->num_attention_heads, 1, 1024 },
        { "model.attention_head_dim", c->attention_head_dim, 6, 512 },
        { "model.ffn_dim", c->ffn_dim, 1, 1 << 20 },
        { "model.in_channels", c->in_channels, 1, 4096 },
        { "model.out_channels", c->out_channels, 1, 4096 },
        { "model.text_dim", c->text_dim, 1, 16384 },
        { "model.freq_dim", c->freq_dim, 2, 16384 },
        { "model.patch_size[0]", c->patch_size[0], 1, 1 },
        { "model.patch_size[1]", c->patch_size[1], 2, 2 },
        { "model.patch_size[2]", c->patch_size[2], 2, 2 },
        { "model.rope_max_seq_len", c->rope_max_seq_len, 1, 1 << 20 },
        { "model.image_dim", c->image_dim, 0, 1 << 16 },
        { "model.pos_embed_seq_len", c->pos_embed_seq_len, 0, 1 << 16 },
    };
    TRY(check_ranges(ranges, sizeof ranges / sizeof ranges[0]));
    CHECK(c->attention_head_dim % 2 == 0 && c->freq_dim % 2 == 0, ERR_CONFIG,
          "model.attention_head_dim %lld and model.freq_dim %lld must be even",
          (long long)c->attention_head_dim, (long long)c->freq_dim);
    CHECK(
        c->in_channels >= c->out_channels, ERR_CONFIG,
        "model.in_channels %lld is below model.out_channels %lld; a model reads the noise and, for "
        "image to video, more",
        (long long)c->in_channels, (long long)c->out_channels);
    CHECK((c->image_dim > 0) == (c->image_rows > 0) &&
              (c->pos_embed_seq_len == 0 || c->pos_embed_seq_len == c->image_rows),
          ERR_CONFIG, "model.image_dim %lld does not go with %lld image tokens",
          (long long)c->image_dim, (long long)c->image_rows);
    CHECK(c->eps > 0 && c->eps < 1, ERR_CONFIG, "model.eps is %g; it must be above 0 and below 1",
          c->eps);
    CHECK(c->text_dim == config->text.d_model, ERR_CONFIG,
          "model.text_dim %lld is not the text encoder's d_model %lld", (long long)c->text_dim,
          (long long)config->text.d_model);
    return model_config_check_text(&config->text);
}
