#include "core/model/block.h"

#include "core/model/token_sums.h"

/* rows of the modulation table (spec 4.5) */
enum { SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2 };

/* ---- forward -------------------------------------------------------------------------------- */

static Tensor modulation_table(Tensor table)
{
    return tensor_at(table, 0); /* (1, 6, width) -> (6, width) */
}

/* full = LN(x) (1 + mod[scale]) + mod[shift] of the own tokens, gathered */
static Status modulated(const LayerContext *ctx, BlockActs *acts, int norm, Tensor full, Tensor x,
                        int shift, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor own;
    TRY(layer_own_alloc(ctx, scratch, full, "block.own", &own));
    const Modulated out = { own, acts->mean[norm], acts->rstd[norm] };
    TRY(layer_modulate(ctx, out, x, tensor_at(acts->mod, shift), tensor_at(acts->mod, shift + 1)));
    TRY(layer_gather(ctx, full, own));
    arena_release(scratch, mark);
    return OK;
}

/* b: the norm before cross-attention has weights of its own instead */
static Status normed(const LayerContext *ctx, const Tensor *w, BlockActs *acts, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor own;
    TRY(layer_own_alloc(ctx, scratch, acts->b, "block.own", &own));
    TRY(op_layernorm(ctx->dev, own, acts->mean[1], acts->rstd[1], acts->x1, w[NORM2_W], w[NORM2_B],
                     (float)ctx->config->eps));
    TRY(layer_gather(ctx, acts->b, own));
    arena_release(scratch, mark);
    return OK;
}

/* What self-attention reads. */
static Condition itself(Tensor x)
{
    return (Condition){ x, tensor_none() };
}

Status block_forward(const LayerContext *ctx, const BlockWeights *weights, Tensor x0, Condition c,
                     Tensor e0, BlockActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const Tensor *w = weights->at;
    const Tensor mod = acts->mod;
    TRY(op_modulation(dev, mod, modulation_table(w[BLOCK_MODULATION]), e0));

    TRY(modulated(ctx, acts, 0, acts->a, x0, SHIFT1, scratch));
    TRY(attention_forward(ctx, ATTENTION_SELF, &w[ATTN1_Q_W], acts->y1, acts->a, itself(acts->a),
                          &acts->attn1, scratch));
    TRY(layer_gate(ctx, acts->x1, x0, acts->y1, tensor_at(mod, GATE1)));

    /* cross-attention has no gate: its output joins the stream as it is */
    TRY(normed(ctx, w, acts, scratch));
    TRY(attention_forward(ctx, ATTENTION_CROSS, &w[ATTN2_Q_W], acts->x2, acts->b, c, &acts->attn2,
                          scratch));
    TRY(op_axpby(dev, acts->x2, 1.0f, acts->x1, 1.0f));

    TRY(modulated(ctx, acts, 2, acts->c, acts->x2, SHIFT2, scratch));
    TRY(op_linear(dev, acts->h, acts->c, w[FFN1_W], w[FFN1_B]));
    TRY(op_gelu(dev, acts->gelu, acts->h));
    TRY(layer_cut_linear(ctx, acts->y3, acts->gelu, w[FFN2_W], w[FFN2_B], scratch));
    return layer_gate(ctx, acts->x3, acts->x2, acts->y3, tensor_at(mod, GATE2));
}

Status block_again(const LayerContext *ctx, const BlockWeights *weights, Tensor x0, Condition c,
                   Tensor e0, Recompute recompute, BlockActs *acts, Arena *scratch)
{
    const Tensor *w = weights->at;
    if (recompute == RECOMPUTE_NONE) return OK;
    if (recompute == RECOMPUTE_BLOCK) return block_forward(ctx, weights, x0, c, e0, acts, scratch);
    TRY(modulated(ctx, acts, 0, acts->a, x0, SHIFT1, scratch));
    TRY(normed(ctx, w, acts, scratch));
    TRY(modulated(ctx, acts, 2, acts->c, acts->x2, SHIFT2, scratch));
    TRY(op_gelu(ctx->dev, acts->gelu, acts->h));
    TRY(attention_again(ctx, ATTENTION_SELF, &w[ATTN1_Q_W], &acts->attn1));
    return attention_again(ctx, ATTENTION_CROSS, &w[ATTN2_Q_W], &acts->attn2);
}

