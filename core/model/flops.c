#include "core/model/flops.h"

double flops_transformer(const DitConfig *c, int64_t tokens, int64_t text_rows)
{
    const double d = (double)dit_width(c), f = (double)c->ffn_dim;
    const double s = (double)tokens, text = (double)text_rows;
    const double patch = 0.5 * (double)(dit_patch_in(c) + dit_patch_out(c));
    /* multiply-adds of a block: q k v o; scores and values; cross q o, k v, scores; ffn */
    const double block = 4 * s * d * d + 2 * s * s * d + 2 * s * d * d + 2 * text * d * d +
                         2 * s * text * d + 2 * s * d * f;
    const double ends = 2 * s * patch * d + text * d * ((double)c->text_dim + d) +
                        d * ((double)c->freq_dim + 7 * d);
    return 2 * ((double)c->num_layers * block + ends);
}

double flops_denoise(const DitConfig *c, int64_t tokens, int64_t text_rows)
{
    const double d = (double)dit_width(c), text = (double)text_rows;
    const double kept =
        (double)c->num_layers * 2 * text * d * d + text * d * ((double)c->text_dim + d);
    return flops_transformer(c, tokens, text_rows) - 2 * kept;
}

double flops_text_encoder(const TextConfig *c)
{
    const double d = (double)c->d_model, inner = (double)(c->num_heads * c->d_kv);
    const double n = (double)c->max_length;
    const double layer = 4 * n * d * inner + 2 * n * n * inner + 3 * n * d * (double)c->d_ff;
    return 2 * (double)c->num_layers * layer;
}

double flops_forward(const ModelConfig *config, int64_t tokens)
{
    return flops_transformer(&config->dit, tokens, config->text.max_length) +
           flops_text_encoder(&config->text);
}
