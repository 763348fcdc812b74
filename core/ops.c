/* Linear layers, norms and attention: shapes are checked here, whatever the backend. */
#include "core/ops.h"

#include "core/op_check.h"
#include "core/op_table.h"

/* ---- linear --------------------------------------------------------------------------------- */

Status op_linear(const Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = w.shape[0];
    NEED(x, rows, in);
    NEED_WEIGHT(dev, w, out, in);
    MAY(b, 1, out);
    NEED(y, rows, out);
    return OP_RUN(dev, OP_FLOPS(2.0 * (double)(rows * in * out)), linear, y, x, w, b);
}

Status op_linear_backward_input(const Device *dev, Tensor dx, Tensor dy, Tensor w, bool accumulate)
{
    const int64_t rows = tensor_rows(dy), in = tensor_width(dx), out = tensor_width(dy);
    NEED(dy, rows, out);
    NEED_WEIGHT(dev, w, out, in);
    NEED(dx, rows, in);
    return OP_RUN(dev, OP_FLOPS(2.0 * (double)(rows * in * out)), linear_backward_input, dx, dy, w,
                  accumulate);
}

Status op_linear_backward_weight(const Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = tensor_width(dy);
    NEED(x, rows, in);
    NEED(dy, rows, out);
    NEED(dw, out, in);
    MAY(db, 1, out);
    return OP_RUN(dev, OP_FLOPS(2.0 * (double)(rows * in * out)), linear_backward_weight, dw, db, x,
                  dy);
}

/* A sum over `width` is cut into equal chunks. */
static Status check_parts(const char *op, int64_t width, int parts)
{
    CHECK(parts >= 1 && parts <= LINEAR_PARTS && width % parts == 0, ERR_DEVICE,
          "%s: %lld terms in %d parts, expected 1 to %d equal ones", op, (long long)width, parts,
          LINEAR_PARTS);
    return OK;
}

Status op_linear_cut(const Device *dev, Tensor y, Tensor x, Tensor w, int parts)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = w.shape[0];
    NEED(x, rows, in);
    NEED_WEIGHT(dev, w, out, in);
    NEED(y, rows, out);
    TRY(check_parts(__func__, in, parts));
    return OP_RUN(dev, OP_FLOPS(2.0 * (double)(rows * in * out)), linear_cut, y, x, w, parts);
}

Status op_linear_cut_backward_input(const Device *dev, Tensor dx, const LinearPair *pairs,
                                    int count, int parts, bool accumulate)
{
    CHECK(count >= 1 && count <= LINEAR_PAIRS, ERR_DEVICE, "%s: %d pairs, expected 1 to %d",
          __func__, count, LINEAR_PAIRS);
    const int64_t rows = tensor_rows(dx), in = tensor_width(dx);
    NEED(dx, rows, in);
    int64_t terms = 0;
    for (int p = 0; p < count; p++) {
        const int64_t out = tensor_width(pairs[p].dy);
        terms += out;
        NEED(pairs[p].dy, rows, out);
        NEED_WEIGHT(dev, pairs[p].w, out, in);
        TRY(check_parts(__func__, out, parts));
    }
    return OP_RUN(dev, OP_FLOPS(2.0 * (double)(rows * in * terms)), linear_cut_backward_input, dx,
                  pairs, count, parts, accumulate);
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
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), layernorm_modulate, y, mean, rstd, x, shift,
                  scale, eps);
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
    return OP_RUN(dev, OP_BYTES(5 * tensor_bytes(dx)), layernorm_modulate_backward, dx, dshift,
                  dscale, dy, x, mean, rstd, scale, accumulate);
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
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), layernorm, y, mean, rstd, x, w, b, eps);
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
    return OP_RUN(dev, OP_BYTES(5 * tensor_bytes(dx)), layernorm_backward, dx, dw, db, dy, x, mean,
                  rstd, w, accumulate);
}

Status op_sum_squares_rows(const Device *dev, Tensor ss, Tensor x, int parts)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(ss, rows, 1);
    TRY(check_parts(__func__, width, parts));
    return OP_RUN(dev, OP_BYTES(1 * tensor_bytes(x)), sum_squares_rows, ss, x, parts);
}

