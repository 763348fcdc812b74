/*
 * attention: one attention sublayer, self or cross, with Q/K RMSNorm over the full width.
 *
 * q = norm_q(x Wq), k = norm_k(c Wk), v = c Wv, rotated when self; out = softmax(q k^T) v Wo + bo.
 * Tensor ranks hold whole heads: Wq, Wk, Wv cut by rows, Wo by columns. The norm spans all heads,
 * so its sums of squares are all-reduced forward and its dot products backward (spec 15); leaving
 * out the second trains on, wrongly. Context ranks hold their own queries: self-attention sees the
 * other ranks' keys through core/parallel/sequence.h, cross-attention needs no exchange. Image
 * tokens have keys and values of their own (core/model/image_attention.h).
 * Collective over the tensor group, self-attention over the context group as well.
 */
#ifndef ZT_CORE_MODEL_ATTENTION_H
#define ZT_CORE_MODEL_ATTENTION_H

#include "core/model/image_attention.h"
#include "core/model/layer.h"
#include "core/parallel/sequence.h"

#include <stdbool.h>

/* What the forward keeps for the backward. Local width: this tensor rank's heads. Tokens are those
 * of the context rank; keys are tokens too (self) or rows of text (cross). */
typedef struct AttentionActs {
    Tensor q_raw, k_raw, v; /* (batch, q or k rows, local width) */
    Tensor q, k;            /* the same, normed and rotated; made again from the above */
    Tensor out;             /* (batch, q rows, local width) */
    Tensor ss;              /* (batch * (q rows + k rows)): sums of squares, q rows then k rows */
    Tensor lse;             /* cross: (batch, local heads, q rows) */
    SequenceActs sequence;  /* self */
    ImageActs image;        /* cross, of a model that reads image tokens; else absent */
    bool keys_kept;         /* cross, sampling: k and v are there already, from attention_keys */
} AttentionActs;

typedef enum AttentionKind { ATTENTION_SELF, ATTENTION_CROSS } AttentionKind;

/* Which of the tensors an arena gives: those that must last until the backward, or those that
 * attention_again can make from them. */
typedef enum ActsPart { ACTS_KEPT, ACTS_AGAIN } ActsPart;

Status attention_acts_alloc(Arena *arena, const LayerContext *ctx, AttentionKind kind,
                            int64_t batch, int64_t k_rows, ActsPart part, AttentionActs *acts);

/* Scratch bytes either direction needs. */
Status attention_scratch(const LayerContext *ctx, AttentionKind kind, int64_t batch, int64_t k_rows,
                         size_t *bytes);

/* Cross: k and v of what is read, which no timestep changes: acts' k and v (and the image's) may be
 * views of what is kept for many forwards. Collective over the tensor group. */
Status attention_keys(const LayerContext *ctx, const Tensor *w, Condition c,
                      const AttentionActs *acts);

/* y (batch, own tokens, width) = attention of x (batch, context tokens, width) over c: x itself, as
 * its text (self), or the condition (not read when acts->keys_kept). w: the parameters from
 * ATTN1_Q_W or ATTN2_Q_W on. */
Status attention_forward(const LayerContext *ctx, AttentionKind kind, const Tensor *w, Tensor y,
                         Tensor x, Condition c, AttentionActs *acts, Arena *scratch);
/* q and k once more, from what is kept. Not collective. */
Status attention_again(const LayerContext *ctx, AttentionKind kind, const Tensor *w,
                       const AttentionActs *acts);

/* dy (batch, own tokens, width); dx (batch, own tokens, width) = the gradient of x, summed over the
 * tensor group. Self: dc is none, all flows into dx. Cross: dc += this rank's share of c's
 * gradient, NOT yet summed over the sequence group (the caller sums once for all blocks); in exact
 * numerics the whole, the same on every sequence rank. Parameter gradients g +=. */
Status attention_backward(const LayerContext *ctx, AttentionKind kind, const Tensor *w,
                          const Tensor *g, Tensor dx, Condition dc, Tensor dy, Tensor x,
                          Condition from, const AttentionActs *acts, Arena *scratch);

#endif
