/* attention_gradients: what one task of attention's backward reads and writes. */
#ifndef ZT_CORE_CPU_ATTENTION_GRADIENTS_H
#define ZT_CORE_CPU_ATTENTION_GRADIENTS_H

#include <string.h>

#include "core/cpu/attention_tile.h"

/* The tensors of a call of op_attention_backward. */
typedef struct AttentionCall {
    Tensor dq, dk, dv, drel_bias, dout, q, k, v, out, lse;
    const AttentionOptions *options;
} AttentionCall;

/* One head of one sample: pointers at its first token. */
typedef struct AttentionHead {
    float *dq, *dk, *dv, *dbias;
    const float *dout, *q, *k, *v, *out, *lse, *bias; /* bias at (j, i) = (0, 0), or NULL */
    int64_t keys;
    float scale;
} AttentionHead;

static inline AttentionHead attention_head(const AttentionCall *c, AttentionSize size,
                                           int64_t sample, int64_t head)
{
    const AttentionPlace at = attention_place(c->options, size, sample, head);
    const float *bias = c->options->rel_bias.data;
    return (AttentionHead){ .dq = tensor_f32(c->dq) + at.q,
                            .dk = tensor_f32(c->dk) + at.k,
                            .dv = tensor_f32(c->dv) + at.k,
                            .dbias = c->drel_bias.data ? tensor_f32(c->drel_bias) + at.bias : NULL,
                            .dout = tensor_f32(c->dout) + at.q,
                            .q = tensor_f32(c->q) + at.q,
                            .k = tensor_f32(c->k) + at.k,
                            .v = tensor_f32(c->v) + at.k,
                            .out = tensor_f32(c->out) + at.q,
                            .lse = tensor_f32(c->lse) + at.lse,
                            .bias = bias ? bias + at.bias : NULL,
                            .keys = at.keys,
                            .scale = c->options->scale };
}

static inline void attention_clear_rows(float *to, int64_t count, AttentionSize size)
{
    for (int64_t i = 0; i < count; i++)
        memset(to + i * size.stride, 0, (size_t)size.head_dim * sizeof *to);
}

/* Gradients of masked keys. */
static inline void attention_clear_masked(const AttentionHead *h, AttentionSize size)
{
    attention_clear_rows(h->dk + h->keys * size.stride, size.k_tokens - h->keys, size);
    attention_clear_rows(h->dv + h->keys * size.stride, size.k_tokens - h->keys, size);
}

/* dbias += the tile's ds (keys, QUERY_TILE) along its diagonals; a NULL dbias takes none. */
static inline void attention_add_bias(const AttentionHead *h, const float *ds, int64_t diagonal,
                                      int64_t keys, int64_t queries)
{
    if (!h->dbias) return;
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < queries; i++) h->dbias[diagonal + j - i] += ds[j * QUERY_TILE + i];
}

#endif
