#include "core/model/block.h"

/* rows of the modulation table (spec 4.5) */
enum { SHIFT1, SCALE1, GATE1, SHIFT2, SCALE2, GATE2, MOD_ROWS };

Status block_acts_alloc(Arena *arena, const DitConfig *config, int tensor_size, BlockShape shape,
                        BlockActs *acts)
{
    const int64_t width = dit_width(config);
    const Shape stream = SHAPE(shape.batch, shape.tokens, width);
    const Shape hidden = SHAPE(shape.batch, shape.tokens, config->ffn_dim / tensor_size);
    const Shape rows = SHAPE(shape.batch, shape.tokens);
    struct {
        Tensor *tensor;
        const Shape *shape;
        const char *name;
    } const plan[] = {
        { &acts->a, &stream, "block.a" },        { &acts->b, &stream, "block.b" },
        { &acts->c, &stream, "block.c" },        { &acts->y1, &stream, "block.y1" },
        { &acts->y3, &stream, "block.y3" },      { &acts->x1, &stream, "block.x1" },
        { &acts->x2, &stream, "block.x2" },      { &acts->x3, &stream, "block.x3" },
        { &acts->h, &hidden, "block.h" },        { &acts->gelu, &hidden, "block.gelu" },
        { &acts->mean[0], &rows, "block.mean" }, { &acts->rstd[0], &rows, "block.rstd" },
        { &acts->mean[1], &rows, "block.mean" }, { &acts->rstd[1], &rows, "block.rstd" },
        { &acts->mean[2], &rows, "block.mean" }, { &acts->rstd[2], &rows, "block.rstd" },
    };
    for (size_t i = 0; i < sizeof plan / sizeof plan[0]; i++)
        TRY(tensor_alloc(arena, F32, *plan[i].shape, plan[i].name, plan[i].tensor));
    TRY(tensor_alloc(arena, F32, SHAPE(MOD_ROWS, shape.batch, width), "block.mod", &acts->mod));
    TRY(attention_acts_alloc(arena, config, tensor_size, shape.batch, shape.tokens, shape.tokens,
                             &acts->attn1));
    return attention_acts_alloc(arena, config, tensor_size, shape.batch, shape.tokens, shape.text,
                                &acts->attn2);
}

static AttentionContext attention_context(const BlockContext *ctx, Tensor rope)
{
    return (AttentionContext){ .dev = ctx->dev,
                               .tensor = ctx->tensor,
                               .config = ctx->config,
                               .rope = rope,
                               .later = ctx->later };
}

static Tensor modulation_table(Tensor table)
{
    return tensor_at(table, 0); /* (1, 6, width) -> (6, width) */
}

Status block_forward(const BlockContext *ctx, const BlockWeights *weights, Tensor x0, Tensor text,
                     Tensor e0, BlockActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const Tensor *w = weights->at;
    const float eps = (float)ctx->config->eps;
    const AttentionContext self = attention_context(ctx, ctx->rope);
    const AttentionContext cross = attention_context(ctx, tensor_none());
    const Tensor mod = acts->mod;
    TRY(op_modulation(dev, mod, modulation_table(w[BLOCK_MODULATION]), e0));

    TRY(op_layernorm_modulate(dev, acts->a, acts->mean[0], acts->rstd[0], x0,
                              tensor_at(mod, SHIFT1), tensor_at(mod, SCALE1), eps));
    TRY(attention_forward(&self, &w[ATTN1_Q_W], acts->y1, acts->a, acts->a, &acts->attn1, scratch));
    TRY(op_gate_residual(dev, acts->x1, x0, acts->y1, tensor_at(mod, GATE1)));

    /* cross-attention has no gate: its output joins the stream as it is */
    TRY(op_layernorm(dev, acts->b, acts->mean[1], acts->rstd[1], acts->x1, w[NORM2_W], w[NORM2_B],
                     eps));
    TRY(attention_forward(&cross, &w[ATTN2_Q_W], acts->x2, acts->b, text, &acts->attn2, scratch));
    TRY(op_axpby(dev, acts->x2, 1.0f, acts->x1, 1.0f));

    TRY(op_layernorm_modulate(dev, acts->c, acts->mean[2], acts->rstd[2], acts->x2,
                              tensor_at(mod, SHIFT2), tensor_at(mod, SCALE2), eps));
    TRY(op_linear(dev, acts->h, acts->c, w[FFN1_W], w[FFN1_B]));
    TRY(op_gelu(dev, acts->gelu, acts->h));
    TRY(op_linear(dev, acts->y3, acts->gelu, w[FFN2_W],
                  ctx->tensor->rank == 0 ? w[FFN2_B] : tensor_none()));
    TRY(group_all_reduce(ctx->tensor, acts->y3));
    return op_gate_residual(dev, acts->x3, acts->x2, acts->y3, tensor_at(mod, GATE2));
}

