#include "core/cpu/cpu.h"

#include <string.h>

#include "core/blas/gemm.h"

/* y += b, or y = b: every row of y starts as the bias, and the product is added to it */
static void start_with_bias(const Device *dev, float *y, const float *b, int64_t rows, int64_t out)
{
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *out))
    for (int64_t r = 0; r < rows; r++) memcpy(y + r * out, b, (size_t)out * sizeof *y);
}

static Status linear_kernel(const Device *dev, Tensor y, Tensor x, Tensor w, Tensor b)
{
    const int64_t rows = tensor_rows(x), in = tensor_width(x), out = w.shape[0];
    if (b.data) start_with_bias(dev, tensor_f32(y), tensor_f32(b), rows, out);
    return gemm_f32(tensor_f32(y), out, (GemmOperand){ tensor_f32(x), in, false },
                    (GemmOperand){ tensor_f32(w), in, true }, (GemmSize){ rows, out, in },
                    b.data != NULL, dev->threads);
}

static Status linear_backward_input_kernel(const Device *dev, Tensor dx, Tensor dy, Tensor w,
                                           bool accumulate)
{
    const int64_t rows = tensor_rows(dy), in = tensor_width(dx), out = tensor_width(dy);
    return gemm_f32(tensor_f32(dx), in, (GemmOperand){ tensor_f32(dy), out, false },
                    (GemmOperand){ tensor_f32(w), in, false }, (GemmSize){ rows, in, out },
                    accumulate, dev->threads);
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
    return gemm_f32(tensor_f32(dw), in, (GemmOperand){ tensor_f32(dy), out, true },
                    (GemmOperand){ tensor_f32(x), in, false }, (GemmSize){ out, in, rows }, true,
                    dev->threads);
}

void CPU_FILL(linear)(OpTable *table)
{
    table->linear = linear_kernel;
    table->linear_backward_input = linear_backward_input_kernel;
    table->linear_backward_weight = linear_backward_weight_kernel;
}
