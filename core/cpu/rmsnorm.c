#include "core/cpu/cpu.h"

#include <math.h>

static Status sum_squares_rows_kernel(const Device *dev, Tensor ss, Tensor x, int parts)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x), chunk = width / parts;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t r = 0; r < rows; r++) {
        float part[LINEAR_PARTS];
        for (int p = 0; p < parts; p++) {
            const float *row = tensor_f32(x) + r * width + p * chunk;
            part[p] = cpu_dot(row, row, chunk);
        }
        tensor_f32(ss)[r] = cpu_tree_sum(part, parts);
    }
    return OK;
}

static float inverse_rms(float ss, int64_t full_width, float eps)
{
    return 1.0f / sqrtf(ss / (float)full_width + eps);
}

/* y may be x */
static Status rmsnorm_kernel(const Device *dev, Tensor y, Tensor x, Tensor ss, Tensor w,
                             int64_t full_width, float eps)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    const float *weight = tensor_f32(w);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t r = 0; r < rows; r++) {
        const float *in = tensor_f32(x) + r * width;
        float *out = tensor_f32(y) + r * width;
        const float inverse = inverse_rms(tensor_f32(ss)[r], full_width, eps);
#pragma omp simd
        for (int64_t c = 0; c < width; c++) out[c] = in[c] * weight[c] * inverse;
    }
    return OK;
}

/* sum of dy w x; lanes as in cpu_dot */
static float sum_products(const float *restrict dy, const float *restrict w,
                          const float *restrict x, int64_t count)
{
    float lane[CPU_SUM_LANES] = { 0 };
    int64_t c = 0;
    for (; c + CPU_SUM_LANES <= count; c += CPU_SUM_LANES)
        for (int l = 0; l < CPU_SUM_LANES; l++) lane[l] += dy[c + l] * w[c + l] * x[c + l];
    for (int l = 0; c < count; c++, l++) lane[l] += dy[c] * w[c] * x[c];
    return cpu_tree_sum(lane, CPU_SUM_LANES);
}

static Status rmsnorm_dot_kernel(const Device *dev, Tensor dot, Tensor dy, Tensor x, Tensor w,
                                 int parts)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x), chunk = width / parts;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t r = 0; r < rows; r++) {
        float part[LINEAR_PARTS];
        for (int p = 0; p < parts; p++) {
            const int64_t at = r * width + p * chunk;
            part[p] = sum_products(tensor_f32(dy) + at, tensor_f32(w) + p * chunk,
                                   tensor_f32(x) + at, chunk);
        }
        tensor_f32(dot)[r] = cpu_tree_sum(part, parts);
    }
    return OK;
}

/* dw += sum over rows of dy x r, a task for CPU_COLUMNS columns */
static void weight_gradient(float *dw, const float *dy, const float *x, const float *ss,
                            int64_t rows, int64_t width, int64_t first, int64_t full_width,
                            float eps)
{
    const int64_t n = cpu_min(CPU_COLUMNS, width - first);
    float total[CPU_COLUMNS] = { 0 };
    for (int64_t r0 = 0; r0 < rows; r0 += CPU_ROWS) {
        const int64_t r1 = cpu_min(r0 + CPU_ROWS, rows);
        float sum[CPU_COLUMNS] = { 0 };
        for (int64_t r = r0; r < r1; r++) {
            const float *restrict in = x + r * width + first;
            const float *restrict grad = dy + r * width + first;
            const float inverse = inverse_rms(ss[r], full_width, eps);
            for (int64_t c = 0; c < n; c++) sum[c] += grad[c] * in[c] * inverse;
        }
        for (int64_t c = 0; c < n; c++) total[c] += sum[c];
    }
    for (int64_t c = 0; c < n; c++) dw[first + c] += total[c];
}

static void input_gradient(float *dx, const float *dy, const float *x, const float *w,
                           int64_t width, float inverse, float pull, bool accumulate)
{
    if (accumulate) {
#pragma omp simd
        for (int64_t c = 0; c < width; c++) dx[c] += inverse * w[c] * dy[c] - x[c] * pull;
    } else {
#pragma omp simd
        for (int64_t c = 0; c < width; c++) dx[c] = inverse * w[c] * dy[c] - x[c] * pull;
    }
}

static Status rmsnorm_backward_kernel(const Device *dev, Tensor dx, Tensor dw, Tensor dy, Tensor x,
                                      Tensor ss, Tensor dot, Tensor w, int64_t full_width,
                                      float eps, bool accumulate)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    const int64_t blocks = dw.data ? cpu_blocks(width, CPU_COLUMNS) : 0;
#pragma omp parallel num_threads(cpu_threads(dev, rows *width))
    {
        /* the columns first: dx may be dy */
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++)
            weight_gradient(tensor_f32(dw), tensor_f32(dy), tensor_f32(x), tensor_f32(ss), rows,
                            width, block * CPU_COLUMNS, full_width, eps);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            const float inverse = inverse_rms(tensor_f32(ss)[r], full_width, eps);
            const float pull = inverse * inverse * inverse * tensor_f32(dot)[r] / (float)full_width;
            input_gradient(tensor_f32(dx) + r * width, tensor_f32(dy) + r * width,
                           tensor_f32(x) + r * width, tensor_f32(w), width, inverse, pull,
                           accumulate);
        }
    }
    return OK;
}

void CPU_FILL(rmsnorm)(OpTable *table)
{
    table->sum_squares_rows = sum_squares_rows_kernel;
    table->rmsnorm = rmsnorm_kernel;
    table->rmsnorm_dot = rmsnorm_dot_kernel;
    table->rmsnorm_backward = rmsnorm_backward_kernel;
}
