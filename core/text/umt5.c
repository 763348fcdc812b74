#include "core/text/umt5.h"

Status umt5_acts_alloc(Arena *arena, const TextConfig *c, int64_t batch, Umt5Acts *acts)
{
    const int64_t length = c->max_length, span = 2 * length - 1;
    const Shape stream = SHAPE(batch, length, c->d_model);
    void *layers;
    TRY(arena_alloc(arena, (size_t)c->num_layers * sizeof(Umt5LayerActs), "text.layers", &layers));
    TRY(tensor_alloc(arena, I32, SHAPE(batch, length), "text.ids", &acts->ids));
    TRY(tensor_alloc(arena, I32, SHAPE(batch), "text.lengths", &acts->lengths));
    TRY(tensor_alloc(arena, I32, SHAPE(span), "text.buckets", &acts->buckets));
    TRY(tensor_alloc(arena, F32, stream, "text.x0", &acts->x0));
    TRY(tensor_alloc(arena, F32, SHAPE(batch * length), "text.ss", &acts->ss));
    TRY(tensor_alloc(arena, F32, stream, "text.out", &acts->out));
    acts->layers = layers;
    for (int64_t i = 0; i < c->num_layers; i++) {
        Umt5LayerActs counted;
        Umt5LayerActs *layer = layers ? &acts->layers[i] : &counted;
        TRY(umt5_layer_alloc(arena, c, batch, length, layer));
        TRY(tensor_alloc(arena, F32, SHAPE(c->num_heads, span), "text.rel_bias", &layer->rel_bias));
    }
    if (acts->buckets.data) umt5_fill_buckets(c, acts->buckets);
    return OK;
}

static AttentionOptions layer_options(const Umt5Acts *acts, const Umt5LayerActs *layer)
{
    return (AttentionOptions){ .scale = 1.0f,
                               .rel_bias = layer->rel_bias,
                               .key_lengths = acts->lengths };
}

/* dx += */
static Status norm_backward(const Device *dev, const TextConfig *c, Tensor dx, Tensor dw, Tensor dy,
                            Tensor x, Tensor ss, Tensor w, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Tensor dot;
    TRY(tensor_alloc(scratch, F32, SHAPE(tensor_rows(x)), "text.dot", &dot));
    TRY(op_rmsnorm_dot(dev, dot, dy, x, w, 1));
    TRY(op_rmsnorm_backward(dev, dx, dw, dy, x, ss, dot, w, c->d_model,
                            (float)c->layer_norm_epsilon, true));
    arena_release(scratch, mark);
    return OK;
}

static Status layer_forward(const Device *dev, const TextConfig *c, const Tensor *w,
                            const Umt5Acts *acts, const Umt5LayerActs *layer, Tensor x,
                            Arena *scratch)
{
    const AttentionOptions options = layer_options(acts, layer);
    TRY(umt5_layer_begin(dev, c, w, layer, x));
    TRY(umt5_bias(dev, layer->rel_bias, w[TEXT_REL_BIAS], acts->buckets, scratch));
    TRY(op_attention(dev, layer->out, layer->lse, layer->q, layer->k, layer->v, &options, scratch));
    return umt5_layer_finish(dev, group_alone(), c, w, layer, x);
}

Status umt5_forward(const Device *dev, const TextConfig *config, const Weights *w, Umt5Acts *acts,
                    Arena *scratch)
{
    TRY(op_embedding(dev, acts->x0, w->text_first[TEXT_SHARED], acts->ids));
    Tensor x = acts->x0;
    for (int64_t i = 0; i < config->num_layers; i++) {
        TRY(layer_forward(dev, config, w->text_blocks[i].at, acts, &acts->layers[i], x, scratch));
        x = acts->layers[i].x2;
    }
    TRY(umt5_norm(dev, config, acts->out, acts->ss, x, w->text_first[TEXT_FINAL_NORM]));
    return op_zero_tail(dev, acts->out, acts->lengths);
}

