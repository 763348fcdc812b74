#include "core/text/umt5.h"

#include <math.h>

int32_t umt5_bucket(int64_t rel, int64_t buckets, int64_t max_distance)
{
    const int64_t half = buckets / 2, exact = half / 2;
    const int64_t side = rel > 0 ? half : 0, n = rel < 0 ? -rel : rel;
    if (n < exact) return (int32_t)(side + n);
    /* in F32, as the reference computes it: truncation at a bucket's edge must agree */
    const float log_share = logf((float)n / (float)exact) /
                            logf((float)max_distance / (float)exact) * (float)(half - exact);
    const int64_t far = exact + (int64_t)log_share;
    return (int32_t)(side + (far < half - 1 ? far : half - 1));
}

static Status layer_acts_alloc(Arena *arena, const TextConfig *c, int64_t batch,
                               Umt5LayerActs *acts)
{
    const int64_t length = c->max_length, rows = batch * length;
    const Shape stream = SHAPE(batch, length, c->d_model);
    const Shape heads = SHAPE(batch, length, c->num_heads, c->d_kv);
    const Shape hidden = SHAPE(batch, length, c->d_ff);
    TRY(tensor_alloc(arena, F32, SHAPE(rows), "text.ss", &acts->ss1));
    TRY(tensor_alloc(arena, F32, SHAPE(rows), "text.ss", &acts->ss2));
    TRY(tensor_alloc(arena, F32, stream, "text.n1", &acts->n1));
    TRY(tensor_alloc(arena, F32, stream, "text.n2", &acts->n2));
    TRY(tensor_alloc(arena, F32, heads, "text.q", &acts->q));
    TRY(tensor_alloc(arena, F32, heads, "text.k", &acts->k));
    TRY(tensor_alloc(arena, F32, heads, "text.v", &acts->v));
    TRY(tensor_alloc(arena, F32, heads, "text.out", &acts->out));
    TRY(tensor_alloc(arena, F32, SHAPE(batch, c->num_heads, length), "text.lse", &acts->lse));
    TRY(tensor_alloc(arena, F32, SHAPE(c->num_heads, 2 * length - 1), "text.rel_bias",
                     &acts->rel_bias));
    TRY(tensor_alloc(arena, F32, stream, "text.x1", &acts->x1));
    TRY(tensor_alloc(arena, F32, stream, "text.x2", &acts->x2));
    TRY(tensor_alloc(arena, F32, hidden, "text.wi0", &acts->wi0));
    TRY(tensor_alloc(arena, F32, hidden, "text.wi1", &acts->wi1));
    return tensor_alloc(arena, F32, hidden, "text.mlp", &acts->mlp);
}

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
        TRY(layer_acts_alloc(arena, c, batch, layers ? &acts->layers[i] : &counted));
    }
    for (int64_t i = 0; i < span && acts->buckets.data; i++) {
        ((int32_t *)acts->buckets.data)[i] =
            umt5_bucket(i - (length - 1), c->relative_attention_num_buckets,
                        c->relative_attention_max_distance);
    }
    return OK;
}

static AttentionOptions layer_options(const Umt5Acts *acts, const Umt5LayerActs *layer)
{
    return (AttentionOptions){ .scale = 1.0f,
                               .rel_bias = layer->rel_bias,
                               .key_lengths = acts->lengths };
}

static Tensor rows_of(Tensor heads)
{
    return tensor_reshape(heads,
                          SHAPE(heads.shape[0], heads.shape[1], heads.shape[2] * heads.shape[3]));
}

/* y = T5's RMSNorm of x */
static Status norm_forward(const Device *dev, const TextConfig *c, Tensor y, Tensor ss, Tensor x,
                           Tensor w)
{
    TRY(op_sum_squares_rows(dev, ss, x, 1));
    return op_rmsnorm(dev, y, x, ss, w, c->d_model, (float)c->layer_norm_epsilon);
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

/* rel_bias (heads, span) from the layer's table (buckets, heads) */
static Status bias_forward(const Device *dev, const Umt5Acts *acts, const Umt5LayerActs *layer,
                           Tensor table, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const int64_t span = acts->buckets.shape[0], heads = table.shape[1];
    Tensor by_position;
    TRY(tensor_alloc(scratch, F32, SHAPE(span, heads), "text.bias", &by_position));
    TRY(op_embedding(dev, by_position, table, acts->buckets));
    TRY(op_transpose(dev, layer->rel_bias, by_position));
    arena_release(scratch, mark);
    return OK;
}

static Status layer_forward(const Device *dev, const TextConfig *c, const Tensor *w,
                            const Umt5Acts *acts, Umt5LayerActs *layer, Tensor x, Arena *scratch)
{
    TRY(norm_forward(dev, c, layer->n1, layer->ss1, x, w[TEXT_NORM1]));
    TRY(op_linear(dev, rows_of(layer->q), layer->n1, w[TEXT_Q], tensor_none()));
    TRY(op_linear(dev, rows_of(layer->k), layer->n1, w[TEXT_K], tensor_none()));
    TRY(op_linear(dev, rows_of(layer->v), layer->n1, w[TEXT_V], tensor_none()));
    TRY(bias_forward(dev, acts, layer, w[TEXT_REL_BIAS], scratch));
    const AttentionOptions options = layer_options(acts, layer);
    TRY(op_attention(dev, layer->out, layer->lse, layer->q, layer->k, layer->v, &options, scratch));
    TRY(op_linear(dev, layer->x1, rows_of(layer->out), w[TEXT_O], tensor_none()));
    TRY(op_axpby(dev, layer->x1, 1.0f, x, 1.0f));

    TRY(norm_forward(dev, c, layer->n2, layer->ss2, layer->x1, w[TEXT_NORM2]));
    TRY(op_linear(dev, layer->wi0, layer->n2, w[TEXT_WI0], tensor_none()));
    TRY(op_linear(dev, layer->wi1, layer->n2, w[TEXT_WI1], tensor_none()));
    TRY(op_gated_gelu(dev, layer->mlp, layer->wi0, layer->wi1));
    TRY(op_linear(dev, layer->x2, layer->mlp, w[TEXT_WO], tensor_none()));
    return op_axpby(dev, layer->x2, 1.0f, layer->x1, 1.0f);
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
    TRY(norm_forward(dev, config, acts->out, acts->ss, x, w->text_first[TEXT_FINAL_NORM]));
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
    TRY(op_linear_backward_input(dev, rows_of(dout), dx, w[TEXT_O], false));
    TRY(op_linear_backward_weight(dev, g[TEXT_O], tensor_none(), rows_of(layer->out), dx));
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
        TRY(op_linear_backward_input(dev, dn, rows_of(inputs[i].grad), w[inputs[i].row], i > 0));
        TRY(op_linear_backward_weight(dev, g[inputs[i].row], tensor_none(), layer->n1,
                                      rows_of(inputs[i].grad)));
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
