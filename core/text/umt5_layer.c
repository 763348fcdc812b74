#include "core/text/umt5_layer.h"

#include "core/model/param_table.h"

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

void umt5_fill_buckets(const TextConfig *c, Tensor buckets)
{
    const int64_t span = buckets.shape[0], length = (span + 1) / 2;
    for (int64_t i = 0; i < span; i++) {
        ((int32_t *)buckets.data)[i] =
            umt5_bucket(i - (length - 1), c->relative_attention_num_buckets,
                        c->relative_attention_max_distance);
    }
}

Status umt5_layer_alloc(Arena *arena, const TextConfig *c, int64_t batch, int64_t length,
                        Umt5LayerActs *acts)
{
    const int64_t rows = batch * length;
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
    TRY(tensor_alloc(arena, F32, stream, "text.x1", &acts->x1));
    TRY(tensor_alloc(arena, F32, stream, "text.x2", &acts->x2));
    TRY(tensor_alloc(arena, F32, hidden, "text.wi0", &acts->wi0));
    TRY(tensor_alloc(arena, F32, hidden, "text.wi1", &acts->wi1));
    return tensor_alloc(arena, F32, hidden, "text.mlp", &acts->mlp);
}

Status umt5_norm(const Device *dev, const TextConfig *c, Tensor y, Tensor ss, Tensor x, Tensor w)
{
    TRY(op_sum_squares_rows(dev, ss, x, 1));
    return op_rmsnorm(dev, y, x, ss, w, c->d_model, (float)c->layer_norm_epsilon);
}

Status umt5_bias(const Device *dev, Tensor rel_bias, Tensor table, Tensor buckets, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const int64_t span = buckets.shape[0], heads = table.shape[1];
    Tensor by_position;
    TRY(tensor_alloc(scratch, F32, SHAPE(span, heads), "text.bias", &by_position));
    TRY(op_embedding(dev, by_position, table, buckets));
    TRY(op_transpose(dev, rel_bias, by_position));
    arena_release(scratch, mark);
    return OK;
}

Status umt5_layer_begin(const Device *dev, const TextConfig *c, const Tensor *w,
                        const Umt5LayerActs *acts, Tensor x)
{
    TRY(umt5_norm(dev, c, acts->n1, acts->ss1, x, w[TEXT_NORM1]));
    TRY(op_linear(dev, umt5_heads_as_rows(acts->q), acts->n1, w[TEXT_Q], tensor_none()));
    TRY(op_linear(dev, umt5_heads_as_rows(acts->k), acts->n1, w[TEXT_K], tensor_none()));
    return op_linear(dev, umt5_heads_as_rows(acts->v), acts->n1, w[TEXT_V], tensor_none());
}

Status umt5_layer_finish(const Device *dev, Group *group, const TextConfig *c, const Tensor *w,
                         const Umt5LayerActs *acts, Tensor x)
{
    TRY(op_linear(dev, acts->x1, umt5_heads_as_rows(acts->out), w[TEXT_O], tensor_none()));
    TRY(group_all_reduce(group, acts->x1));
    TRY(op_axpby(dev, acts->x1, 1.0f, x, 1.0f));

    TRY(umt5_norm(dev, c, acts->n2, acts->ss2, acts->x1, w[TEXT_NORM2]));
    TRY(op_linear(dev, acts->wi0, acts->n2, w[TEXT_WI0], tensor_none()));
    TRY(op_linear(dev, acts->wi1, acts->n2, w[TEXT_WI1], tensor_none()));
    TRY(op_gated_gelu(dev, acts->mlp, acts->wi0, acts->wi1));
    TRY(op_linear(dev, acts->x2, acts->mlp, w[TEXT_WO], tensor_none()));
    TRY(group_all_reduce(group, acts->x2));
    return op_axpby(dev, acts->x2, 1.0f, acts->x1, 1.0f);
}
