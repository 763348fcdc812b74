/*
 * The shapes of every op are checked here, once, whatever the backend: a mismatch is one line that
 * names the op, the tensor, its shape and the one that was expected. Kernels trust what they get.
 */
#include "core/ops.h"

#include "core/op_table.h"

/* A tensor matches (rows, width) when a cut of its dimensions gives these two products: so
 * (batch, tokens, width) is rows, and a convolution's kernel is a matrix. */
static bool shape_splits(Tensor t, int64_t rows, int64_t width)
{
    if (tensor_count(t) != rows * width) return false;
    int64_t leading = 1;
    if (rows == 1) return true;
    for (int i = 0; i < t.ndim; i++) {
        leading *= t.shape[i];
        if (leading == rows) return true;
    }
    return false;
}

static Status check_matrix(const char *op, const char *name, Tensor t, DType dtype, int64_t rows,
                           int64_t width)
{
    char shape[96];
    CHECK(t.dtype == dtype && shape_splits(t, rows, width), ERR_DEVICE,
          "%s: %s is %s, expected (%lld, %lld) %s", op, name, tensor_describe(t, shape),
          (long long)rows, (long long)width, dtype_name(dtype));
    CHECK(t.data || tensor_count(t) == 0, ERR_DEVICE, "%s: %s is absent", op, name);
    return OK;
}

static Status check_dims(const char *op, const char *name, Tensor t, int ndim)
{
    char shape[96];
    CHECK(t.ndim == ndim, ERR_DEVICE, "%s: %s is %s, expected %d dimensions", op, name,
          tensor_describe(t, shape), ndim);
    return OK;
}

static Status check_count(const char *op, const char *name, int64_t value, int64_t expected)
{
    CHECK(value == expected, ERR_DEVICE, "%s: %s is %lld, expected %lld", op, name,
          (long long)value, (long long)expected);
    return OK;
}

/* The tensor's own name makes the message: NEED(w, out, in). MAY: or none. */
#define NEED(t, rows, width) TRY(check_matrix(__func__, #t, t, F32, rows, width))
#define NEED_TYPE(t, dtype, rows, width) TRY(check_matrix(__func__, #t, t, dtype, rows, width))
#define MAY(t, rows, width)                 \
    do {                                    \
        if ((t).data) NEED(t, rows, width); \
    } while (0)
#define NEED_DIMS(t, ndim) TRY(check_dims(__func__, #t, t, ndim))
#define NEED_COUNT(value, expected) TRY(check_count(__func__, #value, value, expected))

/* ---- linear --------------------------------------------------------------------------------- */

Status op_linear(const Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = w.shape[0];
    NEED(x, rows, in);
    NEED(w, out, in);
    MAY(b, 1, out);
    NEED(y, rows, out);
    return dev->table->linear(dev, y, x, w, b);
}

Status op_linear_backward_input(const Device *dev, Tensor dx, Tensor dy, Tensor w, bool accumulate)
{
    const int64_t rows = tensor_rows(dy), in = tensor_width(dx), out = tensor_width(dy);
    NEED(dy, rows, out);
    NEED(w, out, in);
    NEED(dx, rows, in);
    return dev->table->linear_backward_input(dev, dx, dy, w, accumulate);
}

Status op_linear_backward_weight(const Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = tensor_width(dy);
    NEED(x, rows, in);
    NEED(dy, rows, out);
    NEED(dw, out, in);
    MAY(db, 1, out);
    return dev->table->linear_backward_weight(dev, dw, db, x, dy);
}

/* ---- norms ---------------------------------------------------------------------------------- */

Status op_layernorm_modulate(const Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x,
                             Tensor shift, Tensor scale, float eps)
{
    NEED_DIMS(x, 3);
    const int64_t batch = x.shape[0], rows = batch * x.shape[1], width = x.shape[2];
    NEED(x, rows, width);
    NEED(shift, batch, width);
    NEED(scale, batch, width);
    NEED(y, rows, width);
    NEED(mean, rows, 1);
    NEED(rstd, rows, 1);
    return dev->table->layernorm_modulate(dev, y, mean, rstd, x, shift, scale, eps);
}

