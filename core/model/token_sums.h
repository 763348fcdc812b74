/*
 * token_sums: sums over a clip's tokens, which the ranks of a stage share out: gradients of
 * parameters, and of the modulation that all tokens of a clip have in common.
 *
 * Fast numerics: each rank sums over the rows it has in one call. Exact numerics: a clip's tokens
 * are cut into `chunks` canonical chunks; a rank owns whole chunks, sums each on its own, and
 * chunks are added along one fixed tree, ((0 + 1) + (2 + 3)) + ..., whoever owns them. Gradients of
 * parameters have one accumulator a chunk (LayerContext.grad_stride apart), added up once a step
 * (train/exact_grads.h); a clip is a batch of its own.
 */
#ifndef ZT_CORE_MODEL_TOKEN_SUMS_H
#define ZT_CORE_MODEL_TOKEN_SUMS_H

#include "core/model/layer.h"

/* Whose rows a sum runs over: the context rank's tokens, the rank's own tokens, or rows that every
 * rank of the stage has alike (text, time): in exact numerics these count on the first context rank
 * only. */
typedef enum TokenSpan { SPAN_CONTEXT, SPAN_OWN, SPAN_WHOLE } TokenSpan;

/* dw (out, in) += dy^T x, db (out) += column sums of dy, or none; x, dy (batch, rows, ...): at
 * once, or, when the context has a queue, later. */
Status token_sums_linear(const LayerContext *ctx, TokenSpan span, Tensor dw, Tensor db, Tensor x,
                         Tensor dy);
/* What a queue holds, in the order in which it came, and forgets it. */
Status token_sums_later(const LayerContext *ctx, WeightGrads *queue);
/* op_rmsnorm_backward, not accumulating, in place (dx is dy); (batch, rows, width) */
Status token_sums_rmsnorm(const LayerContext *ctx, TokenSpan span, Tensor dx, Tensor dw, Tensor x,
                          Tensor ss, Tensor dot, Tensor w);
/* op_layernorm_backward, accumulating into dx; own tokens */
Status token_sums_layernorm(const LayerContext *ctx, Tensor dx, Tensor dw, Tensor db, Tensor dy,
                            Tensor x, Tensor mean, Tensor rstd, Tensor w);

/* The gradient of a modulation (rows, batch, width) on its way: one for each chunk that this rank
 * owns (exact), or one. */
Status token_sums_alloc(const LayerContext *ctx, Arena *arena, int64_t rows, int64_t batch,
                        int64_t width, Tensor *dmod);
/* op_gate_residual_backward, dgate into row `gate` of dmod; own tokens; value: the gate itself */
Status token_sums_gate(const LayerContext *ctx, Tensor dmod, int gate, Tensor dy, Tensor dout,
                       Tensor y, Tensor value);
/* op_layernorm_modulate_backward, dshift into row `shift` of dmod and dscale into the next; scale:
 * the scale itself */
Status token_sums_modulate(const LayerContext *ctx, Tensor dmod, int shift, Tensor dx, Tensor dy,
                           Tensor x, Tensor mean, Tensor rstd, Tensor scale, bool accumulate);
/* The sum over all tokens of the clip of what the two above have left in dmod, the same on every
 * sequence rank, through op_modulation_backward: de +=; dtable += on the first context rank, as the
 * others hold the same. Collective over the sequence group. */
Status token_sums_finish(const LayerContext *ctx, Tensor dmod, Tensor dtable, Tensor de);

#endif
