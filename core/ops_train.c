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
    return dev->table->patch_order(dev, y, x, channels, to_patch);
}

Status op_flow_mix(const Device *dev, Tensor x_t, Tensor target, Tensor x, Tensor noise, Tensor t)
{
    const int64_t batch = x.shape[0], each = batch > 0 ? tensor_count(x) / batch : 0;
    NEED(t, batch, 1);
    NEED(x, batch, each);
    NEED(noise, batch, each);
    NEED(x_t, batch, each);
    NEED(target, batch, each);
    return dev->table->flow_mix(dev, x_t, target, x, noise, t);
}

Status op_normal(const Device *dev, Tensor out, Rng rng, uint64_t first)
{
    NEED(out, 1, tensor_count(out));
    return dev->table->normal(dev, out, rng, first);
}

Status op_squared_error(const Device *dev, Tensor sums, Tensor v, Tensor target)
{
    const int64_t batch = v.shape[0], each = batch > 0 ? tensor_count(v) / batch : 0;
    NEED(v, batch, each);
    NEED(target, batch, each);
    NEED_TYPE(sums, F64, batch, 1);
    return dev->table->squared_error(dev, sums, v, target);
}

Status op_squared_error_backward(const Device *dev, Tensor dv, Tensor v, Tensor target, float scale)
{
    const int64_t count = tensor_count(v);
    NEED(v, 1, count);
    NEED(target, 1, count);
    NEED(dv, 1, count);
    return dev->table->squared_error_backward(dev, dv, v, target, scale);
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
    return dev->table->adamw(dev, p, m, v, ema, g, step);
}

Status op_square_norm(const Device *dev, Tensor sum, Tensor x)
{
    NEED(x, 1, tensor_count(x));
    NEED_TYPE(sum, F64, 1, 1);
    return dev->table->square_norm(dev, sum, x);
}
