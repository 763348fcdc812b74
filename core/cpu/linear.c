#include "core/cpu/cpu.h"

#include "core/blas/gemm.h"

static Status linear_kernel(const Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = w.shape[0];
    const Gemm gemm = { .c = tensor_f32(y),
                        .a = { tensor_f32(x), in, false },
                        .b = { tensor_f32(w), in, true },
                        .m = rows,
                        .n = out,
                        .k = in,
                        .bias = b.data };
    return gemm_f32(&gemm, dev->threads);
}

static Status linear_backward_input_kernel(const Device *dev, Tensor dx, Tensor dy, Tensor w,
                                           bool accumulate)
{
    const int64_t rows = tensor_rows(dy), in = tensor_width(dx), out = tensor_width(dy);
    const Gemm gemm = { .c = tensor_f32(dx),
                        .a = { tensor_f32(dy), out, false },
                        .b = { tensor_f32(w), in, false },
                        .m = rows,
                        .n = in,
                        .k = out,
                        .accumulate = accumulate };
    return gemm_f32(&gemm, dev->threads);
}

/* db += column sums of dy: a task owns CPU_COLUMNS columns */
static void add_column_sums(const Device *dev, float *db, const float *dy, int64_t rows,
                            int64_t out)
{
    const int64_t blocks = cpu_blocks(out, CPU_COLUMNS);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *out))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t c0 = block * CPU_COLUMNS, n = cpu_min(CPU_COLUMNS, out - c0);
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
    return gemm_f32(&gemm, dev->threads);
}

void CPU_FILL(linear)(OpTable *table)
{
    table->linear = linear_kernel;
    table->linear_backward_input = linear_backward_input_kernel;
    table->linear_backward_weight = linear_backward_weight_kernel;
}
