/*
 * attention: one attention sublayer, self or cross, with Q/K RMSNorm over the full width.
 *
 * q = norm_q(x Wq), k = norm_k(c Wk), v = c Wv, rotated when self; out = softmax(q k^T) v Wo + bo.
 * Tensor ranks hold whole heads: Wq, Wk, Wv cut by rows, Wo by columns. The norm spans all heads,
 * so its sums of squares are all-reduced forward and its dot products backward (spec 15); leaving
 * out the second trains on, wrongly. Collective over the tensor group.
 */
#ifndef ZT_CORE_MODEL_ATTENTION_H
#define ZT_CORE_MODEL_ATTENTION_H

#include "core/group.h"
#include "core/model/weight_grads.h"

/* What the forward keeps for the backward. Local heads and width: this tensor rank's. */
typedef struct AttentionActs {
    Tensor q_raw, q, out; /* (batch, q_tokens, local width) */
    Tensor k_raw, k, v;   /* (batch, k_tokens, local width) */
    Tensor ss;            /* (batch * (q_tokens + k_tokens)): sums of squares, q rows then k rows */
    Tensor lse;           /* (batch, local heads, q_tokens) */
} AttentionActs;

typedef struct AttentionContext {
    const Device *dev;
    Group *tensor;
    const DitConfig *config;
    Tensor rope;        /* (tokens, head_dim / 2, 2), or none: cross-attention */
    WeightGrads *later; /* NULL: weight gradients are computed at once */
} AttentionContext;

Status attention_acts_alloc(Arena *arena, const DitConfig *config, int tensor_size, int64_t batch,
                            int64_t q_tokens, int64_t k_tokens, AttentionActs *acts);

/* y (batch, q_tokens, width) = attention of x (batch, q_tokens, width) over c (batch, k_tokens,
 * width); c is x itself in self-attention. w: the ten parameters from ATTN1_Q_W or ATTN2_Q_W on. */
Status attention_forward(const AttentionContext *ctx, const Tensor *w, Tensor y, Tensor x, Tensor c,
                         AttentionActs *acts, Arena *scratch);

/* dx = the gradient of x, summed over the tensor group. Self: dc is none, all flows into dx. Cross:
 * dc += this rank's share of c's gradient, NOT yet summed over the tensor group (the caller sums
 * once for all blocks). Parameter gradients g +=. */
Status attention_backward(const AttentionContext *ctx, const Tensor *w, const Tensor *g, Tensor dx,
                          Tensor dc, Tensor dy, Tensor x, Tensor c, const AttentionActs *acts,
                          Arena *scratch);

#endif
