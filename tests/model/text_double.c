/*
 * The text encoder of wan_double: umT5's encoder on one caption.
 *
 * Keys beyond the caption's true length are masked and rows beyond it are replaced by zeros, so
 * the rows beyond it are simply never computed.
 */
#include "tests/model/double_math.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* T5's bucket of a distance, both directions: near ones one by one, far ones by logarithm. */
static int64_t bucket_of(const TextConfig *c, int64_t key, int64_t query)
{
    const int64_t half = c->relative_attention_num_buckets / 2;
    const int64_t exact = half / 2;
    const int64_t base = key > query ? half : 0;
    const int64_t distance = key > query ? key - query : query - key;

    if (distance < exact) return base + distance;

    const double reach = (double)c->relative_attention_max_distance / (double)exact;
    const double steps =
        log((double)distance / (double)exact) / log(reach) * (double)(half - exact);
    /* 1e-9: powers of two fall exactly on a bucket's edge and must not round below it */
    const int64_t far = exact + (int64_t)floor(steps + 1e-9);
    return base + (far < half ? far : half - 1);
}

/* out (heads, length, length) from this layer's own table (buckets, heads) */
static void position_bias(const TextConfig *c, const double *table, int64_t length, double *out)
{
    for (int64_t h = 0; h < c->num_heads; h++) {
        for (int64_t query = 0; query < length; query++) {
            for (int64_t key = 0; key < length; key++)
                out[(h * length + query) * length + key] =
                    table[bucket_of(c, key, query) * c->num_heads + h];
        }
    }
}

/* x += o(attention(norm(x))), scores not scaled */
static void self_attention(const WanDouble *model, int64_t layer, int64_t length, double *x)
{
    const TextConfig *c = &model->config->text;
    const int64_t inner = c->num_heads * c->d_kv;
    const char *const names[3] = { "q", "k", "v" };
    double *normed = dm_new(length * c->d_model);
    double *qkv[3];
    double *bias = dm_new(c->num_heads * length * length);
    double *heads = dm_new(length * inner);
    double *y = dm_new(length * c->d_model);

    dm_rms_norm(x,
                dm_param(model, COMPONENT_TEXT_ENCODER,
                         "encoder.block.%d.layer.0.layer_norm.weight", (int)layer),
                c->layer_norm_epsilon, length, c->d_model, normed);
    for (int i = 0; i < 3; i++) {
        const double *w =
            dm_param(model, COMPONENT_TEXT_ENCODER,
                     "encoder.block.%d.layer.0.SelfAttention.%s.weight", (int)layer, names[i]);
        qkv[i] = dm_new(length * inner);
        dm_linear(normed, w, NULL, length, c->d_model, inner, qkv[i]);
    }
    position_bias(c,
                  dm_param(model, COMPONENT_TEXT_ENCODER,
                           "encoder.block.%d.layer.0.SelfAttention.relative_attention_bias.weight",
                           (int)layer),
                  length, bias);

    const AttentionShape shape = { length, length, c->num_heads, c->d_kv, 1.0 };
    dm_attention(&shape, qkv[0], qkv[1], qkv[2], bias, heads);
    dm_linear(heads,
              dm_param(model, COMPONENT_TEXT_ENCODER,
                       "encoder.block.%d.layer.0.SelfAttention.o.weight", (int)layer),
              NULL, length, inner, c->d_model, y);
    for (int64_t i = 0; i < length * c->d_model; i++) x[i] += y[i];

    for (int i = 0; i < 3; i++) free(qkv[i]);
    free(normed);
    free(bias);
    free(heads);
    free(y);
}

/* x += wo(gelu(wi_0 n) * (wi_1 n)), n = norm(x) */
static void feed_forward(const WanDouble *model, int64_t layer, int64_t length, double *x)
{
    const TextConfig *c = &model->config->text;
    double *normed = dm_new(length * c->d_model);
    double *gate = dm_new(length * c->d_ff);
    double *up = dm_new(length * c->d_ff);
    double *y = dm_new(length * c->d_model);

    dm_rms_norm(x,
                dm_param(model, COMPONENT_TEXT_ENCODER,
                         "encoder.block.%d.layer.1.layer_norm.weight", (int)layer),
                c->layer_norm_epsilon, length, c->d_model, normed);
    dm_linear(normed,
              dm_param(model, COMPONENT_TEXT_ENCODER,
                       "encoder.block.%d.layer.1.DenseReluDense.wi_0.weight", (int)layer),
              NULL, length, c->d_model, c->d_ff, gate);
    dm_linear(normed,
              dm_param(model, COMPONENT_TEXT_ENCODER,
                       "encoder.block.%d.layer.1.DenseReluDense.wi_1.weight", (int)layer),
              NULL, length, c->d_model, c->d_ff, up);
    for (int64_t i = 0; i < length * c->d_ff; i++) gate[i] = dm_gelu_tanh(gate[i]) * up[i];
    dm_linear(gate,
              dm_param(model, COMPONENT_TEXT_ENCODER,
                       "encoder.block.%d.layer.1.DenseReluDense.wo.weight", (int)layer),
              NULL, length, c->d_ff, c->d_model, y);
    for (int64_t i = 0; i < length * c->d_model; i++) x[i] += y[i];

    free(normed);
    free(gate);
    free(up);
    free(y);
}

void wan_double_encode(const WanDouble *model, const int32_t *ids, int64_t length, double *out)
{
    const TextConfig *c = &model->config->text;
    const double *table = dm_param(model, COMPONENT_TEXT_ENCODER, "shared.weight");
    double *x = dm_new(length * c->d_model);

    for (int64_t i = 0; i < length; i++)
        memcpy(x + i * c->d_model, table + ids[i] * c->d_model,
               (size_t)c->d_model * sizeof(double));
    for (int64_t layer = 0; layer < c->num_layers; layer++) {
        self_attention(model, layer, length, x);
        feed_forward(model, layer, length, x);
    }

    memset(out, 0, (size_t)(c->max_length * c->d_model) * sizeof(double));
    dm_rms_norm(x, dm_param(model, COMPONENT_TEXT_ENCODER, "encoder.final_layer_norm.weight"),
                c->layer_norm_epsilon, length, c->d_model, out);
    free(x);
}
