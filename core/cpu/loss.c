#include "core/cpu/cpu.h"

static Status flow_mix_kernel(const Device *dev, Tensor x_t, Tensor target, Tensor x, Tensor noise,
                              Tensor t)
{
    const int64_t count = tensor_count(x), batch = x.shape[0];
    const int64_t each = batch > 0 ? count / batch : 0, blocks = cpu_blocks(each, CPU_ELEMENTS);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < batch * blocks; i++) {
        const int64_t sample = i / blocks, first = i % blocks * CPU_ELEMENTS;
        const int64_t n = cpu_min(CPU_ELEMENTS, each - first), at = sample * each + first;
        float *restrict mixed = tensor_f32(x_t) + at, *restrict goal = tensor_f32(target) + at;
        const float *restrict clean = tensor_f32(x) + at, *restrict wild = tensor_f32(noise) + at;
        const float time = tensor_f32(t)[sample];
        for (int64_t c = 0; c < n; c++) {
            mixed[c] = (1.0f - time) * clean[c] + time * wild[c];
            goal[c] = wild[c] - clean[c];
        }
    }
    return OK;
}

/* Blocks start at multiples of four elements: one Philox block serves four. */
static Status normal_kernel(const Device *dev, Tensor out, Rng rng, uint64_t first)
{
    const int64_t count = tensor_count(out), head = (int64_t)((4 - first % 4) % 4);
    const int64_t blocks = cpu_blocks(count - cpu_min(head, count), CPU_ELEMENTS);
    rng_fill_normal(rng, first, cpu_min(head, count), tensor_f32(out));
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, 16 * count))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t at = head + block * CPU_ELEMENTS;
        rng_fill_normal(rng, first + (uint64_t)at, cpu_min(CPU_ELEMENTS, count - at),
                        tensor_f32(out) + at);
    }
    return OK;
}

/* ---- sums of squares ------------------------------------------------------------------------ */

enum { SUM_BLOCK = 65536, SUM_WAVE = 64 };

static double block_square_sum(const float *restrict a, const float *restrict b, int64_t count)
{
    double sum = 0;
    if (b) {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) {
            const double d = (double)(a[i] - b[i]);
            sum += d * d;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) sum += (double)a[i] * (double)a[i];
    }
    return sum;
}

/* sum of (a - b)^2, or of a^2 without b: blocks of SUM_BLOCK, whichever thread sums them, are added
 * in order, SUM_WAVE at a time */
static double square_sum(const Device *dev, const float *a, const float *b, int64_t count)
{
    const int64_t blocks = cpu_blocks(count, SUM_BLOCK);
    double total = 0, partial[SUM_WAVE];
    for (int64_t wave = 0; wave < blocks; wave += SUM_WAVE) {
        const int64_t n = cpu_min(SUM_WAVE, blocks - wave);
#pragma omp parallel for schedule(static) num_threads(n > 1 ? dev->threads : 1)
        for (int64_t i = 0; i < n; i++) {
            const int64_t first = (wave + i) * SUM_BLOCK;
            partial[i] = block_square_sum(a + first, b ? b + first : NULL,
                                          cpu_min(SUM_BLOCK, count - first));
        }
        for (int64_t i = 0; i < n; i++) total += partial[i];
    }
    return total;
}

static Status squared_error_kernel(const Device *dev, Tensor sums, Tensor v, Tensor target)
{
    const int64_t batch = v.shape[0], each = batch > 0 ? tensor_count(v) / batch : 0;
    double *sum = sums.data;
    for (int64_t sample = 0; sample < batch; sample++)
        sum[sample] = square_sum(dev, tensor_f32(v) + sample * each,
                                 tensor_f32(target) + sample * each, each);
    return OK;
}

/* dv may be v */
static Status squared_error_backward_kernel(const Device *dev, Tensor dv, Tensor v, Tensor target,
                                            float scale)
{
    float *to = tensor_f32(dv);
    const float *a = tensor_f32(v), *b = tensor_f32(target);
    const int64_t count = tensor_count(v);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = 2.0f * scale * (a[i] - b[i]);
    return OK;
}

static Status square_norm_kernel(const Device *dev, Tensor sum, Tensor x)
{
    *(double *)sum.data = square_sum(dev, tensor_f32(x), NULL, tensor_count(x));
    return OK;
}

void CPU_FILL(loss)(OpTable *table)
{
    table->flow_mix = flow_mix_kernel;
    table->normal = normal_kernel;
    table->squared_error = squared_error_kernel;
    table->squared_error_backward = squared_error_backward_kernel;
    table->square_norm = square_norm_kernel;
}
