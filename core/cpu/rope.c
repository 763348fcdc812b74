#include "core/cpu/cpu.h"

static void rotate_pairs(float *restrict x, const float *restrict table, int64_t pairs, float sign)
{
    for (int64_t p = 0; p < pairs; p++) {
        const float a = x[2 * p], b = x[2 * p + 1];
        const float cosine = table[2 * p], sine = sign * table[2 * p + 1];
        x[2 * p] = cpu_multiply_add(a, cosine, -(b * sine));
        x[2 * p + 1] = cpu_multiply_add(a, sine, b * cosine);
    }
}

static Status rope_kernel(const Device *dev, Tensor x, Tensor table, int sign)
{
    const int64_t batch = x.shape[0], tokens = x.shape[1], heads = x.shape[2], dim = x.shape[3];
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, tensor_count(x)))
    for (int64_t r = 0; r < batch * tokens; r++)
        for (int64_t h = 0; h < heads; h++)
            rotate_pairs(tensor_f32(x) + (r * heads + h) * dim,
                         tensor_f32(table) + r % tokens * dim, dim / 2, (float)sign);
    return OK;
}

void CPU_FILL(rope)(OpTable *table)
{
    table->rope = rope_kernel;
}