Status op_layernorm_modulate_backward(const Device *dev, Tensor dx, Tensor dshift, Tensor dscale,
                                      Tensor dy, Tensor x, Tensor mean, Tensor rstd, Tensor scale,
                                      bool accumulate)
{
    NEED_DIMS(x, 3);
    const int64_t batch = x.shape[0], rows = batch * x.shape[1], width = x.shape[2];
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(mean, rows, 1);
    NEED(rstd, rows, 1);
    NEED(scale, batch, width);
    NEED(dx, rows, width);
    NEED(dshift, batch, width);
    NEED(dscale, batch, width);
    return dev->table->layernorm_modulate_backward(dev, dx, dshift, dscale, dy, x, mean, rstd,
                                                   scale, accumulate);
}

Status op_layernorm(const Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                    Tensor b, float eps)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(w, 1, width);
    NEED(b, 1, width);
    NEED(y, rows, width);
    NEED(mean, rows, 1);
    NEED(rstd, rows, 1);
    return dev->table->layernorm(dev, y, mean, rstd, x, w, b, eps);
}

Status op_layernorm_backward(const Device *dev, Tensor dx, Tensor dw, Tensor db, Tensor dy,
                             Tensor x, Tensor mean, Tensor rstd, Tensor w, bool accumulate)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(mean, rows, 1);
    NEED(rstd, rows, 1);
    NEED(w, 1, width);
    NEED(dx, rows, width);
    NEED(dw, 1, width);
    NEED(db, 1, width);
    return dev->table->layernorm_backward(dev, dx, dw, db, dy, x, mean, rstd, w, accumulate);
}

Status op_sum_squares_rows(const Device *dev, Tensor ss, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(ss, rows, 1);
    return dev->table->sum_squares_rows(dev, ss, x);
}

Status op_rmsnorm(const Device *dev, Tensor y, Tensor x, Tensor ss, Tensor w, int64_t full_width,
                  float eps)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(ss, rows, 1);
    NEED(w, 1, width);
    NEED(y, rows, width);
    return dev->table->rmsnorm(dev, y, x, ss, w, full_width, eps);
}

Status op_rmsnorm_dot(const Device *dev, Tensor dot, Tensor dy, Tensor x, Tensor w)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(w, 1, width);
    NEED(dot, rows, 1);
    return dev->table->rmsnorm_dot(dev, dot, dy, x, w);
}

Status op_rmsnorm_backward(const Device *dev, Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor ss,
                           Tensor dot, Tensor w, int64_t full_width, float eps, bool accumulate)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(ss, rows, 1);
    NEED(dot, rows, 1);
    NEED(w, 1, width);
    NEED(dx, rows, width);
    NEED(dw, 1, width);
    return dev->table->rmsnorm_backward(dev, dx, dw, dy, x, ss, dot, w, full_width, eps,
                                        accumulate);
}

/* ---- attention ------------------------------------------------------------------------------ */

Status op_rope(const Device *dev, Tensor x, Tensor table, int sign)
{
    NEED_DIMS(x, 4);
    const int64_t batch = x.shape[0], tokens = x.shape[1], heads = x.shape[2],
                  head_dim = x.shape[3];
    NEED(x, batch * tokens, heads * head_dim);
    NEED(table, tokens, head_dim / 2 * 2);
    NEED_COUNT(head_dim % 2, 0);
    CHECK(sign == 1 || sign == -1, ERR_DEVICE, "%s: sign is %d, expected 1 or -1", __func__, sign);
    return dev->table->rope(dev, x, table, sign);
}

