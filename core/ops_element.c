/* Element-wise and conditioning ops: shapes are checked here, whatever the backend. */
#include "core/ops.h"

#include "core/op_check.h"
#include "core/op_table.h"

/* ---- element by element --------------------------------------------------------------------- */

Status op_gelu(const Device *dev, Tensor y, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(y, rows, width);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), gelu, y, x);
}

Status op_gelu_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(dx, rows, width);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(dx)), gelu_backward, dx, dy, x);
}

Status op_gelu_erf(const Device *dev, Tensor y, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(y, rows, width);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), gelu_erf, y, x);
}

Status op_gelu_erf_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(dx, rows, width);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(dx)), gelu_erf_backward, dx, dy, x);
}

Status op_silu(const Device *dev, Tensor y, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(y, rows, width);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), silu, y, x);
}

Status op_silu_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x, bool accumulate)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(dx, rows, width);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(dx)), silu_backward, dx, dy, x, accumulate);
}

Status op_gated_gelu(const Device *dev, Tensor y, Tensor a, Tensor b)
{
    const int64_t rows = tensor_rows(a), width = tensor_width(a);
    NEED(a, rows, width);
    NEED(b, rows, width);
    NEED(y, rows, width);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(y)), gated_gelu, y, a, b);
}

Status op_gated_gelu_backward(const Device *dev, Tensor da, Tensor db, Tensor dy, Tensor a,
                              Tensor b)
{
    const int64_t rows = tensor_rows(a), width = tensor_width(a);
    NEED(a, rows, width);
    NEED(b, rows, width);
    NEED(dy, rows, width);
    NEED(da, rows, width);
    NEED(db, rows, width);
    return OP_RUN(dev, OP_BYTES(5 * tensor_bytes(da)), gated_gelu_backward, da, db, dy, a, b);
}

Status op_gate_residual(const Device *dev, Tensor out, Tensor x, Tensor y, Tensor gate)
{
    NEED_DIMS(x, 3);
    const int64_t batch = x.shape[0], rows = batch * x.shape[1], width = x.shape[2];
    NEED(x, rows, width);
    NEED(y, rows, width);
    MAY(gate, batch, width);
    NEED(out, rows, width);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(out)), gate_residual, out, x, y, gate);
}

Status op_gate_residual_backward(const Device *dev, Tensor dy, Tensor dgate, Tensor dout, Tensor y,
                                 Tensor gate)
{
    NEED_DIMS(dout, 3);
    const int64_t batch = dout.shape[0], rows = batch * dout.shape[1], width = dout.shape[2];
    NEED(dout, rows, width);
    NEED(y, rows, width);
    NEED(gate, batch, width);
    NEED(dy, rows, width);
    NEED(dgate, batch, width);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(dy)), gate_residual_backward, dy, dgate, dout, y,
                  gate);
}

Status op_axpby(const Device *dev, Tensor y, float a, Tensor x, float b)
{
    NEED(x, 1, tensor_count(x));
    NEED(y, 1, tensor_count(x));
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(y)), axpby, y, a, x, b);
}

Status op_take_tree_sum(const Device *dev, Tensor y, Tensor rows, int64_t first)
{
    const int64_t n = tensor_rows(rows), count = tensor_count(y);
    NEED(y, 1, count);
    NEED(rows, n, tensor_width(rows));
    NEED_COUNT(n & (n - 1), 0);
    NEED_COUNT(first >= 0 && first + count <= tensor_width(rows), 1);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), take_tree_sum, y, rows, first);
}

Status op_add_bias(const Device *dev, Tensor y, Tensor b)
{
    NEED(y, tensor_rows(y), tensor_width(y));
    NEED(b, 1, tensor_width(y));
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), add_bias, y, b);
}

Status op_place_columns(const Device *dev, Tensor y, Tensor x, int64_t first)
{
    const int64_t rows = tensor_rows(y), width = tensor_width(x);
    NEED(y, rows, tensor_width(y));
    NEED(x, rows, width);
    NEED_COUNT(first >= 0 && first + width <= tensor_width(y), 1);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), place_columns, y, x, first);
}

