#include "core/cpu/cpu.h"

#include <math.h>

/* ---- rows ----------------------------------------------------------------------------------- */

/* lanes as in cpu_dot */
static float row_sum(const float *x, int64_t width)
{
    float lane[CPU_SUM_LANES] = { 0 };
    int64_t c = 0;
    for (; c + CPU_SUM_LANES <= width; c += CPU_SUM_LANES)
        for (int l = 0; l < CPU_SUM_LANES; l++) lane[l] += x[c + l];
    for (int l = 0; c < width; c++, l++) lane[l] += x[c];
    return cpu_tree_sum(lane, CPU_SUM_LANES);
}

/* sum of (x - mean)^2 */
static float row_squares(const float *x, float mean, int64_t width)
{
    float lane[CPU_SUM_LANES] = { 0 };
    int64_t c = 0;
    for (; c + CPU_SUM_LANES <= width; c += CPU_SUM_LANES)
        for (int l = 0; l < CPU_SUM_LANES; l++) lane[l] += (x[c + l] - mean) * (x[c + l] - mean);
    for (int l = 0; c < width; c++, l++) lane[l] += (x[c] - mean) * (x[c] - mean);
    return cpu_tree_sum(lane, CPU_SUM_LANES);
}

/* Two passes over a row that is in cache: the variance of the centred values loses nothing. */
static void row_moments(const float *x, int64_t width, float eps, float *mean, float *rstd)
{
    *mean = row_sum(x, width) / (float)width;
    *rstd = 1.0f / sqrtf(row_squares(x, *mean, width) / (float)width + eps);
}

/* y = (x - mean) rstd (offset + scale) + shift: offset 1 for modulation, 0 for weights */
static void row_forward(float *restrict y, float *mean, float *rstd, const float *restrict x,
                        const float *restrict scale, const float *restrict shift, float offset,
                        int64_t width, float eps)
{
    row_moments(x, width, eps, mean, rstd);
    const float m = *mean, r = *rstd;
    for (int64_t c = 0; c < width; c++) y[c] = (x[c] - m) * r * (offset + scale[c]) + shift[c];
}

typedef struct Row {
    const float *dy, *x, *scale;
    float mean, rstd, offset;
    int64_t width;
} Row;

/* sums of g and g h, as below; lanes as in cpu_dot */
static void gradient_sums(Row row, float *sum_g, float *sum_gh)
{
    const float *restrict dy = row.dy, *restrict x = row.x, *restrict scale = row.scale;
    float lane_g[CPU_SUM_LANES] = { 0 }, lane_gh[CPU_SUM_LANES] = { 0 };
    int64_t c = 0;
    for (; c + CPU_SUM_LANES <= row.width; c += CPU_SUM_LANES)
        for (int l = 0; l < CPU_SUM_LANES; l++) {
            const float g = dy[c + l] * (row.offset + scale[c + l]);
            lane_g[l] += g;
            lane_gh[l] += g * ((x[c + l] - row.mean) * row.rstd);
        }
    for (int l = 0; c < row.width; c++, l++) {
        const float g = dy[c] * (row.offset + scale[c]);
        lane_g[l] += g;
        lane_gh[l] += g * ((x[c] - row.mean) * row.rstd);
    }
    *sum_g = cpu_tree_sum(lane_g, CPU_SUM_LANES);
    *sum_gh = cpu_tree_sum(lane_gh, CPU_SUM_LANES);
}

/* with h = (x - mean) rstd and g = dy (offset + scale):  dx = rstd (g - mean(g) - h mean(g h)) */
static void row_backward(float *restrict dx, Row row, bool accumulate)
{
    const float *restrict dy = row.dy, *restrict x = row.x, *restrict scale = row.scale;
    const float m = row.mean, r = row.rstd, offset = row.offset;
    float sum_g, sum_gh;
    gradient_sums(row, &sum_g, &sum_gh);
    const float mean_g = sum_g / (float)row.width, mean_gh = sum_gh / (float)row.width;
    if (accumulate) {
        for (int64_t c = 0; c < row.width; c++)
            dx[c] += r * (dy[c] * (offset + scale[c]) - mean_g - (x[c] - m) * r * mean_gh);
    } else {
        for (int64_t c = 0; c < row.width; c++)
            dx[c] = r * (dy[c] * (offset + scale[c]) - mean_g - (x[c] - m) * r * mean_gh);
    }
}

/* ---- columns -------------------------------------------------------------------------------- */

typedef struct Columns {
    const float *dy, *x, *mean, *rstd;  /* of the first row */
    int64_t rows, stride, first, count; /* columns first .. first + count */
} Columns;

/* dscale = sum over rows of dy h, dshift = sum over rows of dy, for at most CPU_COLUMNS columns */
static void column_sums(Columns at, float dscale[CPU_COLUMNS], float dshift[CPU_COLUMNS])
{
    for (int64_t c = 0; c < CPU_COLUMNS; c++) dscale[c] = dshift[c] = 0;
    for (int64_t r0 = 0; r0 < at.rows; r0 += CPU_ROWS) {
        const int64_t r1 = cpu_min(r0 + CPU_ROWS, at.rows);
        float sum_h[CPU_COLUMNS] = { 0 }, sum[CPU_COLUMNS] = { 0 };
        for (int64_t r = r0; r < r1; r++) {
            const float *restrict dy = at.dy + r * at.stride + at.first;
            const float *restrict x = at.x + r * at.stride + at.first;
            const float m = at.mean[r], s = at.rstd[r];
            for (int64_t c = 0; c < at.count; c++) {
                sum_h[c] += dy[c] * (x[c] - m) * s;
                sum[c] += dy[c];
            }
        }
        for (int64_t c = 0; c < at.count; c++) {
            dscale[c] += sum_h[c];
            dshift[c] += sum[c];
        }
    }
}