Status op_rmsnorm(const Device *dev, Tensor y, Tensor x, Tensor ss, Tensor w, int64_t full_width,
                  float eps)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(ss, rows, 1);
    NEED(w, 1, width);
    NEED(y, rows, width);
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(y)), rmsnorm, y, x, ss, w, full_width, eps);
}

Status op_rmsnorm_dot(const Device *dev, Tensor dot, Tensor dy, Tensor x, Tensor w, int parts)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    NEED(x, rows, width);
    NEED(dy, rows, width);
    NEED(w, 1, width);
    NEED(dot, rows, 1);
    TRY(check_parts(__func__, width, parts));
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(x)), rmsnorm_dot, dot, dy, x, w, parts);
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
    MAY(dw, 1, width);
    return OP_RUN(dev, OP_BYTES(4 * tensor_bytes(dx)), rmsnorm_backward, dx, dw, dy, x, ss, dot, w,
                  full_width, eps, accumulate);
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
    return OP_RUN(dev, OP_BYTES(2 * tensor_bytes(x)), rope, x, table, sign);
}

/* What forward and backward share: q, k, v, out, lse and the options. */
static Status check_attention(const char *op, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,
                              const AttentionOptions *options)
{
    TRY(op_check_dims(op, "q", q, 4));
    TRY(op_check_dims(op, "k", k, 4));
    const int64_t batch = q.shape[0], q_tokens = q.shape[1], heads = q.shape[2];
    const int64_t head_dim = q.shape[3], k_tokens = k.shape[1], width = heads * head_dim;
    TRY(op_check_matrix(op, "q", q, F32, batch * q_tokens, width));
    TRY(op_check_matrix(op, "k", k, F32, batch * k_tokens, width));
    TRY(op_check_count(op, "batch of k", k.shape[0], batch));
    TRY(op_check_count(op, "heads of k", k.shape[2], heads));
    TRY(op_check_matrix(op, "v", v, F32, batch * k_tokens, width));
    TRY(op_check_matrix(op, "out", out, F32, batch * q_tokens, width));
    TRY(op_check_matrix(op, "lse", lse, F32, batch * heads, q_tokens));
    CHECK(options->scale > 0, ERR_DEVICE, "%s: scale %g is not above 0", op,
          (double)options->scale);
    if (options->rel_bias.data)
        TRY(op_check_matrix(op, "rel_bias", options->rel_bias, F32, heads,
                            q_tokens + k_tokens - 1));
    if (options->key_lengths.data)
        TRY(op_check_matrix(op, "key_lengths", options->key_lengths, I32, batch, 1));
    return OK;
}

/* `products` of (q_tokens, head_dim) and (head_dim, k_tokens), a head; masked keys count, too */
static double attention_flops(Tensor q, Tensor k, int products)
{
    return 2.0 * products * (double)tensor_count(q) * (double)k.shape[1];
}

Status op_attention(const Device *dev, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                    const AttentionOptions *options, Arena *scratch)
{
    TRY(check_attention(__func__, q, k, v, out, lse, options));
    return OP_RUN(dev, OP_FLOPS(attention_flops(q, k, 2)), attention, out, lse, q, k, v, options,
                  scratch);
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
    return OP_RUN(dev, OP_FLOPS(attention_flops(q, k, 5)), attention_backward, dq, dk, dv,
                  drel_bias, dout, q, k, v, out, lse, options, scratch);
}

Status op_attention_merge(const Device *dev, Tensor out, Tensor lse, Tensor part_out,
                          Tensor part_lse)
{
    NEED_DIMS(out, 4);
    const int64_t batch = out.shape[0], tokens = out.shape[1], heads = out.shape[2];
    const int64_t width = heads * out.shape[3];
    NEED(out, batch * tokens, width);
    NEED(lse, batch * heads, tokens);
    NEED(part_out, batch * tokens, width);
    NEED(part_lse, batch * heads, tokens);
    return OP_RUN(dev, OP_BYTES(3 * tensor_bytes(out)), attention_merge, out, lse, part_out,
                  part_lse);
}

size_t op_attention_scratch(const Device *dev, int64_t batch, int64_t heads, int64_t q_tokens,
                            int64_t k_tokens, int64_t head_dim)
{
    (void)batch; /* tiles belong to threads, however many heads they work through */
    (void)heads;
    return dev->table->attention_scratch(dev, q_tokens, k_tokens, head_dim);
}
