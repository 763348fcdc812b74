/*
 * model_config: every size of the model, named as in diffusers' transformer/config.json and
 * transformers' UMT5EncoderModel config.json (spec 1, 9).
 */
#ifndef ZT_CORE_MODEL_MODEL_CONFIG_H
#define ZT_CORE_MODEL_MODEL_CONFIG_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct DitConfig {
    int64_t num_layers, num_attention_heads, attention_head_dim, ffn_dim;
    /* latent channels; image to video puts mask and condition after the noise: in > out (spec 6) */
    int64_t in_channels, out_channels;
    int64_t text_dim, freq_dim;
    int64_t image_dim;         /* width of image tokens (spec 4.4); 0: the model takes none */
    int64_t image_rows;        /* image tokens of a clip; 0 with image_dim 0 */
    int64_t pos_embed_seq_len; /* image_rows where they have a learned position, else 0 */
    int64_t patch_size[3];     /* (1, 2, 2) */
    int64_t rope_max_seq_len;
    double eps;
} DitConfig;

typedef struct TextConfig {
    int64_t d_model, d_kv, d_ff, num_layers, num_heads, vocab_size; /* vocab 384: ByT5's ids */
    int64_t relative_attention_num_buckets, relative_attention_max_distance;
    int64_t max_length; /* rows that go to the transformer; captions are cut to it, end mark kept */
    double layer_norm_epsilon;
} TextConfig;

typedef struct ModelConfig {
    DitConfig dit;
    /* num_layers 0: no trained text encoder; embeddings (max_length, d_model) come from elsewhere
     */
    TextConfig text;
} ModelConfig;

/* "tiny", "small", "wan-1.3b", "wan-5b", "wan-14b"; in/out channels are the codec's. ERR_CONFIG
 * lists the names. */
Status model_config_preset(const char *name, ModelConfig *out);
/* Ranges and divisibility. ERR_CONFIG names key and value. */
Status model_config_check(const ModelConfig *config);
Status model_config_check_text(const TextConfig *config);

static inline int64_t dit_width(const DitConfig *c)
{
    return c->num_attention_heads * c->attention_head_dim;
}

/* Values of one token, channels * patch volume: what the model reads, and its velocity. */
static inline int64_t dit_patch_in(const DitConfig *c)
{
    return c->in_channels * c->patch_size[0] * c->patch_size[1] * c->patch_size[2];
}

static inline int64_t dit_patch_out(const DitConfig *c)
{
    return c->out_channels * c->patch_size[0] * c->patch_size[1] * c->patch_size[2];
}

#ifdef __cplusplus
}
#endif
#endif