/* What forward and backward share: q, k, v, out, lse and the options. */
static Status check_attention(const char *op, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,
                              const AttentionOptions *options)
{
    TRY(check_dims(op, "q", q, 4));
    TRY(check_dims(op, "k", k, 4));
    const int64_t batch = q.shape[0], q_tokens = q.shape[1], heads = q.shape[2];
    const int64_t head_dim = q.shape[3], k_tokens = k.shape[1], width = heads * head_dim;
    TRY(check_matrix(op, "q", q, F32, batch * q_tokens, width));
    TRY(check_matrix(op, "k", k, F32, batch * k_tokens, width));
    TRY(check_count(op, "batch of k", k.shape[0], batch));
    TRY(check_count(op, "heads of k", k.shape[2], heads));
    TRY(check_matrix(op, "v", v, F32, batch * k_tokens, width));
    TRY(check_matrix(op, "out", out, F32, batch * q_tokens, width));
    TRY(check_matrix(op, "lse", lse, F32, batch * heads, q_tokens));
    if (options->rel_bias.data)
        TRY(check_matrix(op, "rel_bias", options->rel_bias, F32, heads, q_tokens + k_tokens - 1));
    if (options->key_lengths.data)
        TRY(check_matrix(op, "key_lengths", options->key_lengths, I32, batch, 1));
    return OK;
}

Status op_attention(const Device *dev, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                    const AttentionOptions *options, Arena *scratch)
{
    TRY(check_attention(__func__, q, k, v, out, lse, options));
    return dev->table->attention(dev, out, lse, q, k, v, options, scratch);
}

Status op_attention_backward(const Device *dev, Tensor dq, Tensor dk, Tensor dv, Tensor drel_bias,
                             Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,
                             const AttentionOptions *options, Arena *scratch)
{
    TRY(check_attention(__func__, q, k, v, out, lse, options));
    const int64_t q_rows = q.shape[0] * q.shape[1], k_rows = k.shape[0] * k.shape[1];
    const int64_t heads = q.shape[2], width = heads * q.shape[3];
    NEED(dout, q_rows, width);
    NEED(dq, q_rows, width);
    NEED(dk, k_rows, width);
    NEED(dv, k_rows, width);
    MAY(drel_bias, heads, q.shape[1] + k.shape[1] - 1);
    return dev->table->attention_backward(dev, dq, dk, dv, drel_bias, dout, q, k, v, out, lse,
                                          options, scratch);
}

size_t op_attention_scratch(const Device *dev, int64_t batch, int64_t heads, int64_t q_tokens,
                            int64_t k_tokens, int64_t head_dim)
{
    (void)batch; /* tiles belong to threads, however many heads they work through */
    (void)heads;
    return dev->table->attention_scratch(dev, q_tokens, k_tokens, head_dim);
}

/* ---- element by element --------------------------------------------------------------------- */

Status op_gelu(const Device *dev, Tensor y, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(y, rows, width);
    return dev->table->gelu(dev, y, x);
}

Status op_gelu_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(dx, rows, width);
    return dev->table->gelu_backward(dev, dx, dy, x);
}

Status op_silu(const Device *dev, Tensor y, Tensor x)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(y, rows, width);
    return dev->table->silu(dev, y, x);
}

Status op_silu_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x, bool accumulate)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(dx, rows, width);
    return dev->table->silu_backward(dev, dx, dy, x, accumulate);
}

Status op_gated_gelu(const Device *dev, Tensor y, Tensor a, Tensor b)
{
    const int64_t rows = tensor_rows(a), width = tensor_width(a);
    NEED(a, rows, width);
    NEED(b, rows, width);
    NEED(y, rows, width);
    return dev->table->gated_gelu(dev, y, a, b);
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
    return dev->table->gated_gelu_backward(dev, da, db, dy, a, b);
}

Status op_gate_residual(const Device *dev, Tensor out, Tensor x, Tensor y, Tensor gate)
{
    NEED_DIMS(x, 3);
    const int64_t batch = x.shape[0], rows = batch * x.shape[1], width = x.shape[2];
    NEED(x, rows, width);
    NEED(y, rows, width);
    MAY(gate, batch, width);
    NEED(out, rows, width);
    return dev->table->gate_residual(dev, out, x, y, gate);
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
    return dev->table->gate_residual_backward(dev, dy, dgate, dout, y, gate);
}