Status block_backward(const BlockContext *ctx, const BlockWeights *weights,
                      const BlockWeights *grads, Tensor dx, Tensor dtext, Tensor de0, Tensor x0,
                      Tensor text, const BlockActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const Tensor *w = weights->at, *g = grads->at;
    const AttentionContext self = attention_context(ctx, ctx->rope);
    const AttentionContext cross = attention_context(ctx, tensor_none());
    const Tensor mod = acts->mod;
    const Shape stream = SHAPE(dx.shape[0], dx.shape[1], dx.shape[2]);
    const size_t mark = arena_mark(scratch);
    Tensor dmod, dy, dn, dh; /* (6, batch, width); (batch, tokens, width) twice; as acts->h */
    TRY(tensor_alloc(scratch, F32, SHAPE(MOD_ROWS, dx.shape[0], dx.shape[2]), "block.dmod", &dmod));
    TRY(tensor_alloc(scratch, F32, stream, "block.dy", &dy));
    TRY(tensor_alloc(scratch, F32, stream, "block.dn", &dn));

    /* FFN */
    const size_t ffn_mark = arena_mark(scratch);
    TRY(tensor_alloc(scratch, F32, SHAPE(dx.shape[0], dx.shape[1], acts->h.shape[2]), "block.dh",
                     &dh));
    TRY(op_gate_residual_backward(dev, dy, tensor_at(dmod, GATE2), dx, acts->y3,
                                  tensor_at(mod, GATE2)));
    TRY(op_linear_backward_input(dev, dh, dy, w[FFN2_W], false));
    TRY(weight_grads_linear(ctx->later, dev, g[FFN2_W], g[FFN2_B], acts->gelu, dy));
    TRY(op_gelu_backward(dev, dh, dh, acts->h));
    TRY(op_linear_backward_input(dev, dn, dh, w[FFN1_W], false));
    TRY(weight_grads_linear(ctx->later, dev, g[FFN1_W], g[FFN1_B], acts->c, dh));
    TRY(group_all_reduce(ctx->tensor, dn));
    TRY(op_layernorm_modulate_backward(dev, dx, tensor_at(dmod, SHIFT2), tensor_at(dmod, SCALE2),
                                       dn, acts->x2, acts->mean[2], acts->rstd[2],
                                       tensor_at(mod, SCALE2), true));
    arena_release(scratch, ffn_mark);

    /* cross-attention */
    TRY(attention_backward(&cross, &w[ATTN2_Q_W], &g[ATTN2_Q_W], dn, dtext, dx, acts->b, text,
                           &acts->attn2, scratch));
    TRY(op_layernorm_backward(dev, dx, g[NORM2_W], g[NORM2_B], dn, acts->x1, acts->mean[1],
                              acts->rstd[1], w[NORM2_W], true));

    /* self-attention */
    TRY(op_gate_residual_backward(dev, dy, tensor_at(dmod, GATE1), dx, acts->y1,
                                  tensor_at(mod, GATE1)));
    TRY(attention_backward(&self, &w[ATTN1_Q_W], &g[ATTN1_Q_W], dn, tensor_none(), dy, acts->a,
                           acts->a, &acts->attn1, scratch));
    TRY(op_layernorm_modulate_backward(dev, dx, tensor_at(dmod, SHIFT1), tensor_at(dmod, SCALE1),
                                       dn, x0, acts->mean[0], acts->rstd[0], tensor_at(mod, SCALE1),
                                       true));

    TRY(op_modulation_backward(dev, modulation_table(g[BLOCK_MODULATION]), de0, dmod));
    arena_release(scratch, mark);
    return OK;
}

Status block_scratch(const Device *dev, const DitConfig *config, int tensor_size, BlockShape shape,
                     size_t *bytes)
{
    const int64_t width = dit_width(config), local = width / tensor_size;
    const int64_t heads = config->num_attention_heads / tensor_size;
    const int64_t keys = shape.tokens > shape.text ? shape.tokens : shape.text;
    const Shape stream = SHAPE(shape.batch, shape.tokens, width);
    Arena count = arena_counting("scratch");
    Tensor t;
    TRY(tensor_alloc(&count, F32, SHAPE(MOD_ROWS, shape.batch, width), "block.dmod", &t));
    TRY(tensor_alloc(&count, F32, stream, "block.dy", &t));
    TRY(tensor_alloc(&count, F32, stream, "block.dn", &t));
    const size_t mark = arena_mark(&count);
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, shape.tokens, config->ffn_dim / tensor_size),
                     "block.dh", &t));
    arena_release(&count, mark);
    for (int i = 0; i < 2; i++) {
        TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, shape.tokens, local), "attention.dq", &t));
        TRY(tensor_alloc(&count, F32, SHAPE(shape.batch, keys, local), "attention.dk", &t));
    }
    TRY(tensor_alloc(&count, F32, SHAPE(shape.batch * (shape.tokens + keys)), "attention.dots",
                     &t));
    const size_t self = op_attention_scratch(dev, shape.batch, heads, shape.tokens, shape.tokens,
                                             config->attention_head_dim);
    const size_t cross = op_attention_scratch(dev, shape.batch, heads, shape.tokens, shape.text,
                                              config->attention_head_dim);
    void *tiles;
    TRY(arena_alloc(&count, self > cross ? self : cross, "attention tiles", &tiles));
    *bytes = count.peak;
    return OK;
}
