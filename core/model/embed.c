#include "core/model/embed.h"

#include "core/model/token_sums.h"

int64_t message_count(int64_t batch, int64_t tokens, int64_t text, int64_t width)
{
    return batch * (tokens + 6 + 1 + text) * width;
}

Message message_view(Tensor flat, int64_t batch, int64_t tokens, int64_t text, int64_t width)
{
    Message m = { .x = tensor_of(NULL, F32, SHAPE(batch, tokens, width)),
                  .e0 = tensor_of(NULL, F32, SHAPE(batch, 6, width)),
                  .e = tensor_of(NULL, F32, SHAPE(batch, 1, width)),
                  .ctx = tensor_of(NULL, F32, SHAPE(batch, text, width)) };
    float *next = tensor_f32(flat);
    Tensor *const parts[] = { &m.x, &m.e0, &m.e, &m.ctx };
    for (int i = 0; i < 4 && next; i++) {
        parts[i]->data = next;
        next += tensor_count(*parts[i]);
    }
    return m;
}

Status embed_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, EmbedActs *acts)
{
    const int64_t width = dit_width(&config->dit), text = config->text.max_length;
    TRY(tensor_alloc(arena, F32, SHAPE(batch, config->dit.freq_dim), "embed.emb", &acts->emb));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, width), "embed.t1", &acts->t1));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, width), "embed.t1_act", &acts->t1_act));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, width), "embed.e_act", &acts->e_act));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, text, width), "embed.c1", &acts->c1));
    return tensor_alloc(arena, F32, SHAPE(batch, text, width), "embed.c1_act", &acts->c1_act);
}

/* The convolution with kernel = stride is a linear layer on the patch's values. */
static Tensor patch_matrix(Tensor w)
{
    return tensor_reshape(w, SHAPE(w.shape[0], tensor_count(w) / w.shape[0]));
}

static Tensor as_rows(Tensor t) /* (batch, parts, width) -> (batch, parts * width) */
{
    return tensor_reshape(t, SHAPE(t.shape[0], t.shape[1] * t.shape[2]));
}

Status embed_text(const LayerContext *layer, const Weights *weights, Tensor ctx, Tensor text,
                  const EmbedActs *acts)
{
    const Device *dev = layer->dev;
    const Tensor *w = weights->first;
    TRY(op_linear(dev, acts->c1, text, w[TEXT1_W], w[TEXT1_B]));
    TRY(op_gelu(dev, acts->c1_act, acts->c1));
    return op_linear(dev, ctx, acts->c1_act, w[TEXT2_W], w[TEXT2_B]);
}

Status embed_forward(const LayerContext *ctx, const Weights *weights, Message out, Tensor patches,
                     Tensor t, Tensor text, EmbedActs *acts)
{
    const Device *dev = ctx->dev;
    const Tensor *w = weights->first;
    TRY(op_linear(dev, out.x, patches, patch_matrix(w[PATCH_W]), w[PATCH_B]));

    TRY(op_timestep_embedding(dev, acts->emb, t));
    TRY(op_linear(dev, acts->t1, acts->emb, w[TIME1_W], w[TIME1_B]));
    TRY(op_silu(dev, acts->t1_act, acts->t1));
    TRY(op_linear(dev, as_rows(out.e), acts->t1_act, w[TIME2_W], w[TIME2_B]));
    TRY(op_silu(dev, acts->e_act, as_rows(out.e)));
    TRY(op_linear(dev, as_rows(out.e0), acts->e_act, w[TIME_PROJ_W], w[TIME_PROJ_B]));
    return text.data ? embed_text(ctx, weights, out.ctx, text, acts) : OK;
}

