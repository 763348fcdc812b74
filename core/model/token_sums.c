#include "core/model/token_sums.h"

/* This rank's canonical chunks of a span, by their places among the span's rows. */
typedef struct Chunks {
    int count; /* chunks that this rank owns; 1 in fast numerics */
    int parts, part;
    int64_t tokens, first; /* of the clip; of this rank's part */
    int chunks;            /* of the whole clip; 0: fast */
    int64_t rows;          /* of the part */
} Chunks;

static Chunks chunks_of(const LayerContext *ctx, TokenSpan span, int64_t rows)
{
    const MeshGroups *g = ctx->groups;
    if (ctx->chunks == 0 || span == SPAN_WHOLE) return (Chunks){ .count = 1, .rows = rows };
    const Group *ranks = span == SPAN_OWN ? g->sequence : g->context;
    return (Chunks){ .count = ctx->chunks / ranks->size,
                     .parts = ranks->size,
                     .part = ranks->rank,
                     .tokens = ctx->tokens,
                     .first = token_part(ctx->tokens, ranks->size, ranks->rank).first,
                     .chunks = ctx->chunks,
                     .rows = rows };
}

static TokenRange chunk_range(const Chunks *c, int i)
{
    if (c->chunks == 0) return (TokenRange){ 0, c->rows };
    TokenRange r = token_part(c->tokens, c->chunks, c->part * c->count + i);
    r.first -= c->first;
    return r;
}

/* Rows of the range, of a tensor (1, rows, ...) or (1, rows); all of it in fast numerics. */
static Tensor rows_of(const Chunks *c, TokenRange r, Tensor t)
{
    if (c->chunks == 0) return t;
    const Tensor rows = tensor_slice(tensor_at(t, 0), r.first, r.count);
    return t.ndim == 3 ? tensor_reshape(rows, SHAPE(1, r.count, t.shape[2]))
                       : tensor_reshape(rows, SHAPE(1, r.count));
}

/* The accumulator of chunk i. */
static Tensor chunk_grad(const LayerContext *ctx, Tensor grad, int i)
{
    if (grad.data) grad.data = (float *)grad.data + i * ctx->grad_stride;
    return grad;
}

/* Rows that all ranks have alike count once. */
static bool counts_here(const LayerContext *ctx, TokenSpan span)
{
    return ctx->chunks == 0 || span != SPAN_WHOLE || ctx->groups->mesh.cp == 0;
}

/* ---- parameters ----------------------------------------------------------------------------- */

Status token_sums_linear(const LayerContext *ctx, TokenSpan span, Tensor dw, Tensor db, Tensor x,
                         Tensor dy)
{
    const Chunks c = chunks_of(ctx, span, tensor_rows(x));
    if (!counts_here(ctx, span)) return OK;
    if (ctx->later) {
        const WeightGrad call = { dw, db, x, dy, (int)span, ctx->dev == ctx->f32 };
        return weight_grads_record(ctx->later, ctx->dev, &call);
    }
    for (int i = 0; i < c.count; i++) {
        const TokenRange r = chunk_range(&c, i);
        if (r.count == 0) continue;
        TRY(op_linear_backward_weight(ctx->dev, chunk_grad(ctx, dw, i), chunk_grad(ctx, db, i),
                                      rows_of(&c, r, x), rows_of(&c, r, dy)));
    }
    return OK;
}

Status token_sums_later(const LayerContext *ctx, WeightGrads *queue)
{
    for (int i = 0; i < queue->count; i++) {
        const WeightGrad *call = &queue->calls[i];
        const LayerContext at = call->f32 ? layer_in_f32(ctx) : *ctx;
        TRY(token_sums_linear(&at, (TokenSpan)call->span, call->dw, call->db, call->x, call->dy));
    }
    weight_grads_clear(queue);
    return OK;
}

Status token_sums_rmsnorm(const LayerContext *ctx, TokenSpan span, Tensor dx, Tensor dw, Tensor x,
                          Tensor ss, Tensor dot, Tensor w)
{
    const Chunks c = chunks_of(ctx, span, tensor_rows(x));
    const float eps = (float)ctx->config->eps;
    if (!counts_here(ctx, span)) dw = tensor_none();
    for (int i = 0; i < c.count; i++) {
        const TokenRange r = chunk_range(&c, i);
        if (r.count == 0) continue;
        const Tensor d = rows_of(&c, r, dx);
        TRY(op_rmsnorm_backward(ctx->dev, d, chunk_grad(ctx, dw, i), d, rows_of(&c, r, x),
                                tensor_slice(ss, r.first, r.count),
                                tensor_slice(dot, r.first, r.count), w, dit_width(ctx->config), eps,
                                false));
    }
    return OK;
}