/* ---- backward ------------------------------------------------------------------------------- */

static Status ffn_backward(const LayerContext *ctx, const Tensor *w, const Tensor *g, Tensor dx,
                           Tensor dmod, Tensor dy, Tensor dn, const BlockActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const size_t mark = arena_mark(scratch);
    Tensor full, dh; /* dy of all context tokens; as acts->h */
    TRY(token_sums_gate(ctx, dmod, GATE2, dy, dx, acts->y3, tensor_at(acts->mod, GATE2)));
    TRY(layer_full_alloc(ctx, scratch, dy, "block.full", &full));
    TRY(tensor_alloc(scratch, F32, SHAPE(dx.shape[0], acts->h.shape[1], acts->h.shape[2]),
                     "block.dh", &dh));
    TRY(layer_gather(ctx, full, dy));
    TRY(op_linear_backward_input(dev, dh, full, w[FFN2_W], false));
    TRY(token_sums_linear(ctx, SPAN_CONTEXT, g[FFN2_W], g[FFN2_B], acts->gelu, full));
    TRY(op_gelu_backward(dev, dh, dh, acts->h));
    TRY(token_sums_linear(ctx, SPAN_CONTEXT, g[FFN1_W], g[FFN1_B], acts->c, dh));
    const LinearPair pair = { dh, w[FFN1_W] };
    TRY(layer_cut_backward_input(ctx, dn, &pair, 1, scratch));
    TRY(token_sums_modulate(ctx, dmod, SHIFT2, dx, dn, acts->x2, acts->mean[2], acts->rstd[2],
                            tensor_at(acts->mod, SCALE2), true));
    arena_release(scratch, mark);
    return OK;
}

static Status self_backward(const LayerContext *ctx, const Tensor *w, const Tensor *g, Tensor dx,
                            Tensor dmod, Tensor dy, Tensor dn, Tensor x0, const BlockActs *acts,
                            Arena *scratch)
{
    TRY(token_sums_gate(ctx, dmod, GATE1, dy, dx, acts->y1, tensor_at(acts->mod, GATE1)));
    TRY(attention_backward(ctx, ATTENTION_SELF, &w[ATTN1_Q_W], &g[ATTN1_Q_W], dn,
                           itself(tensor_none()), dy, acts->a, itself(acts->a), &acts->attn1,
                           scratch));
    return token_sums_modulate(ctx, dmod, SHIFT1, dx, dn, x0, acts->mean[0], acts->rstd[0],
                               tensor_at(acts->mod, SCALE1), true);
}

Status block_backward(const LayerContext *ctx, const BlockWeights *weights,
                      const BlockWeights *grads, Tensor dx, Condition dc, Tensor de0, Tensor x0,
                      Condition c, const BlockActs *acts, Arena *scratch)
{
    const Tensor *w = weights->at, *g = grads->at;
    const Shape stream = SHAPE(dx.shape[0], dx.shape[1], dx.shape[2]);
    const size_t mark = arena_mark(scratch);
    Tensor dmod, dy, dn; /* (chunks, 6, batch, width); (batch, own tokens, width) twice */
    TRY(token_sums_alloc(ctx, scratch, BLOCK_MOD_ROWS, dx.shape[0], dx.shape[2], &dmod));
    TRY(tensor_alloc(scratch, F32, stream, "block.dy", &dy));
    TRY(tensor_alloc(scratch, F32, stream, "block.dn", &dn));

    TRY(ffn_backward(ctx, w, g, dx, dmod, dy, dn, acts, scratch));
    TRY(attention_backward(ctx, ATTENTION_CROSS, &w[ATTN2_Q_W], &g[ATTN2_Q_W], dn, dc, dx, acts->b,
                           c, &acts->attn2, scratch));
    TRY(token_sums_layernorm(ctx, dx, g[NORM2_W], g[NORM2_B], dn, acts->x1, acts->mean[1],
                             acts->rstd[1], w[NORM2_W]));
    TRY(self_backward(ctx, w, g, dx, dmod, dy, dn, x0, acts, scratch));
    TRY(token_sums_finish(ctx, dmod, modulation_table(g[BLOCK_MODULATION]), de0));
    arena_release(scratch, mark);
    return OK;
}