Status op_fill(const Device *dev, Tensor y, float value)
{
    NEED(y, 1, tensor_count(y));
    return OP_RUN(dev, OP_BYTES(1 * tensor_bytes(y)), fill, y, value);
}

Status op_convert(const Device *dev, Tensor dst, Tensor src)
{
    NEED_TYPE(src, src.dtype, 1, tensor_count(src));
    NEED_TYPE(dst, dst.dtype, 1, tensor_count(src));
    CHECK(dst.dtype <= F16 && src.dtype <= F16, ERR_DEVICE,
          "%s: %s to %s, only F32, BF16 and F16 are converted", __func__, dtype_name(src.dtype),
          dtype_name(dst.dtype));
    return OP_RUN(dev, OP_BYTES(1 * tensor_bytes(dst)), convert, dst, src);
}

/* ---- conditioning --------------------------------------------------------------------------- */

/* table absent: nothing of it is checked */
static Status check_modulation(const char *op, Tensor m, Tensor table, Tensor e)
{
    TRY(op_check_dims(op, "m", m, 3));
    TRY(op_check_dims(op, "e", e, 3));
    const int64_t parts = m.shape[0], batch = m.shape[1], width = m.shape[2];
    TRY(op_check_matrix(op, "m", m, F32, parts * batch, width));
    if (table.data) TRY(op_check_matrix(op, "table", table, F32, parts, width));
    TRY(op_check_matrix(op, "e", e, F32, batch, (e.shape[1] == 1 ? 1 : parts) * width));
    return OK;
}

Status op_modulation(const Device *dev, Tensor m, Tensor table, Tensor e)
{
    NEED_COUNT(table.data != NULL, 1);
    TRY(check_modulation(__func__, m, table, e));
    return OP_RUN(dev, OP_BYTES(0), modulation, m, table, e);
}

Status op_modulation_backward(const Device *dev, Tensor dtable, Tensor de, Tensor dm)
{
    TRY(check_modulation(__func__, dm, dtable, de));
    return OP_RUN(dev, OP_BYTES(0), modulation_backward, dtable, de, dm);
}

Status op_timestep_embedding(const Device *dev, Tensor emb, Tensor t)
{
    const int64_t batch = tensor_count(t), dim = tensor_width(emb);
    NEED(t, batch, 1);
    NEED(emb, batch, dim);
    NEED_COUNT(dim % 2, 0);
    return OP_RUN(dev, OP_BYTES(0), timestep_embedding, emb, t);
}

Status op_embedding(const Device *dev, Tensor y, Tensor table, Tensor ids)
{
    const int64_t rows = tensor_count(ids), width = tensor_width(table);
    NEED_TYPE(ids, I32, rows, 1);
    NEED(table, tensor_rows(table), width);
    NEED(y, rows, width);
    return OP_RUN(dev, OP_BYTES(0), embedding, y, table, ids);
}

Status op_embedding_backward(const Device *dev, Tensor dtable, Tensor dy, Tensor ids)
{
    const int64_t rows = tensor_count(ids), width = tensor_width(dtable);
    NEED_TYPE(ids, I32, rows, 1);
    NEED(dtable, tensor_rows(dtable), width);
    NEED(dy, rows, width);
    return OP_RUN(dev, OP_BYTES(0), embedding_backward, dtable, dy, ids);
}

Status op_transpose(const Device *dev, Tensor y, Tensor x)
{
    NEED_DIMS(x, 2);
    NEED(x, x.shape[0], x.shape[1]);
    NEED_DIMS(y, 2);
    NEED(y, x.shape[1], x.shape[0]);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), transpose, y, x);
}

Status op_zero_tail(const Device *dev, Tensor x, Tensor lengths)
{
    NEED_DIMS(x, 3);
    NEED(x, x.shape[0] * x.shape[1], x.shape[2]);
    NEED_TYPE(lengths, I32, x.shape[0], 1);
    return OP_RUN(dev, OP_BYTES(0), zero_tail, x, lengths);
}
