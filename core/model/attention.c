#include "core/model/attention.h"

#include "core/model/param_table.h"

#include <math.h>

Status attention_acts_alloc(Arena *arena, const DitConfig *config, int tensor_size, int64_t batch,
                            int64_t q_tokens, int64_t k_tokens, AttentionActs *acts)
{
    const int64_t heads = config->num_attention_heads / tensor_size;
    const int64_t width = heads * config->attention_head_dim;
    const Shape q = SHAPE(batch, q_tokens, width), k = SHAPE(batch, k_tokens, width);
    TRY(tensor_alloc(arena, F32, q, "attention.q_raw", &acts->q_raw));
    TRY(tensor_alloc(arena, F32, q, "attention.q", &acts->q));
    TRY(tensor_alloc(arena, F32, q, "attention.out", &acts->out));
    TRY(tensor_alloc(arena, F32, k, "attention.k_raw", &acts->k_raw));
    TRY(tensor_alloc(arena, F32, k, "attention.k", &acts->k));
    TRY(tensor_alloc(arena, F32, k, "attention.v", &acts->v));
    TRY(tensor_alloc(arena, F32, SHAPE(batch * (q_tokens + k_tokens)), "attention.ss", &acts->ss));
    return tensor_alloc(arena, F32, SHAPE(batch, heads, q_tokens), "attention.lse", &acts->lse);
}

/* (batch, tokens, local width) seen as (batch, tokens, heads, head_dim) */
static Tensor by_heads(const AttentionContext *ctx, Tensor t)
{
    const int64_t head_dim = ctx->config->attention_head_dim;
    return tensor_reshape(t, SHAPE(t.shape[0], t.shape[1], t.shape[2] / head_dim, head_dim));
}

/* The rows of q, then those of k, in one tensor: one all-reduce serves both norms. */
static Tensor q_rows(Tensor both, Tensor q)
{
    return tensor_slice(both, 0, q.shape[0] * q.shape[1]);
}

static Tensor k_rows(Tensor both, Tensor q, Tensor k)
{
    return tensor_slice(both, q.shape[0] * q.shape[1], k.shape[0] * k.shape[1]);
}

static AttentionOptions softmax_options(const AttentionContext *ctx)
{
    return (AttentionOptions){ .scale = 1.0f / sqrtf((float)ctx->config->attention_head_dim),
                               .rel_bias = tensor_none(),
                               .key_lengths = tensor_none() };
}

Status attention_forward(const AttentionContext *ctx, const Tensor *w, Tensor y, Tensor x, Tensor c,
                         AttentionActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const int64_t width = dit_width(ctx->config);
    const float eps = (float)ctx->config->eps;

    TRY(op_linear(dev, acts->q_raw, x, w[ATTN_Q_W], w[ATTN_Q_B]));
    TRY(op_linear(dev, acts->k_raw, c, w[ATTN_K_W], w[ATTN_K_B]));
    TRY(op_linear(dev, acts->v, c, w[ATTN_V_W], w[ATTN_V_B]));

    /* RMSNorm over the full width, before the split into heads */
    const Tensor ss_q = q_rows(acts->ss, x), ss_k = k_rows(acts->ss, x, c);
    TRY(op_sum_squares_rows(dev, ss_q, acts->q_raw));
    TRY(op_sum_squares_rows(dev, ss_k, acts->k_raw));
    TRY(group_all_reduce(ctx->tensor, acts->ss));
    TRY(op_rmsnorm(dev, acts->q, acts->q_raw, ss_q, w[ATTN_NORM_Q], width, eps));
    TRY(op_rmsnorm(dev, acts->k, acts->k_raw, ss_k, w[ATTN_NORM_K], width, eps));
    const Tensor q = by_heads(ctx, acts->q), k = by_heads(ctx, acts->k);
    if (ctx->rope.data) {
        TRY(op_rope(dev, q, ctx->rope, +1));
        TRY(op_rope(dev, k, ctx->rope, +1));
    }
    const AttentionOptions options = softmax_options(ctx);
    TRY(op_attention(dev, by_heads(ctx, acts->out), acts->lse, q, k, by_heads(ctx, acts->v),
                     &options, scratch));

    /* the heads' shares of the output are summed; the bias is added on one rank only */
    TRY(op_linear(dev, y, acts->out, w[ATTN_O_W],
                  ctx->tensor->rank == 0 ? w[ATTN_O_B] : tensor_none()));
    return group_all_reduce(ctx->tensor, y);
}