/* dx: of the layer's output in, of its input out */
static Status layer_backward(const Device *dev, const TextConfig *c, const Tensor *w,
                             const Tensor *g, Tensor dx, const Umt5Acts *acts,
                             const Umt5LayerActs *layer, Tensor x, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const int64_t batch = dx.shape[0], length = dx.shape[1];
    const Shape hidden = SHAPE(batch, length, c->d_ff);
    const Shape heads = SHAPE(batch, length, c->num_heads, c->d_kv);
    const int64_t span = acts->buckets.shape[0];
    Tensor dn, dmlp, da, db; /* (batch, length, d_model); as hidden */
    TRY(tensor_alloc(scratch, F32, SHAPE(batch, length, c->d_model), "text.dn", &dn));

    const size_t mlp_mark = arena_mark(scratch);
    TRY(tensor_alloc(scratch, F32, hidden, "text.dmlp", &dmlp));
    TRY(tensor_alloc(scratch, F32, hidden, "text.da", &da));
    TRY(tensor_alloc(scratch, F32, hidden, "text.db", &db));
    TRY(op_linear_backward_input(dev, dmlp, dx, w[TEXT_WO], false));
    TRY(op_linear_backward_weight(dev, g[TEXT_WO], tensor_none(), layer->mlp, dx));
    TRY(op_gated_gelu_backward(dev, da, db, dmlp, layer->wi0, layer->wi1));
    TRY(op_linear_backward_input(dev, dn, da, w[TEXT_WI0], false));
    TRY(op_linear_backward_input(dev, dn, db, w[TEXT_WI1], true));
    TRY(op_linear_backward_weight(dev, g[TEXT_WI0], tensor_none(), layer->n2, da));
    TRY(op_linear_backward_weight(dev, g[TEXT_WI1], tensor_none(), layer->n2, db));
    TRY(norm_backward(dev, c, dx, g[TEXT_NORM2], dn, layer->x1, layer->ss2, w[TEXT_NORM2],
                      scratch));
    arena_release(scratch, mlp_mark);

    Tensor dout, dq, dk, dv;         /* as heads */
    Tensor dbias, dbias_by_position; /* (heads, span), (span, heads) */
    TRY(tensor_alloc(scratch, F32, heads, "text.dout", &dout));
    TRY(tensor_alloc(scratch, F32, heads, "text.dq", &dq));
    TRY(tensor_alloc(scratch, F32, heads, "text.dk", &dk));
    TRY(tensor_alloc(scratch, F32, heads, "text.dv", &dv));
    TRY(tensor_alloc(scratch, F32, SHAPE(c->num_heads, span), "text.dbias", &dbias));
    TRY(tensor_alloc(scratch, F32, SHAPE(span, c->num_heads), "text.dbias", &dbias_by_position));
    TRY(op_linear_backward_input(dev, umt5_heads_as_rows(dout), dx, w[TEXT_O], false));
    TRY(op_linear_backward_weight(dev, g[TEXT_O], tensor_none(), umt5_heads_as_rows(layer->out),
                                  dx));
    const AttentionOptions options = layer_options(acts, layer);
    TRY(op_fill(dev, dbias, 0.0f));
    TRY(op_attention_backward(dev, dq, dk, dv, dbias, dout, layer->q, layer->k, layer->v,
                              layer->out, layer->lse, &options, scratch));
    TRY(op_transpose(dev, dbias_by_position, dbias));
    TRY(op_embedding_backward(dev, g[TEXT_REL_BIAS], dbias_by_position, acts->buckets));

    const struct {
        Tensor grad;
        int row;
    } inputs[] = { { dq, TEXT_Q }, { dk, TEXT_K }, { dv, TEXT_V } };
    for (int i = 0; i < 3; i++) {
        TRY(op_linear_backward_input(dev, dn, umt5_heads_as_rows(inputs[i].grad), w[inputs[i].row],
                                     i > 0));
        TRY(op_linear_backward_weight(dev, g[inputs[i].row], tensor_none(), layer->n1,
                                      umt5_heads_as_rows(inputs[i].grad)));
    }
    TRY(norm_backward(dev, c, dx, g[TEXT_NORM1], dn, x, layer->ss1, w[TEXT_NORM1], scratch));
    arena_release(scratch, mark);
    return OK;
}

Status umt5_backward(const Device *dev, const TextConfig *config, const Weights *w,
                     const Weights *g, Tensor dout, const Umt5Acts *acts, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const int64_t layers = config->num_layers;
    Tensor dx; /* (batch, length, d_model) */
    TRY(tensor_alloc(scratch, F32, SHAPE(dout.shape[0], dout.shape[1], dout.shape[2]), "text.dx",
                     &dx));
    TRY(op_zero_tail(dev, dout, acts->lengths));
    TRY(op_fill(dev, dx, 0.0f));
    const Tensor last = layers > 0 ? acts->layers[layers - 1].x2 : acts->x0;
    TRY(norm_backward(dev, config, dx, g->text_first[TEXT_FINAL_NORM], dout, last, acts->ss,
                      w->text_first[TEXT_FINAL_NORM], scratch));
    for (int64_t i = layers - 1; i >= 0; i--) {
        const Tensor x = i > 0 ? acts->layers[i - 1].x2 : acts->x0;
        TRY(layer_backward(dev, config, w->text_blocks[i].at, g->text_blocks[i].at, dx, acts,
                           &acts->layers[i], x, scratch));
    }
    TRY(op_embedding_backward(dev, g->text_first[TEXT_SHARED], dx, acts->ids));
    arena_release(scratch, mark);
    return OK;
}

Status umt5_scratch(const Device *dev, const TextConfig *c, int64_t batch, size_t *bytes)
{
    const int64_t length = c->max_length, span = 2 * length - 1;
    const int64_t rows = batch * length, inner = c->num_heads * c->d_kv;
    Arena count = arena_counting("scratch");
    Tensor t;
    void *tiles;
    for (int i = 0; i < 2; i++)
        TRY(tensor_alloc(&count, F32, SHAPE(rows, c->d_model), "text.dx", &t));
    TRY(tensor_alloc(&count, F32, SHAPE(rows), "text.dot", &t));
    const size_t mark = arena_mark(&count);
    for (int i = 0; i < 3; i++)
        TRY(tensor_alloc(&count, F32, SHAPE(rows, c->d_ff), "text.dmlp", &t));
    arena_release(&count, mark);
    for (int i = 0; i < 4; i++) TRY(tensor_alloc(&count, F32, SHAPE(rows, inner), "text.dq", &t));
    for (int i = 0; i < 2; i++)
        TRY(tensor_alloc(&count, F32, SHAPE(c->num_heads, span), "text.dbias", &t));
    TRY(arena_alloc(&count, op_attention_scratch(dev, batch, c->num_heads, length, length, c->d_kv),
                    "attention tiles", &tiles));
    *bytes = count.peak;
    return OK;
}