Status op_axpby(const Device *dev, Tensor y, float a, Tensor x, float b)
{
    NEED(x, 1, tensor_count(x));
    NEED(y, 1, tensor_count(x));
    return dev->table->axpby(dev, y, a, x, b);
}

Status op_fill(const Device *dev, Tensor y, float value)
{
    NEED(y, 1, tensor_count(y));
    return dev->table->fill(dev, y, value);
}

Status op_convert(const Device *dev, Tensor dst, Tensor src)
{
    NEED_TYPE(src, src.dtype, 1, tensor_count(src));
    NEED_TYPE(dst, dst.dtype, 1, tensor_count(src));
    CHECK(dst.dtype <= F16 && src.dtype <= F16, ERR_DEVICE,
          "%s: %s to %s, only F32, BF16 and F16 are converted", __func__, dtype_name(src.dtype),
          dtype_name(dst.dtype));
    return dev->table->convert(dev, dst, src);
}

/* ---- conditioning --------------------------------------------------------------------------- */

static Status check_modulation(const char *op, Tensor m, Tensor table, Tensor e)
{
    TRY(check_dims(op, "m", m, 3));
    TRY(check_dims(op, "e", e, 3));
    const int64_t parts = m.shape[0], batch = m.shape[1], width = m.shape[2];
    TRY(check_matrix(op, "m", m, F32, parts * batch, width));
    TRY(check_matrix(op, "table", table, F32, parts, width));
    TRY(check_matrix(op, "e", e, F32, batch, (e.shape[1] == 1 ? 1 : parts) * width));
    return OK;
}

Status op_modulation(const Device *dev, Tensor m, Tensor table, Tensor e)
{
    TRY(check_modulation(__func__, m, table, e));
    return dev->table->modulation(dev, m, table, e);
}

Status op_modulation_backward(const Device *dev, Tensor dtable, Tensor de, Tensor dm)
{
    TRY(check_modulation(__func__, dm, dtable, de));
    return dev->table->modulation_backward(dev, dtable, de, dm);
}

Status op_timestep_embedding(const Device *dev, Tensor emb, Tensor t)
{
    const int64_t batch = tensor_count(t), dim = tensor_width(emb);
    NEED(t, batch, 1);
    NEED(emb, batch, dim);
    NEED_COUNT(dim % 2, 0);
    return dev->table->timestep_embedding(dev, emb, t);
}

Status op_embedding(const Device *dev, Tensor y, Tensor table, Tensor ids)
{
    const int64_t rows = tensor_count(ids), width = tensor_width(table);
    NEED_TYPE(ids, I32, rows, 1);
    NEED(table, tensor_rows(table), width);
    NEED(y, rows, width);
    return dev->table->embedding(dev, y, table, ids);
}

Status op_embedding_backward(const Device *dev, Tensor dtable, Tensor dy, Tensor ids)
{
    const int64_t rows = tensor_count(ids), width = tensor_width(dtable);
    NEED_TYPE(ids, I32, rows, 1);
    NEED(dtable, tensor_rows(dtable), width);
    NEED(dy, rows, width);
    return dev->table->embedding_backward(dev, dtable, dy, ids);
}

Status op_transpose(const Device *dev, Tensor y, Tensor x)
{
    NEED_DIMS(x, 2);
    NEED(x, x.shape[0], x.shape[1]);
    NEED_DIMS(y, 2);
    NEED(y, x.shape[1], x.shape[0]);
    return dev->table->transpose(dev, y, x);
}

Status op_zero_tail(const Device *dev, Tensor x, Tensor lengths)
{
    NEED_DIMS(x, 3);
    NEED(x, x.shape[0] * x.shape[1], x.shape[2]);
    NEED_TYPE(lengths, I32, x.shape[0], 1);
    return dev->table->zero_tail(dev, x, lengths);
}

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
