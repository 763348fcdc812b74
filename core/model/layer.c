#include "core/model/layer.h"

#include <math.h>

int64_t layer_heads(const LayerContext *ctx)
{
    return ctx->config->num_attention_heads / ctx->groups->mesh.shape.tensor;
}

float layer_softmax_scale(const LayerContext *ctx)
{
    return 1.0f / sqrtf((float)ctx->config->attention_head_dim);
}

Tensor layer_by_heads(const LayerContext *ctx, Tensor t)
{
    const int64_t head_dim = ctx->config->attention_head_dim;
    return tensor_reshape(t, SHAPE(t.shape[0], t.shape[1], t.shape[2] / head_dim, head_dim));
}

/* Floats of every tensor rank's tokens of one sample; returns its own. */
static int64_t counts_of_ranks(const LayerContext *ctx, int64_t width, int64_t *counts)
{
    Mesh mesh = ctx->groups->mesh;
    for (mesh.tp = 0; mesh.tp < mesh.shape.tensor; mesh.tp++)
        counts[mesh.tp] = tokens_of_rank(&mesh, ctx->tokens).count * width;
    return counts[ctx->groups->mesh.tp];
}

Status layer_own_alloc(const LayerContext *ctx, Arena *arena, Tensor full, const char *name,
                       Tensor *own)
{
    const int64_t tokens = tokens_of_rank(&ctx->groups->mesh, ctx->tokens).count;
    *own = full;
    if (ctx->groups->tensor->size == 1) return OK;
    return tensor_alloc(arena, F32, SHAPE(full.shape[0], tokens, full.shape[2]), name, own);
}

Status layer_full_alloc(const LayerContext *ctx, Arena *arena, Tensor own, const char *name,
                        Tensor *full)
{
    const int64_t tokens = tokens_of_context(&ctx->groups->mesh, ctx->tokens).count;
    *full = own;
    if (ctx->groups->tensor->size == 1) return OK;
    return tensor_alloc(arena, F32, SHAPE(own.shape[0], tokens, own.shape[2]), name, full);
}

Status layer_gather(const LayerContext *ctx, Tensor full, Tensor own)
{
    int64_t counts[MESH_MOST_TENSOR];
    if (ctx->groups->tensor->size == 1) return OK;
    (void)counts_of_ranks(ctx, full.shape[2], counts);
    for (int64_t b = 0; b < full.shape[0]; b++)
        TRY(group_all_gather_v(ctx->groups->tensor, tensor_at(full, b), tensor_at(own, b), counts));
    return OK;
}

Status layer_scatter(const LayerContext *ctx, Tensor own, Tensor full)
{
    int64_t counts[MESH_MOST_TENSOR];
    if (ctx->groups->tensor->size == 1) return OK;
    (void)counts_of_ranks(ctx, full.shape[2], counts);
    for (int64_t b = 0; b < full.shape[0]; b++)
        TRY(group_reduce_scatter_v(ctx->groups->tensor, tensor_at(own, b), tensor_at(full, b),
                                   counts));
    return OK;
}

int layer_parts(const LayerContext *ctx)
{
    return ctx->chunks > 0 ? ctx->chunks / ctx->groups->mesh.shape.tensor : 1;
}

Status layer_cut_linear(const LayerContext *ctx, Tensor y, Tensor x, Tensor w, Tensor b,
                        Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const bool exact = ctx->chunks > 0;
    Tensor full;
    TRY(layer_full_alloc(ctx, scratch, y, "layer.full", &full));
    /* fast: the bias rides on one rank's product; exact: it joins the whole sum */
    if (exact)
        TRY(op_linear_cut(ctx->dev, full, x, w, layer_parts(ctx)));
    else
        TRY(op_linear(ctx->dev, full, x, w, ctx->groups->mesh.tp == 0 ? b : tensor_none()));
    TRY(layer_scatter(ctx, y, full));
    arena_release(scratch, mark);
    return exact ? op_add_bias(ctx->dev, y, b) : OK;
}

Status layer_cut_backward_input(const LayerContext *ctx, Tensor dx, const LinearPair *pairs,
                                int count, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor full;
    TRY(layer_full_alloc(ctx, scratch, dx, "layer.full", &full));
    TRY(op_linear_cut_backward_input(ctx->dev, full, pairs, count, layer_parts(ctx), false));
    TRY(layer_scatter(ctx, dx, full));
    arena_release(scratch, mark);
    return OK;
}

Status layer_text_backward_input(const LayerContext *ctx, Tensor dc, const LinearPair *pairs,
                                 int count, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor sum;
    if (ctx->chunks == 0) return op_linear_cut_backward_input(ctx->dev, dc, pairs, count, 1, true);
    TRY(tensor_alloc(scratch, F32, SHAPE(dc.shape[0], dc.shape[1], dc.shape[2]), "layer.text",
                     &sum));
    TRY(op_linear_cut_backward_input(ctx->dev, sum, pairs, count, layer_parts(ctx), false));
    TRY(group_all_reduce(ctx->groups->tensor, sum));
    TRY(op_axpby(ctx->dev, dc, 1.0f, sum, 1.0f));
    arena_release(scratch, mark);
    return OK;
}
