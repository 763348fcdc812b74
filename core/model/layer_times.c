/* Modulation where the tokens of a clip have one timestep, or two. */
#include "core/model/layer.h"

int64_t layer_times(const LayerContext *ctx)
{
    return ctx->clean > 0 ? 2 : 1;
}

/* This rank's own tokens of a clip that have timestep `time`: 0, the clip's; 1, the clean one. */
static TokenRange tokens_of_time(const LayerContext *ctx, int64_t time)
{
    const TokenRange own = tokens_of_rank(&ctx->groups->mesh, ctx->tokens);
    int64_t clean = ctx->clean - own.first;
    clean = clean < 0 ? 0 : clean > own.count ? own.count : clean;
    return time == 1 ? (TokenRange){ 0, clean } : (TokenRange){ clean, own.count - clean };
}

/* (1, the range's tokens, ...) of sample b */
static Tensor part(Tensor t, int64_t b, TokenRange range)
{
    const Tensor rows = tensor_slice(tensor_at(t, b), range.first, range.count);
    return tensor_reshape(rows, t.ndim == 3 ? SHAPE(1, rows.shape[0], rows.shape[1])
                                            : SHAPE(1, rows.shape[0]));
}

Status layer_modulate(const LayerContext *ctx, Modulated out, Tensor x, Tensor shift, Tensor scale)
{
    const float eps = (float)ctx->config->eps;
    if (ctx->clean == 0)
        return op_layernorm_modulate(ctx->dev, out.y, out.mean, out.rstd, x, shift, scale, eps);
    for (int64_t i = 0; i < 2 * x.shape[0]; i++) {
        const TokenRange range = tokens_of_time(ctx, i % 2);
        if (range.count == 0) continue;
        TRY(op_layernorm_modulate(ctx->dev, part(out.y, i / 2, range), part(out.mean, i / 2, range),
                                  part(out.rstd, i / 2, range), part(x, i / 2, range),
                                  tensor_slice(shift, i, 1), tensor_slice(scale, i, 1), eps));
    }
    return OK;
}

Status layer_gate(const LayerContext *ctx, Tensor out, Tensor x, Tensor y, Tensor gate)
{
    if (ctx->clean == 0) return op_gate_residual(ctx->dev, out, x, y, gate);
    for (int64_t i = 0; i < 2 * x.shape[0]; i++) {
        const TokenRange range = tokens_of_time(ctx, i % 2);
        if (range.count == 0) continue;
        TRY(op_gate_residual(ctx->dev, part(out, i / 2, range), part(x, i / 2, range),
                             part(y, i / 2, range), tensor_slice(gate, i, 1)));
    }
    return OK;
}
