/*
 * cross_attention: softmax(q k^T / sqrt(head_dim)) v where keys and values are whole on every
 * context rank: those of the text, and of image tokens. No mask and no rotation (spec 4.5b).
 *
 * q, out (batch, q rows, local width); k, v (batch, k rows, local width); lse (batch, local heads,
 * q rows). Fast numerics: not collective, and dk, dv are of this rank's queries only. Exact
 * numerics: the backward is collective over the context group, and dk, dv are whole.
 */
#ifndef ZT_CORE_MODEL_CROSS_ATTENTION_H
#define ZT_CORE_MODEL_CROSS_ATTENTION_H

#include "core/model/layer.h"

Status cross_attention(const LayerContext *ctx, Tensor out, Tensor lse, Tensor q, Tensor k,
                       Tensor v, Arena *scratch);

typedef struct CrossGradients {
    Tensor dq, dk, dv;
} CrossGradients;

Status cross_attention_backward(const LayerContext *ctx, const CrossGradients *out, Tensor dout,
                                Tensor q, Tensor k, Tensor v, Tensor attended, Tensor lse,
                                Arena *scratch);
/* Scratch bytes that either direction needs. */
size_t cross_attention_scratch(const LayerContext *ctx, int64_t batch, int64_t q_rows,
                               int64_t k_rows);

#endif