Status embed_backward(const LayerContext *ctx, const Weights *weights, const Weights *grads,
                      Message d, Tensor dtext, Tensor patches, Tensor text, Message in,
                      const EmbedActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const Tensor *w = weights->first, *g = grads->first;
    const size_t mark = arena_mark(scratch);
    TRY(token_sums_linear(ctx, SPAN_OWN, patch_matrix(g[PATCH_W]), g[PATCH_B], patches, d.x));
    if (ctx->groups->mesh.cp > 0) return OK;

    Tensor dt1, dc1; /* (batch, width), (batch, text, width) */
    TRY(tensor_alloc(scratch, F32, SHAPE(d.e.shape[0], d.e.shape[2]), "embed.dt1", &dt1));
    TRY(tensor_alloc(scratch, F32, SHAPE(d.ctx.shape[0], d.ctx.shape[1], d.ctx.shape[2]),
                     "embed.dc1", &dc1));

    TRY(op_linear_backward_input(dev, dt1, as_rows(d.e0), w[TIME_PROJ_W], false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[TIME_PROJ_W], g[TIME_PROJ_B], acts->e_act,
                          as_rows(d.e0)));
    TRY(op_silu_backward(dev, as_rows(d.e), dt1, as_rows(in.e), true));
    TRY(op_linear_backward_input(dev, dt1, as_rows(d.e), w[TIME2_W], false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[TIME2_W], g[TIME2_B], acts->t1_act, as_rows(d.e)));
    TRY(op_silu_backward(dev, dt1, dt1, acts->t1, false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[TIME1_W], g[TIME1_B], acts->emb, dt1));

    TRY(op_linear_backward_input(dev, dc1, d.ctx, w[TEXT2_W], false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[TEXT2_W], g[TEXT2_B], acts->c1_act, d.ctx));
    TRY(op_gelu_backward(dev, dc1, dc1, acts->c1));
    TRY(op_linear_backward_input(dev, dtext, dc1, w[TEXT1_W], false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[TEXT1_W], g[TEXT1_B], text, dc1));
    arena_release(scratch, mark);
    return OK;
}

Status head_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, int64_t tokens,
                       HeadActs *acts)
{
    const int64_t width = dit_width(&config->dit), patch = dit_patch(&config->dit);
    TRY(tensor_alloc(arena, F32, SHAPE(2, batch, width), "head.mod", &acts->mod));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, tokens), "head.mean", &acts->mean));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, tokens), "head.rstd", &acts->rstd));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, tokens, width), "head.n", &acts->n));
    return tensor_alloc(arena, F32, SHAPE(batch, tokens, patch), "head.out", &acts->out);
}

Status head_forward(const LayerContext *ctx, const Weights *weights, Tensor v, Tensor x, Tensor e,
                    HeadActs *acts)
{
    const Device *dev = ctx->dev;
    const DitConfig *config = ctx->config;
    const Tensor *w = weights->last;
    TRY(op_modulation(dev, acts->mod, tensor_at(w[HEAD_MODULATION], 0), e));
    TRY(op_layernorm_modulate(dev, acts->n, acts->mean, acts->rstd, x, tensor_at(acts->mod, 0),
                              tensor_at(acts->mod, 1), (float)config->eps));
    TRY(op_linear(dev, acts->out, acts->n, w[PROJ_OUT_W], w[PROJ_OUT_B]));
    return op_patch_order(dev, v, acts->out, config->out_channels, true);
}

Status head_backward(const LayerContext *ctx, const Weights *weights, const Weights *grads,
                     Message d, Tensor dv, Tensor x, const HeadActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const DitConfig *config = ctx->config;
    const Tensor *w = weights->last, *g = grads->last;
    const int64_t batch = x.shape[0], tokens = x.shape[1], width = x.shape[2];
    const size_t mark = arena_mark(scratch);
    Tensor dout, dn, dmod; /* as acts' out, n; (chunks, 2, batch, width) */
    TRY(tensor_alloc(scratch, F32, SHAPE(batch, tokens, tensor_width(dv)), "head.dout", &dout));
    TRY(tensor_alloc(scratch, F32, SHAPE(batch, tokens, width), "head.dn", &dn));
    TRY(token_sums_alloc(ctx, scratch, 2, batch, width, &dmod));
    TRY(op_patch_order(dev, dout, dv, config->out_channels, false));
    TRY(op_linear_backward_input(dev, dn, dout, w[PROJ_OUT_W], false));
    TRY(token_sums_linear(ctx, SPAN_OWN, g[PROJ_OUT_W], g[PROJ_OUT_B], acts->n, dout));
    TRY(token_sums_modulate(ctx, dmod, 0, d.x, dn, x, acts->mean, acts->rstd,
                            tensor_at(acts->mod, 1), false));
    TRY(token_sums_finish(ctx, dmod, tensor_at(g[HEAD_MODULATION], 0), d.e));
    arena_release(scratch, mark);
    return OK;
}