/* ---- modulated ------------------------------------------------------------------------------ */

static Status layernorm_modulate_kernel(const Device *dev, Tensor y, Tensor mean, Tensor rstd,
                                        Tensor x, Tensor shift, Tensor scale, float eps)
{
    const int64_t batch = x.shape[0], tokens = x.shape[1], width = x.shape[2];
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, batch *tokens *width))
    for (int64_t r = 0; r < batch * tokens; r++) {
        const int64_t sample = r / tokens;
        row_forward(tensor_f32(y) + r * width, tensor_f32(mean) + r, tensor_f32(rstd) + r,
                    tensor_f32(x) + r * width, tensor_f32(scale) + sample * width,
                    tensor_f32(shift) + sample * width, 1.0f, width, eps);
    }
    return OK;
}

static Status layernorm_modulate_backward_kernel(const Device *dev, Tensor dx, Tensor dshift,
                                                 Tensor dscale, Tensor dy, Tensor x, Tensor mean,
                                                 Tensor rstd, Tensor scale, bool accumulate)
{
    const int64_t batch = x.shape[0], tokens = x.shape[1], width = x.shape[2];
    const int64_t blocks = cpu_blocks(width, CPU_COLUMNS);
#pragma omp parallel num_threads(cpu_threads(dev, batch *tokens *width))
    {
        /* the columns first: dx may be dy */
#pragma omp for schedule(static)
        for (int64_t i = 0; i < batch * blocks; i++) {
            const int64_t sample = i / blocks, first = i % blocks * CPU_COLUMNS;
            const Columns at = { .dy = tensor_f32(dy) + sample * tokens * width,
                                 .x = tensor_f32(x) + sample * tokens * width,
                                 .mean = tensor_f32(mean) + sample * tokens,
                                 .rstd = tensor_f32(rstd) + sample * tokens,
                                 .rows = tokens,
                                 .stride = width,
                                 .first = first,
                                 .count = cpu_min(CPU_COLUMNS, width - first) };
            float sum_scale[CPU_COLUMNS], sum_shift[CPU_COLUMNS];
            column_sums(at, sum_scale, sum_shift);
            for (int64_t c = 0; c < at.count; c++) {
                tensor_f32(dscale)[sample * width + first + c] = sum_scale[c];
                tensor_f32(dshift)[sample * width + first + c] = sum_shift[c];
            }
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < batch * tokens; r++)
            row_backward(tensor_f32(dx) + r * width,
                         (Row){ .dy = tensor_f32(dy) + r * width,
                                .x = tensor_f32(x) + r * width,
                                .scale = tensor_f32(scale) + r / tokens * width,
                                .mean = tensor_f32(mean)[r],
                                .rstd = tensor_f32(rstd)[r],
                                .offset = 1.0f,
                                .width = width },
                         accumulate);
    }
    return OK;
}

/* ---- with weights --------------------------------------------------------------------------- */

static Status layernorm_kernel(const Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x,
                               Tensor w, Tensor b, float eps)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t r = 0; r < rows; r++)
        row_forward(tensor_f32(y) + r * width, tensor_f32(mean) + r, tensor_f32(rstd) + r,
                    tensor_f32(x) + r * width, tensor_f32(w), tensor_f32(b), 0.0f, width, eps);
    return OK;
}

static Status layernorm_backward_kernel(const Device *dev, Tensor dx, Tensor dw, Tensor db,
                                        Tensor dy, Tensor x, Tensor mean, Tensor rstd, Tensor w,
                                        bool accumulate)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
    const int64_t blocks = cpu_blocks(width, CPU_COLUMNS);
#pragma omp parallel num_threads(cpu_threads(dev, rows *width))
    {
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            const int64_t first = block * CPU_COLUMNS;
            const Columns at = { .dy = tensor_f32(dy),
                                 .x = tensor_f32(x),
                                 .mean = tensor_f32(mean),
                                 .rstd = tensor_f32(rstd),
                                 .rows = rows,
                                 .stride = width,
                                 .first = first,
                                 .count = cpu_min(CPU_COLUMNS, width - first) };
            float sum_w[CPU_COLUMNS], sum_b[CPU_COLUMNS];
            column_sums(at, sum_w, sum_b);
            for (int64_t c = 0; c < at.count; c++) {
                tensor_f32(dw)[first + c] += sum_w[c];
                tensor_f32(db)[first + c] += sum_b[c];
            }
        }
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++)
            row_backward(tensor_f32(dx) + r * width,
                         (Row){ .dy = tensor_f32(dy) + r * width,
                                .x = tensor_f32(x) + r * width,
                                .scale = tensor_f32(w),
                                .mean = tensor_f32(mean)[r],
                                .rstd = tensor_f32(rstd)[r],
                                .offset = 0.0f,
                                .width = width },
                         accumulate);
    }
    return OK;
}

void CPU_FILL(norm)(OpTable *table)
{
    table->layernorm_modulate = layernorm_modulate_kernel;
    table->layernorm_modulate_backward = layernorm_modulate_backward_kernel;
    table->layernorm = layernorm_kernel;
    table->layernorm_backward = layernorm_backward_kernel;
}
