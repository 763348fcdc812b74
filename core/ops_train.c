/* Flow, loss and optimizer: shapes are checked here, whatever the backend. */
#include "core/ops.h"

#include "core/op_check.h"
#include "core/op_table.h"

/* ---- flow and loss -------------------------------------------------------------------------- */

Status op_patch_order(const Device *dev, Tensor y, Tensor x, int64_t channels, bool to_patch)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED_COUNT(width, channels * 4);
    NEED(x, rows, width);
    NEED(y, rows, width);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), patch_order, y, x, channels, to_patch);
}

Status op_flow_mix(const Device *dev, Tensor x_t, Tensor target, Tensor x, Tensor noise, Tensor t)
{
    const int64_t batch = x.shape[0], each = batch > 0 ? tensor_count(x) / batch : 0;
    NEED(t, batch, 1);
    NEED(x, batch, each);
    NEED(noise, batch, each);
    NEED(x_t, batch, each);
    NEED(target, batch, each);
    return OP_RUN(dev, OP_BYTES(4 * tensor_bytes(x_t)), flow_mix, x_t, target, x, noise, t);
}

Status op_normal(const Device *dev, Tensor out, Rng rng, uint64_t first)
{
    NEED(out, 1, tensor_count(out));
    return OP_RUN(dev, OP_BYTES(1 * tensor_bytes(out)), normal, out, rng, first);
}

Status op_squared_error(const Device *dev, Tensor sums, Tensor v, Tensor target)
{
    const int64_t batch = v.shape[0], each = batch > 0 ? tensor_count(v) / batch : 0;
    NEED(v, batch, each);
    NEED(target, batch, each);
    NEED_TYPE(sums, F64, batch, 1);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(v)), squared_error, sums, v, target);
}

Status op_squared_error_backward(const Device *dev, Tensor dv, Tensor v, Tensor target, float scale)
{
    const int64_t count = tensor_count(v);
    NEED(v, 1, count);
    NEED(target, 1, count);
    NEED(dv, 1, count);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(dv)), squared_error_backward, dv, v, target,
                  scale);
}

/* ---- optimizer ------------------------------------------------------------------------------ */

Status op_adamw(const Device *dev, Tensor p, Tensor m, Tensor v, Tensor ema, Tensor g,
                const AdamwStep *step)
{
    const int64_t count = tensor_count(p);
    NEED(p, 1, count);
    NEED(m, 1, count);
    NEED(v, 1, count);
    NEED(g, 1, count);
    MAY(ema, 1, count);
    return OP_RUN(dev, OP_BYTES(7 * tensor_bytes(p)), adamw, p, m, v, ema, g, step);
}

Status op_square_norm(const Device *dev, Tensor sum, Tensor x)
{
    NEED(x, 1, tensor_count(x));
    NEED_TYPE(sum, F64, 1, 1);
    return OP_RUN(dev, OP_BYTES(1 * tensor_bytes(x)), square_norm, sum, x);
}
