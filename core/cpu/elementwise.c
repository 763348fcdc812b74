#include "core/cpu/cpu.h"

#include <string.h>

/* y = 0 x + b y is not special-cased: NaN in x must show */
static Status axpby_kernel(const Device *dev, Tensor y, float a, Tensor x, float b)
{
    float *to = tensor_f32(y);
    const float *from = tensor_f32(x);
    const int64_t count = tensor_count(y);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = a * from[i] + b * to[i];
    return OK;
}

static Status add_bias_kernel(const Device *dev, Tensor y, Tensor b)
{
    const int64_t rows = tensor_rows(y), width = tensor_width(y);
    const float *bias = tensor_f32(b);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t r = 0; r < rows; r++) {
        float *to = tensor_f32(y) + r * width;
#pragma omp simd
        for (int64_t c = 0; c < width; c++) to[c] += bias[c];
    }
    return OK;
}

static Status place_columns_kernel(const Device *dev, Tensor y, Tensor x, int64_t first)
{
    const int64_t rows = tensor_rows(y), width = tensor_width(y), count = tensor_width(x);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *count))
    for (int64_t r = 0; r < rows; r++)
        memcpy(tensor_f32(y) + r * width + first, tensor_f32(x) + r * count,
               (size_t)count * sizeof(float));
    return OK;
}

/* block by block, so that the tree runs in cache and memory is read and written once */
static Status take_tree_sum_kernel(const Device *dev, Tensor y, Tensor rows, int64_t first)
{
    enum { BLOCK = 1024 };
    const int64_t n = tensor_rows(rows), width = tensor_width(rows), count = tensor_count(y);
    const int64_t blocks = cpu_blocks(count, BLOCK);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, n *count))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = block * BLOCK, m = cpu_min(BLOCK, count - at);
        float *base = tensor_f32(rows) + first + at;
        for (int64_t stride = 1; stride < n; stride *= 2)
            for (int64_t i = 0; i + stride < n; i += 2 * stride) {
                float *to = base + i * width;
                const float *from = base + (i + stride) * width;
#pragma omp simd
                for (int64_t c = 0; c < m; c++) to[c] += from[c];
            }
        memcpy(tensor_f32(y) + at, base, (size_t)m * sizeof(float));
        for (int64_t i = 0; i < n; i++) memset(base + i * width, 0, (size_t)m * sizeof(float));
    }
    return OK;
}

static Status fill_kernel(const Device *dev, Tensor y, float value)
{
    float *to = tensor_f32(y);
    const int64_t count = tensor_count(y);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = value;
    return OK;
}

static Status zero_tail_kernel(const Device *dev, Tensor x, Tensor lengths)
{
    const int64_t batch = x.shape[0], tokens = x.shape[1], width = x.shape[2];
    const int32_t *length = lengths.data;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, tensor_count(x)))
    for (int64_t r = 0; r < batch * tokens; r++)
        if (r % tokens >= length[r / tokens])
            memset(tensor_f32(x) + r * width, 0, (size_t)width * sizeof(float));
    return OK;
}

/* from (.., groups, members) to (.., members, groups) */
static void transpose_row(float *restrict y, const float *restrict x, int64_t groups,
                          int64_t members)
{
    for (int64_t g = 0; g < groups; g++)
        for (int64_t m = 0; m < members; m++) y[m * groups + g] = x[g * members + m];
}

/* small tables only: position biases by head */
static Status transpose_kernel(const Device *dev, Tensor y, Tensor x)
{
    (void)dev;
    transpose_row(tensor_f32(y), tensor_f32(x), x.shape[0], x.shape[1]);
    return OK;
}

static Status patch_order_kernel(const Device *dev, Tensor y, Tensor x, int64_t channels,
                                 bool to_patch)
{
    const int64_t rows = tensor_rows(x), width = tensor_width(x);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, rows *width))
    for (int64_t r = 0; r < rows; r++)
        transpose_row(tensor_f32(y) + r * width, tensor_f32(x) + r * width, to_patch ? 4 : channels,
                      to_patch ? channels : 4);
    return OK;
}

void CPU_FILL(elementwise)(OpTable *table)
{
    table->axpby = axpby_kernel;
    table->add_bias = add_bias_kernel;
    table->take_tree_sum = take_tree_sum_kernel;
    table->place_columns = place_columns_kernel;
    table->fill = fill_kernel;
    table->zero_tail = zero_tail_kernel;
    table->transpose = transpose_kernel;
    table->patch_order = patch_order_kernel;
}
