/*
 * block: one transformer block of spec 4.5, forward and backward.
 *
 *   a  = LN(x0) (1 + scale1) + shift1;  x1 = x0 + gate1 SelfAttention(a)
 *   b  = LN(x1; norm2);                 x2 = x1 + CrossAttention(b, ctx)
 *   c  = LN(x2) (1 + scale2) + shift2;  x3 = x2 + gate2 FFN(c)
 *
 * The residual stream is F32. The backward carries its gradient in one tensor, in place: every
 * sublayer adds its share. Collective over the tensor group.
 */
#ifndef ZT_CORE_MODEL_BLOCK_H
#define ZT_CORE_MODEL_BLOCK_H

#include "core/model/attention.h"
#include "core/model/weights.h"

/* batch, tokens: of the latents; text: rows of the text context. */
typedef struct BlockShape {
    int64_t batch, tokens, text;
} BlockShape;

typedef struct BlockActs {
    Tensor mod;     /* (6, batch, width): shift, scale, gate for attention, then for the FFN */
    Tensor mean[3]; /* (batch, tokens) of the three norms */
    Tensor rstd[3];
    Tensor a, b, c;    /* (batch, tokens, width): what the sublayers read */
    Tensor y1, y3;     /* (batch, tokens, width): what self-attention and FFN return */
    Tensor h, gelu;    /* (batch, tokens, local ffn): before and after GELU */
    Tensor x1, x2, x3; /* (batch, tokens, width): the residual stream */
    AttentionActs attn1, attn2;
} BlockActs;

typedef struct BlockContext {
    const Device *dev;
    Group *tensor;
    const DitConfig *config;
    Tensor rope;        /* (tokens, head_dim / 2, 2) */
    WeightGrads *later; /* NULL: weight gradients are computed at once */
} BlockContext;

Status block_acts_alloc(Arena *arena, const DitConfig *config, int tensor_size, BlockShape shape,
                        BlockActs *acts);
/* acts->x3 = block(x0); x0 (batch, tokens, width), text (batch, text, width), e0 (batch, 6, width).
 * x0 may be acts->x3 itself (sampling keeps one block's activations only). */
Status block_forward(const BlockContext *ctx, const BlockWeights *w, Tensor x0, Tensor text,
                     Tensor e0, BlockActs *acts, Arena *scratch);
/* dx: the gradient of x3 in, of x0 out. de0 += ; dtext += this tensor rank's share, not yet summed
 * over the tensor group. g += . */
Status block_backward(const BlockContext *ctx, const BlockWeights *w, const BlockWeights *g,
                      Tensor dx, Tensor dtext, Tensor de0, Tensor x0, Tensor text,
                      const BlockActs *acts, Arena *scratch);
/* Scratch bytes either direction needs. */
Status block_scratch(const Device *dev, const DitConfig *config, int tensor_size, BlockShape shape,
                     size_t *bytes);

#endif
