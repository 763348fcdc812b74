#include "core/model/embed.h"

#include "core/model/token_sums.h"

int64_t message_count(MessageShape s)
{
    return s.batch * (s.tokens + s.times * (6 + 1) + s.text + s.image) * s.width;
}

Message message_view(Tensor flat, MessageShape s)
{
    const int64_t rows = s.batch * s.times, width = s.width;
    Message m = { .x = tensor_of(NULL, F32, SHAPE(s.batch, s.tokens, width)),
                  .e0 = tensor_of(NULL, F32, SHAPE(rows, 6, width)),
                  .e = tensor_of(NULL, F32, SHAPE(rows, 1, width)),
                  .condition = { tensor_of(NULL, F32, SHAPE(s.batch, s.text, width)),
                                 tensor_none() } };
    float *next = tensor_f32(flat);
    if (s.image > 0) m.condition.image = tensor_of(NULL, F32, SHAPE(s.batch, s.image, width));
    Tensor *const parts[] = { &m.x, &m.e0, &m.e, &m.condition.text, &m.condition.image };
    const int count = s.image > 0 ? 5 : 4;
    for (int i = 0; i < count && next; i++) {
        parts[i]->data = next;
        next += tensor_count(*parts[i]);
    }
    return m;
}

Status embed_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, int64_t times,
                        EmbedActs *acts)
{
    const int64_t width = dit_width(&config->dit), text = config->text.max_length;
    const int64_t rows = batch * times;
    TRY(tensor_alloc(arena, F32, SHAPE(batch, times), "embed.times", &acts->times));
    TRY(tensor_alloc(arena, F32, SHAPE(rows, config->dit.freq_dim), "embed.emb", &acts->emb));
    TRY(tensor_alloc(arena, F32, SHAPE(rows, width), "embed.t1", &acts->t1));
    TRY(tensor_alloc(arena, F32, SHAPE(rows, width), "embed.t1_act", &acts->t1_act));
    TRY(tensor_alloc(arena, F32, SHAPE(rows, width), "embed.e_act", &acts->e_act));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, text, width), "embed.c1", &acts->c1));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, text, width), "embed.c1_act", &acts->c1_act));
    return image_embed_acts_alloc(arena, &config->dit, batch, &acts->image);
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

Status embed_condition(const LayerContext *layer, const Weights *weights, Condition out,
                       Condition from, const EmbedActs *acts)
{
    const Device *dev = layer->dev;
    const Tensor *w = weights->first;
    TRY(op_linear(dev, acts->c1, from.text, w[TEXT1_W], w[TEXT1_B]));
    TRY(op_gelu(dev, acts->c1_act, acts->c1));
    TRY(op_linear(dev, out.text, acts->c1_act, w[TEXT2_W], w[TEXT2_B]));
    return from.image.data ? image_embed_forward(layer, w, out.image, from.image, &acts->image)
                           : OK;
}

/* Frames that are given rather than made have a timestep of their own: 0 (spec 6, TI2V). */
static Status spread_times(const Device *dev, Tensor times, Tensor t)
{
    const int64_t batch = times.shape[0];
    if (times.shape[1] == 1) return op_convert(dev, times, tensor_reshape(t, SHAPE(batch, 1)));
    TRY(op_fill(dev, times, 0.0f));
    return op_place_columns(dev, times, tensor_reshape(t, SHAPE(batch, 1)), 0);
}

Status embed_forward(const LayerContext *ctx, const Weights *weights, Message out, Tensor patches,
                     Tensor t, Condition condition, EmbedActs *acts)
{
    const Device *dev = ctx->f32;
    const Tensor *w = weights->first;
    TRY(op_linear(ctx->dev, out.x, patches, patch_matrix(w[PATCH_W]), w[PATCH_B]));

    TRY(spread_times(dev, acts->times, t));
    TRY(op_timestep_embedding(dev, acts->emb,
                              tensor_reshape(acts->times, SHAPE(tensor_count(acts->times)))));
    TRY(op_linear(dev, acts->t1, acts->emb, w[TIME1_W], w[TIME1_B]));
    TRY(op_silu(dev, acts->t1_act, acts->t1));
    TRY(op_linear(dev, as_rows(out.e), acts->t1_act, w[TIME2_W], w[TIME2_B]));
    TRY(op_silu(dev, acts->e_act, as_rows(out.e)));
    TRY(op_linear(dev, as_rows(out.e0), acts->e_act, w[TIME_PROJ_W], w[TIME_PROJ_B]));
    return condition.text.data ? embed_condition(ctx, weights, out.condition, condition, acts) : OK;
}

