/*
 * block: one transformer block of spec 4.5, forward and backward.
 *
 *   a  = LN(x0) (1 + scale1) + shift1;  x1 = x0 + gate1 SelfAttention(a)
 *   b  = LN(x1; norm2);                 x2 = x1 + CrossAttention(b, ctx)
 *   c  = LN(x2) (1 + scale2) + shift2;  x3 = x2 + gate2 FFN(c)
 *
 * The residual stream is F32 and holds each rank's own tokens; what the sublayers read is gathered
 * over the tensor ranks (core/model/layer.h). The backward carries the stream's gradient in one
 * tensor, in place: every sublayer adds its share. Collective over the tensor, context and sequence
 * groups.
 */
#ifndef ZT_CORE_MODEL_BLOCK_H
#define ZT_CORE_MODEL_BLOCK_H

#include "core/model/attention.h"
#include "core/model/weights.h"

/* Shift, scale and gate for attention, then for the FFN. */
enum { BLOCK_MOD_ROWS = 6 };

/* tokens: of the whole clip; text: rows of the text context. */
typedef struct BlockShape {
    int64_t batch, tokens, text;
} BlockShape;

/* What the backward makes again instead of keeping it: nothing; what element-wise ops (and gathers)
 * give; the whole block, from its input. */
typedef enum Recompute { RECOMPUTE_NONE, RECOMPUTE_ELEMENTWISE, RECOMPUTE_BLOCK } Recompute;

typedef struct BlockActs {
    /* (6, batch * times, width): shift, scale, gate for attention, then for the FFN */
    Tensor mod;
    Tensor mean[3]; /* (batch, own tokens) of the three norms */
    Tensor rstd[3];
    Tensor a, b, c;    /* (batch, context tokens, width): what the sublayers read */
    Tensor y1, y3;     /* (batch, own tokens, width): what self-attention and FFN return */
    Tensor h, gelu;    /* (batch, context tokens, local ffn): before and after GELU */
    Tensor x1, x2, x3; /* (batch, own tokens, width): the residual stream */
    AttentionActs attn1, attn2;
} BlockActs;

/* Cuts a block's activations: what it keeps from `arena`; what is made again is that of `shared`,
 * which block_shared_alloc has cut and all blocks of a stage use in turn. x3 is always kept. */
Status block_acts_alloc(Arena *arena, const LayerContext *ctx, BlockShape shape,
                        Recompute recompute, const BlockActs *shared, BlockActs *acts);
/* Nothing for RECOMPUTE_NONE. */
Status block_shared_alloc(Arena *arena, const LayerContext *ctx, BlockShape shape,
                          Recompute recompute, BlockActs *shared);

/* acts->x3 = block(x0); x0 (batch, own tokens, width), e0 (batch * times, 6, width). x0 may be
 * acts->x3 itself (sampling keeps one block's activations only). */
Status block_forward(const LayerContext *ctx, const BlockWeights *w, Tensor x0, Condition c,
                     Tensor e0, BlockActs *acts, Arena *scratch);
/* Makes again what is not kept; x3 stays as it is. Before block_backward. */
Status block_again(const LayerContext *ctx, const BlockWeights *w, Tensor x0, Condition c,
                   Tensor e0, Recompute recompute, BlockActs *acts, Arena *scratch);
/* dx: the gradient of x3 in, of x0 out. de0 += (the same on every sequence rank); dc += this
 * rank's share, not yet summed over the sequence group. g += . One timestep a clip. */
Status block_backward(const LayerContext *ctx, const BlockWeights *w, const BlockWeights *g,
                      Tensor dx, Condition dc, Tensor de0, Tensor x0, Condition c,
                      const BlockActs *acts, Arena *scratch);
/* Scratch bytes that forward, again and backward need. */
Status block_scratch(const LayerContext *ctx, BlockShape shape, size_t *bytes);

#endif
