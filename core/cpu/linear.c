#include "core/cpu/cpu.h"

#include "core/blas/gemm.h"
#include "core/cpu/gemm_chain.h"
#include "core/cpu/gemm_parts.h"

/* oneDNN, but for what it is slow at: a transposed first operand, which the gradients of weights
 * have (docs/performance.md). */
static Status gemm_kernel(const Device *dev, const Gemm *gemm)
{
    if (!CPU_FUSED || !gemm->a.transposed) return gemm_f32(gemm, dev->threads);
    gemm_chain(gemm, dev->threads);
    return OK;
}

/* By the device's choice of arithmetic. */
static Status multiply(const Device *dev, const Gemm *gemm)
{
    if (!dev->exact) return dev->table->gemm(dev, gemm);
    gemm_chain(gemm, dev->threads);
    return OK;
}

/* w (out, in), F32 or (on a device that is not exact) BF16, as an operand. */
static GemmOperand weight_operand(Tensor w, int64_t in, bool transposed)
{
    GemmOperand operand = { .stride = in, .transposed = transposed };
    if (w.dtype == BF16)
        operand.bf16 = w.data;
    else
        operand.data = tensor_f32(w);
    return operand;
}

static Status linear_kernel(const Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = w.shape[0];
    const Gemm gemm = { .c = tensor_f32(y),
                        .a = { tensor_f32(x), in, false },
                        .b = weight_operand(w, in, true),
                        .m = rows,
                        .n = out,
                        .k = in,
                        .bias = b.data };
    return multiply(dev, &gemm);
}

static Status linear_backward_input_kernel(const Device *dev, Tensor dx, Tensor dy, Tensor w,
                                           bool accumulate)
{
    const int64_t rows = tensor_rows(dy), in = tensor_width(dx), out = tensor_width(dy);
    const Gemm gemm = { .c = tensor_f32(dx),
                        .a = { tensor_f32(dy), out, false },
                        .b = weight_operand(w, in, false),
                        .m = rows,
                        .n = in,
                        .k = out,
                        .accumulate = accumulate };
    return multiply(dev, &gemm);
}

/* One chain a column, from db on: rows of another call go on where these end. */
static void continue_column_sums(float *restrict db, const float *restrict dy, int64_t rows,
                                 int64_t stride, int64_t columns)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) db[c] += dy[r * stride + c];
}

/* db += column sums of dy: a task owns CPU_COLUMNS columns */
static void add_column_sums(const Device *dev, float *db, const float *dy, int64_t rows,
                            int64_t out)
{
    const int64_t blocks = cpu_blocks(out, CPU_COLUMNS);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *out))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t c0 = block * CPU_COLUMNS, n = cpu_min(CPU_COLUMNS, out - c0);
        if (dev->exact) {
            continue_column_sums(db + c0, dy + c0, rows, out, n);
            continue;
        }
        float total[CPU_COLUMNS] = { 0 };
        for (int64_t r0 = 0; r0 < rows; r0 += CPU_ROWS) {
            const int64_t r1 = cpu_min(r0 + CPU_ROWS, rows);
            float sum[CPU_COLUMNS] = { 0 };
            for (int64_t r = r0; r < r1; r++)
                for (int64_t c = 0; c < n; c++) sum[c] += dy[r * out + c0 + c];
            for (int64_t c = 0; c < n; c++) total[c] += sum[c];
        }
        for (int64_t c = 0; c < n; c++) db[c0 + c] += total[c];
    }
}

static Status linear_backward_weight_kernel(const Device *dev, Tensor dw, Tensor db, Tensor x,
                                            Tensor dy)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = tensor_width(dy);
    if (db.data) add_column_sums(dev, tensor_f32(db), tensor_f32(dy), rows, out);
    const Gemm gemm = { .c = tensor_f32(dw),
                        .a = { tensor_f32(dy), out, true },
                        .b = { tensor_f32(x), in, false },
                        .m = out,
                        .n = in,
                        .k = rows,
                        .accumulate = true };
    return multiply(dev, &gemm);
}

/* ---- sums that ranks share ------------------------------------------------------------------ */

static Status linear_cut_kernel(const Device *dev, Tensor y, Tensor x, Tensor w, int parts)
{
    if (!dev->exact) return linear_kernel(dev, y, x, w, tensor_none());
    const int64_t in = tensor_width(x);
    const PartsGemm gemm = {
        .c = tensor_f32(y),
        .m = tensor_rows(x),
        .n = w.shape[0],
        .term = { { { .data = tensor_f32(x), .stride = in }, weight_operand(w, in, true), in } },
        .terms = 1,
        .parts = parts
    };
    gemm_parts(&gemm, dev->threads);
    return OK;
}

static Status linear_cut_backward_input_kernel(const Device *dev, Tensor dx,
                                               const LinearPair *pairs, int count, int parts,
                                               bool accumulate)
{
    const int64_t in = tensor_width(dx);
    PartsGemm gemm = { .c = tensor_f32(dx),
                       .m = tensor_rows(dx),
                       .n = in,
                       .terms = count,
                       .parts = parts,
                       .accumulate = accumulate };
    for (int p = 0; p < count; p++) {
        const Tensor dy = pairs[p].dy, w = pairs[p].w;
        const int64_t out = tensor_width(dy);
        if (!dev->exact) TRY(linear_backward_input_kernel(dev, dx, dy, w, accumulate || p > 0));
        gemm.term[p] = (PartsTerm){ { .data = tensor_f32(dy), .stride = out },
                                    weight_operand(w, in, false),
                                    out };
    }
    if (dev->exact) gemm_parts(&gemm, dev->threads);
    return OK;
}

void CPU_FILL(linear)(OpTable *table)
{
    table->gemm = gemm_kernel;
    table->linear = linear_kernel;
    table->linear_backward_input = linear_backward_input_kernel;
    table->linear_backward_weight = linear_backward_weight_kernel;
    table->linear_cut = linear_cut_kernel;
    table->linear_cut_backward_input = linear_cut_backward_input_kernel;
}