Status embed_backward(const LayerContext *ctx, const Weights *weights, const Weights *grads,
                      Message d, Tensor dpatches, Tensor dtext, Tensor patches, Condition from,
                      Message in, const EmbedActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const LayerContext time = layer_in_f32(ctx);
    const Tensor *w = weights->first, *g = grads->first;
    const size_t mark = arena_mark(scratch);
    TRY(token_sums_linear(ctx, SPAN_OWN, patch_matrix(g[PATCH_W]), g[PATCH_B], patches, d.x));
    if (dpatches.data)
        TRY(op_linear_backward_input(dev, dpatches, d.x, patch_matrix(w[PATCH_W]), false));
    if (ctx->groups->mesh.cp > 0) return OK;

    Tensor dt1, dc1; /* (batch, width), (batch, text, width) */
    TRY(tensor_alloc(scratch, F32, SHAPE(d.e.shape[0], d.e.shape[2]), "embed.dt1", &dt1));
    TRY(tensor_alloc(
        scratch, F32,
        SHAPE(d.condition.text.shape[0], d.condition.text.shape[1], d.condition.text.shape[2]),
        "embed.dc1", &dc1));

    TRY(op_linear_backward_input(time.dev, dt1, as_rows(d.e0), w[TIME_PROJ_W], false));
    TRY(token_sums_linear(&time, SPAN_WHOLE, g[TIME_PROJ_W], g[TIME_PROJ_B], acts->e_act,
                          as_rows(d.e0)));
    TRY(op_silu_backward(dev, as_rows(d.e), dt1, as_rows(in.e), true));
    TRY(op_linear_backward_input(time.dev, dt1, as_rows(d.e), w[TIME2_W], false));
    TRY(token_sums_linear(&time, SPAN_WHOLE, g[TIME2_W], g[TIME2_B], acts->t1_act, as_rows(d.e)));
    TRY(op_silu_backward(dev, dt1, dt1, acts->t1, false));
    TRY(token_sums_linear(&time, SPAN_WHOLE, g[TIME1_W], g[TIME1_B], acts->emb, dt1));

    TRY(op_linear_backward_input(dev, dc1, d.condition.text, w[TEXT2_W], false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[TEXT2_W], g[TEXT2_B], acts->c1_act, d.condition.text));
    TRY(op_gelu_backward(dev, dc1, dc1, acts->c1));
    TRY(op_linear_backward_input(dev, dtext, dc1, w[TEXT1_W], false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[TEXT1_W], g[TEXT1_B], from.text, dc1));
    if (from.image.data)
        TRY(image_embed_backward(ctx, w, g, d.condition.image, &acts->image, scratch));
    arena_release(scratch, mark);
    return OK;
}

Status head_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, int64_t tokens,
                       int64_t times, HeadActs *acts)
{
    const int64_t width = dit_width(&config->dit), patch = dit_patch_out(&config->dit);
    TRY(tensor_alloc(arena, F32, SHAPE(2, batch * times, width), "head.mod", &acts->mod));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, tokens), "head.mean", &acts->mean));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, tokens), "head.rstd", &acts->rstd));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, tokens, width), "head.n", &acts->n));
    return tensor_alloc(arena, F32, SHAPE(batch, tokens, patch), "head.out", &acts->out);
}

Status head_forward(const LayerContext *ctx, const Weights *weights, Tensor v, Tensor x, Tensor e,
                    HeadActs *acts)
{
    const Device *dev = ctx->f32;
    const DitConfig *config = ctx->config;
    const Tensor *w = weights->last;
    TRY(op_modulation(dev, acts->mod, tensor_at(w[HEAD_MODULATION], 0), e));
    const Modulated norm = { acts->n, acts->mean, acts->rstd };
    TRY(layer_modulate(ctx, norm, x, tensor_at(acts->mod, 0), tensor_at(acts->mod, 1)));
    TRY(op_linear(dev, acts->out, acts->n, w[PROJ_OUT_W], w[PROJ_OUT_B]));
    return op_patch_order(dev, v, acts->out, config->out_channels, true);
}

Status head_backward(const LayerContext *layer, const Weights *weights, const Weights *grads,
                     Message d, Tensor dv, Tensor x, const HeadActs *acts, Arena *scratch)
{
    const LayerContext precise = layer_in_f32(layer), *ctx = &precise;
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