Status attention_backward(const AttentionContext *ctx, const Tensor *w, const Tensor *g, Tensor dx,
                          Tensor dc, Tensor dy, Tensor x, Tensor c, const AttentionActs *acts,
                          Arena *scratch)
{
    const Device *dev = ctx->dev;
    const int64_t width = dit_width(ctx->config);
    const float eps = (float)ctx->config->eps;
    const size_t mark = arena_mark(scratch);

    Tensor dout, dq, dk, dv, dots; /* as acts' out, q, k, v, ss */
    const Shape q_shape = SHAPE(x.shape[0], x.shape[1], acts->q.shape[2]);
    const Shape k_shape = SHAPE(c.shape[0], c.shape[1], acts->k.shape[2]);
    TRY(tensor_alloc(scratch, F32, q_shape, "attention.dout", &dout));
    TRY(tensor_alloc(scratch, F32, q_shape, "attention.dq", &dq));
    TRY(tensor_alloc(scratch, F32, k_shape, "attention.dk", &dk));
    TRY(tensor_alloc(scratch, F32, k_shape, "attention.dv", &dv));
    TRY(tensor_alloc(scratch, F32, SHAPE(tensor_count(acts->ss)), "attention.dots", &dots));

    TRY(op_linear_backward_input(dev, dout, dy, w[ATTN_O_W], false));
    TRY(weight_grads_linear(ctx->later, dev, g[ATTN_O_W], g[ATTN_O_B], acts->out, dy));
    const AttentionOptions options = softmax_options(ctx);
    TRY(op_attention_backward(dev, by_heads(ctx, dq), by_heads(ctx, dk), by_heads(ctx, dv),
                              tensor_none(), by_heads(ctx, dout), by_heads(ctx, acts->q),
                              by_heads(ctx, acts->k), by_heads(ctx, acts->v),
                              by_heads(ctx, acts->out), acts->lse, &options, scratch));
    if (ctx->rope.data) {
        TRY(op_rope(dev, by_heads(ctx, dq), ctx->rope, -1));
        TRY(op_rope(dev, by_heads(ctx, dk), ctx->rope, -1));
    }

    /* the norm's backward needs sum(dy w x) over all heads, hence over all tensor ranks */
    const Tensor ss_q = q_rows(acts->ss, x), ss_k = k_rows(acts->ss, x, c);
    const Tensor dot_q = q_rows(dots, x), dot_k = k_rows(dots, x, c);
    TRY(op_rmsnorm_dot(dev, dot_q, dq, acts->q_raw, w[ATTN_NORM_Q]));
    TRY(op_rmsnorm_dot(dev, dot_k, dk, acts->k_raw, w[ATTN_NORM_K]));
    TRY(group_all_reduce(ctx->tensor, dots));
    TRY(op_rmsnorm_backward(dev, dq, g[ATTN_NORM_Q], dq, acts->q_raw, ss_q, dot_q, w[ATTN_NORM_Q],
                            width, eps, false));
    TRY(op_rmsnorm_backward(dev, dk, g[ATTN_NORM_K], dk, acts->k_raw, ss_k, dot_k, w[ATTN_NORM_K],
                            width, eps, false));

    const bool cross = dc.data != NULL;
    const Tensor dkv = cross ? dc : dx;
    TRY(op_linear_backward_input(dev, dx, dq, w[ATTN_Q_W], false));
    TRY(op_linear_backward_input(dev, dkv, dk, w[ATTN_K_W], true));
    TRY(op_linear_backward_input(dev, dkv, dv, w[ATTN_V_W], true));
    TRY(weight_grads_linear(ctx->later, dev, g[ATTN_Q_W], g[ATTN_Q_B], x, dq));
    TRY(weight_grads_linear(ctx->later, dev, g[ATTN_K_W], g[ATTN_K_B], c, dk));
    TRY(weight_grads_linear(ctx->later, dev, g[ATTN_V_W], g[ATTN_V_B], c, dv));
    arena_release(scratch, mark);
    return group_all_reduce(ctx->tensor, dx);
}
