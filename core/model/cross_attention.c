#include "core/model/cross_attention.h"

#include "core/parallel/sequence.h"

static AttentionOptions options_of(const LayerContext *ctx)
{
    return (AttentionOptions){ .scale = layer_softmax_scale(ctx),
                               .rel_bias = tensor_none(),
                               .key_lengths = tensor_none() };
}

static Sequence context_as_ring(const LayerContext *ctx)
{
    return (
        Sequence){ .ulysses = group_alone(), .ring = ctx->groups->context, .chunks = ctx->chunks };
}

static SequenceShape shape_of(const LayerContext *ctx, int64_t batch)
{
    return (SequenceShape){ batch, ctx->tokens, layer_heads(ctx), ctx->config->attention_head_dim };
}

Status cross_attention(const LayerContext *ctx, Tensor out, Tensor lse, Tensor q, Tensor k,
                       Tensor v, Arena *scratch)
{
    const AttentionOptions options = options_of(ctx);
    return op_attention(ctx->dev, layer_by_heads(ctx, out), lse, layer_by_heads(ctx, q),
                        layer_by_heads(ctx, k), layer_by_heads(ctx, v), &options, scratch);
}

Status cross_attention_backward(const LayerContext *ctx, const CrossGradients *out, Tensor dout,
                                Tensor q, Tensor k, Tensor v, Tensor attended, Tensor lse,
                                Arena *scratch)
{
    const Tensor dq = layer_by_heads(ctx, out->dq), dk = layer_by_heads(ctx, out->dk);
    const Tensor dv = layer_by_heads(ctx, out->dv);
    if (ctx->chunks > 0) {
        /* keys are on every context rank: their gradient is summed over all queries at once */
        const Sequence over = context_as_ring(ctx);
        const SequenceActs queries = { .q = layer_by_heads(ctx, q),
                                       .out = layer_by_heads(ctx, attended),
                                       .lse = lse };
        return sequence_cross_backward(ctx->dev, &over, shape_of(ctx, q.shape[0]),
                                       layer_softmax_scale(ctx), dq, dk, dv,
                                       layer_by_heads(ctx, dout), layer_by_heads(ctx, k),
                                       layer_by_heads(ctx, v), &queries, scratch);
    }
    const AttentionOptions options = options_of(ctx);
    return op_attention_backward(ctx->dev, dq, dk, dv, tensor_none(), layer_by_heads(ctx, dout),
                                 layer_by_heads(ctx, q), layer_by_heads(ctx, k),
                                 layer_by_heads(ctx, v), layer_by_heads(ctx, attended), lse,
                                 &options, scratch);
}

size_t cross_attention_scratch(const LayerContext *ctx, int64_t batch, int64_t q_rows,
                               int64_t k_rows)
{
    const Sequence over = context_as_ring(ctx);
    const size_t tiles = op_attention_scratch(ctx->dev, batch, layer_heads(ctx), q_rows, k_rows,
                                              ctx->config->attention_head_dim);
    if (ctx->chunks == 0) return tiles;
    return tiles + sequence_cross_scratch(ctx->dev, &over, shape_of(ctx, batch), k_rows);
}
