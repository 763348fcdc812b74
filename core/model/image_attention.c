#include "core/model/image_attention.h"

#include "core/model/cross_attention.h"
#include "core/model/param_table.h"
#include "core/model/token_sums.h"

enum { K_W, K_B, V_W, V_B, NORM_K }; /* from IMAGE_K_W on */

Status image_acts_alloc(Arena *arena, const LayerContext *ctx, int64_t batch, int64_t q_rows,
                        ImageActs *acts)
{
    const int64_t rows = ctx->config->image_rows, heads = layer_heads(ctx);
    const int64_t width = heads * ctx->config->attention_head_dim;
    const Shape q = SHAPE(batch, q_rows, width), k = SHAPE(batch, rows, width);
    if (rows == 0) return OK;
    TRY(tensor_alloc(arena, F32, k, "image.k_raw", &acts->k_raw));
    TRY(tensor_alloc(arena, F32, k, "image.k", &acts->k));
    TRY(tensor_alloc(arena, F32, k, "image.v", &acts->v));
    TRY(tensor_alloc(arena, F32, SHAPE(batch * rows), "image.ss", &acts->ss));
    TRY(tensor_alloc(arena, F32, q, "image.out", &acts->out));
    TRY(tensor_alloc(arena, F32, q, "image.sum", &acts->sum));
    return tensor_alloc(arena, F32, SHAPE(batch, heads, q_rows), "image.lse", &acts->lse);
}

/* dq, dk, dv: what the backward makes. */
static Status gradients_alloc(const LayerContext *ctx, Arena *arena, int64_t batch, int64_t q_rows,
                              Tensor *dq, Tensor *dk, Tensor *dv)
{
    const int64_t rows = ctx->config->image_rows;
    const int64_t width = layer_heads(ctx) * ctx->config->attention_head_dim;
    TRY(tensor_alloc(arena, F32, SHAPE(batch, rows, width), "image.dk", dk));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, rows, width), "image.dv", dv));
    return tensor_alloc(arena, F32, SHAPE(batch, q_rows, width), "image.dq", dq);
}

Status image_scratch(const LayerContext *ctx, Arena *count, int64_t batch, int64_t q_rows)
{
    const int64_t rows = ctx->config->image_rows;
    const size_t mark = arena_mark(count);
    Tensor dq, dk, dv, t;
    void *part;
    if (rows == 0) return OK;
    TRY(gradients_alloc(ctx, count, batch, q_rows, &dq, &dk, &dv));
    const size_t inner = arena_mark(count);
    TRY(arena_alloc(count, cross_attention_scratch(ctx, batch, q_rows, rows), "attention tiles",
                    &part));
    arena_release(count, inner);
    TRY(tensor_alloc(count, F32, SHAPE(batch * rows), "image.dots", &t));
    TRY(tensor_alloc(count, F32, SHAPE(batch, rows, dit_width(ctx->config)), "layer.text", &t));
    arena_release(count, mark);
    return OK;
}

Status image_keys_again(const LayerContext *ctx, const Tensor *w, const ImageActs *acts)
{
    return op_rmsnorm(ctx->dev, acts->k, acts->k_raw, acts->ss, w[NORM_K], dit_width(ctx->config),
                      (float)ctx->config->eps);
}

Status image_keys(const LayerContext *ctx, const Tensor *w, Tensor image, const ImageActs *acts)
{
    TRY(op_linear(ctx->dev, acts->k_raw, image, w[K_W], w[K_B]));
    TRY(op_linear(ctx->dev, acts->v, image, w[V_W], w[V_B]));
    TRY(op_sum_squares_rows(ctx->dev, acts->ss, acts->k_raw, layer_parts(ctx)));
    TRY(group_all_reduce(ctx->groups->tensor, acts->ss));
    return image_keys_again(ctx, w, acts);
}

Status image_attend(const LayerContext *ctx, Tensor q, Tensor text_out, const ImageActs *acts,
                    Arena *scratch)
{
    TRY(cross_attention(ctx, acts->out, acts->lse, q, acts->k, acts->v, scratch));
    TRY(op_convert(ctx->dev, acts->sum, text_out));
    return op_axpby(ctx->dev, acts->sum, 1.0f, acts->out, 1.0f);
}

/* dk through the norm, in place. */
static Status norm_backward(const LayerContext *ctx, const Tensor *w, const Tensor *g, Tensor dk,
                            const ImageActs *acts, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor dots; /* as acts->ss */
    TRY(tensor_alloc(scratch, F32, SHAPE(tensor_count(acts->ss)), "image.dots", &dots));
    TRY(op_rmsnorm_dot(ctx->dev, dots, dk, acts->k_raw, w[NORM_K], layer_parts(ctx)));
    TRY(group_all_reduce(ctx->groups->tensor, dots));
    TRY(token_sums_rmsnorm(ctx, SPAN_WHOLE, dk, g[NORM_K], acts->k_raw, acts->ss, dots, w[NORM_K]));
    arena_release(scratch, mark);
    return OK;
}

Status image_backward(const LayerContext *ctx, const Tensor *w, const Tensor *g, Tensor dq,
                      Tensor dimage, Tensor dout, Tensor q, Tensor image, const ImageActs *acts,
                      Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor part, dk, dv; /* as q; as acts' k, v */
    TRY(gradients_alloc(ctx, scratch, q.shape[0], q.shape[1], &part, &dk, &dv));
    const CrossGradients grads = { part, dk, dv };
    TRY(cross_attention_backward(ctx, &grads, dout, q, acts->k, acts->v, acts->out, acts->lse,
                                 scratch));
    TRY(op_axpby(ctx->dev, dq, 1.0f, part, 1.0f));
    TRY(norm_backward(ctx, w, g, dk, acts, scratch));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[K_W], g[K_B], image, dk));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[V_W], g[V_B], image, dv));
    const LinearPair pairs[] = { { dk, w[K_W] }, { dv, w[V_W] } };
    TRY(layer_text_backward_input(ctx, dimage, pairs, 2, scratch));
    arena_release(scratch, mark);
    return OK;
}
