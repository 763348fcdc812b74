#include "core/model/image_embed.h"

#include "core/model/param_table.h"
#include "core/model/token_sums.h"

static const float eps = 1e-5f; /* of these two norms alone (spec 17, 7) */

Status image_embed_acts_alloc(Arena *arena, const DitConfig *config, int64_t batch,
                              ImageEmbedActs *acts)
{
    const Shape in = SHAPE(batch, config->image_rows, config->image_dim);
    const Shape out = SHAPE(batch, config->image_rows, dit_width(config));
    if (config->image_rows == 0) return OK;
    TRY(tensor_alloc(arena, F32, in, "image.placed", &acts->placed));
    TRY(tensor_alloc(arena, F32, in, "image.n1", &acts->n1));
    TRY(tensor_alloc(arena, F32, in, "image.h", &acts->h));
    TRY(tensor_alloc(arena, F32, in, "image.gelu", &acts->gelu));
    TRY(tensor_alloc(arena, F32, out, "image.embedded", &acts->out));
    for (int i = 0; i < 2; i++) {
        const Shape rows = SHAPE(batch, config->image_rows);
        TRY(tensor_alloc(arena, F32, rows, "image.mean", &acts->mean[i]));
        TRY(tensor_alloc(arena, F32, rows, "image.rstd", &acts->rstd[i]));
    }
    return OK;
}

/* (batch, rows, width) with each clip's as one row, to which a table of positions is added */
static Tensor clips(Tensor t)
{
    return tensor_reshape(t, SHAPE(t.shape[0], t.shape[1] * t.shape[2]));
}

Status image_embed_forward(const LayerContext *ctx, const Tensor *w, Tensor out, Tensor tokens,
                           const ImageEmbedActs *acts)
{
    const Device *dev = ctx->dev;
    const Tensor place = w[IMAGE_POS];
    TRY(op_convert(dev, acts->placed, tokens));
    if (place.data)
        TRY(op_add_bias(dev, clips(acts->placed),
                        tensor_reshape(place, SHAPE(tensor_count(place)))));
    TRY(op_layernorm(dev, acts->n1, acts->mean[0], acts->rstd[0], acts->placed, w[IMAGE_NORM1_W],
                     w[IMAGE_NORM1_B], eps));
    TRY(op_linear(dev, acts->h, acts->n1, w[IMAGE1_W], w[IMAGE1_B]));
    TRY(op_gelu_erf(dev, acts->gelu, acts->h));
    TRY(op_linear(dev, acts->out, acts->gelu, w[IMAGE2_W], w[IMAGE2_B]));
    return op_layernorm(dev, out, acts->mean[1], acts->rstd[1], acts->out, w[IMAGE_NORM2_W],
                        w[IMAGE_NORM2_B], eps);
}

static Status gradients_alloc(const DitConfig *config, Arena *arena, int64_t batch, Tensor *dh,
                              Tensor *dn1, Tensor *dn)
{
    const Shape in = SHAPE(batch, config->image_rows, config->image_dim);
    TRY(tensor_alloc(arena, F32, in, "image.dh", dh));
    TRY(tensor_alloc(arena, F32, in, "image.dn1", dn1));
    return tensor_alloc(arena, F32, SHAPE(batch, config->image_rows, dit_width(config)), "image.dn",
                        dn);
}

Status image_embed_scratch(const DitConfig *config, Arena *count, int64_t batch)
{
    const size_t mark = arena_mark(count);
    Tensor dh, dn1, dn;
    if (config->image_rows == 0) return OK;
    TRY(gradients_alloc(config, count, batch, &dh, &dn1, &dn));
    arena_release(count, mark);
    return OK;
}

Status image_embed_backward(const LayerContext *ctx, const Tensor *w, const Tensor *g, Tensor dout,
                            const ImageEmbedActs *acts, Arena *scratch)
{
    const Device *dev = ctx->dev;
    const size_t mark = arena_mark(scratch);
    const int64_t batch = dout.shape[0];
    Tensor dh, dn1, dn; /* as acts' h; as acts->n1; as acts->out */
    TRY(gradients_alloc(ctx->config, scratch, batch, &dh, &dn1, &dn));
    TRY(op_layernorm_backward(dev, dn, g[IMAGE_NORM2_W], g[IMAGE_NORM2_B], dout, acts->out,
                              acts->mean[1], acts->rstd[1], w[IMAGE_NORM2_W], false));
    TRY(op_linear_backward_input(dev, dh, dn, w[IMAGE2_W], false));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[IMAGE2_W], g[IMAGE2_B], acts->gelu, dn));
    TRY(op_gelu_erf_backward(dev, dh, dh, acts->h));
    TRY(token_sums_linear(ctx, SPAN_WHOLE, g[IMAGE1_W], g[IMAGE1_B], acts->n1, dh));
    TRY(op_linear_backward_input(dev, dn1, dh, w[IMAGE1_W], false));
    TRY(op_layernorm_backward(dev, dh, g[IMAGE_NORM1_W], g[IMAGE_NORM1_B], dn1, acts->placed,
                              acts->mean[0], acts->rstd[0], w[IMAGE_NORM1_W], false));
    for (int64_t b = 0; g[IMAGE_POS].data && b < batch; b++)
        TRY(op_axpby(dev, tensor_at(g[IMAGE_POS], 0), 1.0f, tensor_at(dh, b), 1.0f));
    arena_release(scratch, mark);
    return OK;
}
