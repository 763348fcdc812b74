#include "core/model/attention.h"

#include "core/model/cross_attention.h"
#include "core/model/param_table.h"
#include "core/model/token_sums.h"

static int64_t context_tokens(const LayerContext *ctx)
{
    return tokens_of_context(&ctx->groups->mesh, ctx->tokens).count;
}

static Sequence sequence_of(const LayerContext *ctx)
{
    return (Sequence){ .ulysses = ctx->groups->ulysses,
                       .ring = ctx->groups->ring,
                       .chunks = ctx->chunks };
}

static SequenceShape sequence_shape(const LayerContext *ctx, int64_t batch)
{
    return (SequenceShape){ batch, ctx->tokens, layer_heads(ctx), ctx->config->attention_head_dim };
}

Status attention_acts_alloc(Arena *arena, const LayerContext *ctx, AttentionKind kind,
                            int64_t batch, int64_t k_rows, ActsPart part, AttentionActs *acts)
{
    const int64_t q_rows = context_tokens(ctx);
    const int64_t width = layer_heads(ctx) * ctx->config->attention_head_dim;
    const Shape q = SHAPE(batch, q_rows, width), k = SHAPE(batch, k_rows, width);
    if (part == ACTS_AGAIN) {
        TRY(tensor_alloc(arena, F32, q, "attention.q", &acts->q));
        return tensor_alloc(arena, F32, k, "attention.k", &acts->k);
    }
    TRY(tensor_alloc(arena, F32, q, "attention.q_raw", &acts->q_raw));
    TRY(tensor_alloc(arena, F32, k, "attention.k_raw", &acts->k_raw));
    TRY(tensor_alloc(arena, F32, k, "attention.v", &acts->v));
    TRY(tensor_alloc(arena, F32, q, "attention.out", &acts->out));
    TRY(tensor_alloc(arena, F32, SHAPE(batch * (q_rows + k_rows)), "attention.ss", &acts->ss));
    if (kind == ATTENTION_CROSS) {
        TRY(tensor_alloc(arena, F32, SHAPE(batch, layer_heads(ctx), q_rows), "attention.lse",
                         &acts->lse));
        return image_acts_alloc(arena, ctx, batch, q_rows, &acts->image);
    }
    const Sequence sequence = sequence_of(ctx);
    return sequence_acts_alloc(arena, &sequence, sequence_shape(ctx, batch), &acts->sequence);
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

static Status norm_q(const LayerContext *ctx, const Tensor *w, const AttentionActs *acts)
{
    return op_rmsnorm(ctx->dev, acts->q, acts->q_raw, q_rows(acts->ss, acts->q), w[ATTN_NORM_Q],
                      dit_width(ctx->config), (float)ctx->config->eps);
}

static Status norm_k(const LayerContext *ctx, const Tensor *w, const AttentionActs *acts)
{
    return op_rmsnorm(ctx->dev, acts->k, acts->k_raw, k_rows(acts->ss, acts->q, acts->k),
                      w[ATTN_NORM_K], dit_width(ctx->config), (float)ctx->config->eps);
}

Status attention_again(const LayerContext *ctx, AttentionKind kind, const Tensor *w,
                       const AttentionActs *acts)
{
    const Device *dev = ctx->dev;
    TRY(norm_q(ctx, w, acts));
    TRY(norm_k(ctx, w, acts));
    if (kind == ATTENTION_CROSS)
        return acts->image.k.data ? image_keys_again(ctx, w + ATTN_IMAGE, &acts->image) : OK;
    TRY(op_rope(dev, layer_by_heads(ctx, acts->q), ctx->rope, +1));
    return op_rope(dev, layer_by_heads(ctx, acts->k), ctx->rope, +1);
}

static Status attend(const LayerContext *ctx, AttentionKind kind, AttentionActs *acts,
                     Arena *scratch)
{
    if (kind == ATTENTION_CROSS) {
        TRY(cross_attention(ctx, acts->out, acts->lse, acts->q, acts->k, acts->v, scratch));
        if (!acts->image.k.data) return OK;
        return image_attend(ctx, acts->q, acts->out, &acts->image, scratch);
    }
    const Tensor q = layer_by_heads(ctx, acts->q), k = layer_by_heads(ctx, acts->k);
    const Tensor v = layer_by_heads(ctx, acts->v), out = layer_by_heads(ctx, acts->out);
    const Sequence sequence = sequence_of(ctx);
    return sequence_attention(ctx->dev, &sequence, sequence_shape(ctx, q.shape[0]),
                              layer_softmax_scale(ctx), out, q, k, v, &acts->sequence, scratch);
}

/* k and v before the norm, and this rank's share of k's sums of squares */
static Status raw_keys(const LayerContext *ctx, const Tensor *w, Tensor c,
                       const AttentionActs *acts)
{
    TRY(op_linear(ctx->dev, acts->k_raw, c, w[ATTN_K_W], w[ATTN_K_B]));
    TRY(op_linear(ctx->dev, acts->v, c, w[ATTN_V_W], w[ATTN_V_B]));
    return op_sum_squares_rows(ctx->dev, k_rows(acts->ss, acts->q, acts->k), acts->k_raw,
                               layer_parts(ctx));
}

/* Keys and values of image tokens, where the model reads them. */
static Status keys_of_image(const LayerContext *ctx, const Tensor *w, Tensor image,
                            const AttentionActs *acts)
{
    return image.data ? image_keys(ctx, w + ATTN_IMAGE, image, &acts->image) : OK;
}

Status attention_keys(const LayerContext *ctx, const Tensor *w, Condition c,
                      const AttentionActs *acts)
{
    TRY(raw_keys(ctx, w, c.text, acts));
    TRY(group_all_reduce(ctx->groups->tensor, k_rows(acts->ss, acts->q, acts->k)));
    TRY(norm_k(ctx, w, acts));
    return keys_of_image(ctx, w, c.image, acts);
}

/* What the output product reads. */
static Tensor attended(const AttentionActs *acts)
{
    return acts->image.sum.data ? acts->image.sum : acts->out;
}

Status attention_forward(const LayerContext *ctx, AttentionKind kind, const Tensor *w, Tensor y,
                         Tensor x, Condition c, AttentionActs *acts, Arena *scratch)
{
    const Tensor q_squares = q_rows(acts->ss, acts->q);
    TRY(op_linear(ctx->dev, acts->q_raw, x, w[ATTN_Q_W], w[ATTN_Q_B]));
    if (!acts->keys_kept) {
        TRY(raw_keys(ctx, w, c.text, acts));
        TRY(keys_of_image(ctx, w, c.image, acts));
    }

    /* RMSNorm over the full width, before the split into heads */
    TRY(op_sum_squares_rows(ctx->dev, q_squares, acts->q_raw, layer_parts(ctx)));
    TRY(group_all_reduce(ctx->groups->tensor, acts->keys_kept ? q_squares : acts->ss));
    TRY(acts->keys_kept ? norm_q(ctx, w, acts) : attention_again(ctx, kind, w, acts));
    TRY(attend(ctx, kind, acts, scratch));
    return layer_cut_linear(ctx, y, attended(acts), w[ATTN_O_W], w[ATTN_O_B], scratch);
}

/* dq, dk, dv before the norms, from the gradient of what attention returned */
static Status attend_backward(const LayerContext *ctx, AttentionKind kind, Tensor dq, Tensor dk,
                              Tensor dv, Tensor dout, const AttentionActs *acts, Arena *scratch)
{
    if (kind == ATTENTION_CROSS) {
        const CrossGradients grads = { dq, dk, dv };
        return cross_attention_backward(ctx, &grads, dout, acts->q, acts->k, acts->v, acts->out,
                                        acts->lse, scratch);
    }
    const Tensor dq_heads = layer_by_heads(ctx, dq), dk_heads = layer_by_heads(ctx, dk);
    const Sequence sequence = sequence_of(ctx);
    TRY(sequence_attention_backward(
        ctx->dev, &sequence, sequence_shape(ctx, dq.shape[0]), layer_softmax_scale(ctx), dq_heads,
        dk_heads, layer_by_heads(ctx, dv), layer_by_heads(ctx, dout), &acts->sequence, scratch));
    TRY(op_rope(ctx->dev, dq_heads, ctx->rope, -1));
    return op_rope(ctx->dev, dk_heads, ctx->rope, -1);
}

/* dq and dk through the norms, in place; their backward needs sum(dy w x) over all heads, hence
 * over all tensor ranks */
static Status norms_backward(const LayerContext *ctx, TokenSpan keys, const Tensor *w,
                             const Tensor *g, Tensor dq, Tensor dk, const AttentionActs *acts,
                             Arena *scratch)
{
    const Device *dev = ctx->dev;
    const size_t mark = arena_mark(scratch);
    Tensor dots; /* as acts' ss */
    TRY(tensor_alloc(scratch, F32, SHAPE(tensor_count(acts->ss)), "attention.dots", &dots));
    const Tensor dot_q = q_rows(dots, dq), dot_k = k_rows(dots, dq, dk);
    TRY(op_rmsnorm_dot(dev, dot_q, dq, acts->q_raw, w[ATTN_NORM_Q], layer_parts(ctx)));
    TRY(op_rmsnorm_dot(dev, dot_k, dk, acts->k_raw, w[ATTN_NORM_K], layer_parts(ctx)));
    TRY(group_all_reduce(ctx->groups->tensor, dots));
    TRY(token_sums_rmsnorm(ctx, SPAN_CONTEXT, dq, g[ATTN_NORM_Q], acts->q_raw, q_rows(acts->ss, dq),
                           dot_q, w[ATTN_NORM_Q]));
    TRY(token_sums_rmsnorm(ctx, keys, dk, g[ATTN_NORM_K], acts->k_raw, k_rows(acts->ss, dq, dk),
                           dot_k, w[ATTN_NORM_K]));
    arena_release(scratch, mark);
    return OK;
}

Status attention_backward(const LayerContext *ctx, AttentionKind kind, const Tensor *w,
                          const Tensor *g, Tensor dx, Condition dc, Tensor dy, Tensor x,
                          Condition from, const AttentionActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const Tensor c = from.text;
    const size_t mark = arena_mark(scratch);
    Tensor dq, dk, dv, dout, full; /* as acts' q, k, v, out; dy of all context tokens */
    const Shape q_shape = SHAPE(x.shape[0], x.shape[1], acts->q_raw.shape[2]);
    const Shape k_shape = SHAPE(c.shape[0], c.shape[1], acts->k_raw.shape[2]);
    TRY(tensor_alloc(scratch, F32, q_shape, "attention.dq", &dq));
    TRY(tensor_alloc(scratch, F32, k_shape, "attention.dk", &dk));
    TRY(tensor_alloc(scratch, F32, k_shape, "attention.dv", &dv));

    const size_t out_mark = arena_mark(scratch);
    TRY(tensor_alloc(scratch, F32, q_shape, "attention.dout", &dout));
    TRY(layer_full_alloc(ctx, scratch, dy, "attention.dy", &full));
    TRY(layer_gather(ctx, full, dy));
    TRY(op_linear_backward_input(dev, dout, full, w[ATTN_O_W], false));
    TRY(token_sums_linear(ctx, SPAN_CONTEXT, g[ATTN_O_W], g[ATTN_O_B], attended(acts), full));
    TRY(attend_backward(ctx, kind, dq, dk, dv, dout, acts, scratch));
    if (from.image.data && kind == ATTENTION_CROSS)
        TRY(image_backward(ctx, w + ATTN_IMAGE, g + ATTN_IMAGE, dq, dc.image, dout, acts->q,
                           from.image, &acts->image, scratch));
    arena_release(scratch, out_mark);

    const TokenSpan keys = kind == ATTENTION_SELF ? SPAN_CONTEXT : SPAN_WHOLE;
    TRY(norms_backward(ctx, keys, w, g, dq, dk, acts, scratch));
    TRY(token_sums_linear(ctx, SPAN_CONTEXT, g[ATTN_Q_W], g[ATTN_Q_B], x, dq));
    TRY(token_sums_linear(ctx, keys, g[ATTN_K_W], g[ATTN_K_B], c, dk));
    TRY(token_sums_linear(ctx, keys, g[ATTN_V_W], g[ATTN_V_B], c, dv));
    const LinearPair pairs[] = { { dq, w[ATTN_Q_W] }, { dk, w[ATTN_K_W] }, { dv, w[ATTN_V_W] } };
    TRY(layer_cut_backward_input(ctx, dx, pairs, kind == ATTENTION_SELF ? 3 : 1, scratch));
    if (kind == ATTENTION_CROSS)
        TRY(layer_text_backward_input(ctx, dc.text, pairs + 1, 2, scratch));
    arena_release(scratch, mark);
    return OK;
}

Status attention_scratch(const LayerContext *ctx, AttentionKind kind, int64_t batch, int64_t k_rows,
                         size_t *bytes)
{
    const int64_t q_rows = context_tokens(ctx);
    const int64_t width = layer_heads(ctx) * ctx->config->attention_head_dim;
    const TokenRange own = tokens_of_rank(&ctx->groups->mesh, ctx->tokens);
    const Tensor stream = tensor_of(NULL, F32, SHAPE(batch, own.count, dit_width(ctx->config)));
    const Sequence sequence = sequence_of(ctx);
    Arena count = arena_counting("scratch");
    Tensor t;
    void *tiles;
    TRY(tensor_alloc(&count, F32, SHAPE(batch, q_rows, width), "attention.dq", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(batch, k_rows, width), "attention.dk", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(batch, k_rows, width), "attention.dv", &t));
    const size_t mark = arena_mark(&count);
    TRY(tensor_alloc(&count, F32, SHAPE(batch, q_rows, width), "attention.dout", &t));
    TRY(layer_full_alloc(ctx, &count, stream, "attention.dy", &t));
    const SequenceShape shape = sequence_shape(ctx, batch);
    const size_t softmax = kind == ATTENTION_SELF
                               ? sequence_scratch(ctx->dev, &sequence, shape)
                               : cross_attention_scratch(ctx, batch, q_rows, k_rows);
    const size_t inner = arena_mark(&count);
    TRY(arena_alloc(&count, softmax, "attention tiles", &tiles));
    arena_release(&count, inner);
    if (kind == ATTENTION_CROSS) TRY(image_scratch(ctx, &count, batch, q_rows));
    arena_release(&count, mark);
    TRY(tensor_alloc(&count, F32, SHAPE(batch * (q_rows + k_rows)), "attention.dots", &t));
    arena_release(&count, mark);
    TRY(layer_full_alloc(ctx, &count, stream, "layer.full", &t));
    arena_release(&count, mark);
    if (kind == ATTENTION_CROSS && ctx->chunks > 0)
        TRY(tensor_alloc(&count, F32, SHAPE(batch, k_rows, dit_width(ctx->config)), "layer.text",
                         &t));
    *bytes = count.peak;
    return OK;
}