Status token_sums_layernorm(const LayerContext *ctx, Tensor dx, Tensor dw, Tensor db, Tensor dy,
                            Tensor x, Tensor mean, Tensor rstd, Tensor w)
{
    const Chunks c = chunks_of(ctx, SPAN_OWN, tensor_rows(x));
    for (int i = 0; i < c.count; i++) {
        const TokenRange r = chunk_range(&c, i);
        if (r.count == 0) continue;
        TRY(op_layernorm_backward(ctx->dev, rows_of(&c, r, dx), chunk_grad(ctx, dw, i),
                                  chunk_grad(ctx, db, i), rows_of(&c, r, dy), rows_of(&c, r, x),
                                  rows_of(&c, r, mean), rows_of(&c, r, rstd), w, true));
    }
    return OK;
}

/* ---- modulation ----------------------------------------------------------------------------- */

Status token_sums_alloc(const LayerContext *ctx, Arena *arena, int64_t rows, int64_t batch,
                        int64_t width, Tensor *dmod)
{
    const Chunks c = chunks_of(ctx, SPAN_OWN, 0);
    return tensor_alloc(arena, F32, SHAPE(c.count, rows, batch, width), "token sums", dmod);
}

static Tensor row_of(Tensor dmod, int chunk, int row)
{
    return tensor_at(tensor_at(dmod, chunk), row);
}

Status token_sums_gate(const LayerContext *ctx, Tensor dmod, int gate, Tensor dy, Tensor dout,
                       Tensor y, Tensor value)
{
    const Chunks c = chunks_of(ctx, SPAN_OWN, tensor_rows(y));
    for (int i = 0; i < c.count; i++) {
        const TokenRange r = chunk_range(&c, i);
        const Tensor dgate = row_of(dmod, i, gate);
        if (r.count == 0) TRY(op_fill(ctx->dev, dgate, 0.0f));
        if (r.count == 0) continue;
        TRY(op_gate_residual_backward(ctx->dev, rows_of(&c, r, dy), dgate, rows_of(&c, r, dout),
                                      rows_of(&c, r, y), value));
    }
    return OK;
}

Status token_sums_modulate(const LayerContext *ctx, Tensor dmod, int shift, Tensor dx, Tensor dy,
                           Tensor x, Tensor mean, Tensor rstd, Tensor scale, bool accumulate)
{
    const Chunks c = chunks_of(ctx, SPAN_OWN, tensor_rows(x));
    for (int i = 0; i < c.count; i++) {
        const TokenRange r = chunk_range(&c, i);
        const Tensor dshift = row_of(dmod, i, shift), dscale = row_of(dmod, i, shift + 1);
        if (r.count == 0) {
            TRY(op_fill(ctx->dev, dshift, 0.0f));
            TRY(op_fill(ctx->dev, dscale, 0.0f));
            continue;
        }
        TRY(op_layernorm_modulate_backward(
            ctx->dev, rows_of(&c, r, dx), dshift, dscale, rows_of(&c, r, dy), rows_of(&c, r, x),
            rows_of(&c, r, mean), rows_of(&c, r, rstd), scale, accumulate));
    }
    return OK;
}

Status token_sums_finish(const LayerContext *ctx, Tensor dmod, Tensor dtable, Tensor de)
{
    const int64_t count = dmod.shape[0];
    const Tensor sum = tensor_at(dmod, 0);
    for (int64_t stride = 1; stride < count; stride *= 2)
        for (int64_t i = 0; i + stride < count; i += 2 * stride)
            TRY(op_axpby(ctx->dev, tensor_at(dmod, i), 1.0f, tensor_at(dmod, i + stride), 1.0f));
    TRY(group_all_reduce(ctx->groups->sequence, sum));
    if (ctx->groups->mesh.cp > 0) dtable = tensor_none();
    return op_modulation_backward(ctx->dev, dtable, de, sum);
}
