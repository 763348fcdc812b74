#include "core/cpu/cpu.h"

#include <math.h>

static Status adamw_kernel(const Device *dev, Tensor p, Tensor m, Tensor v, Tensor ema, Tensor g,
                           const AdamwStep *step)
{
    float *restrict weight = tensor_f32(p), *restrict first = tensor_f32(m);
    float *restrict second = tensor_f32(v);
    const float *restrict grad = tensor_f32(g);
    const int64_t count = tensor_count(p);
    const AdamwStep s = *step;
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) {
        const float scaled = grad[i] * s.grad_scale;
        const float m1 = s.beta1 * first[i] + (1.0f - s.beta1) * scaled;
        const float v1 = s.beta2 * second[i] + (1.0f - s.beta2) * scaled * scaled;
        const float update = m1 / s.correction1 / (sqrtf(v1 / s.correction2) + s.eps);
        first[i] = m1;
        second[i] = v1;
        weight[i] -= s.lr * (update + s.weight_decay * weight[i]);
    }
    if (!ema.data) return OK;
    float *restrict average = tensor_f32(ema);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++)
        average[i] += (1.0f - s.ema_decay) * (weight[i] - average[i]);
    return OK;
}

void CPU_FILL(adamw)(OpTable *table)
{
    table->adamw = adamw_kernel;
}
