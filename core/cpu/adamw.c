#include "core/cpu/cpu.h"

#include <math.h>

/* One parameter. */
typedef struct Span {
    float *weight, *first, *second, *average; /* average: NULL, or the moving one */
    const float *grad;
} Span;

/* One pass over memory, which is what this op costs. */
static inline __attribute__((always_inline)) void update(Span at, int64_t from, int64_t end,
                                                         const AdamwStep *s, const bool averaged)
{
    float *restrict weight = at.weight, *restrict first = at.first, *restrict second = at.second;
    float *restrict average = at.average;
    const float *restrict grad = at.grad;
    const float unbias1 = 1.0f / s->correction1, unbias2 = 1.0f / s->correction2;
    const float keep1 = s->beta1, keep2 = s->beta2, grad_scale = s->grad_scale, lr = s->lr;
    const float decay = s->weight_decay, eps = s->eps, follow = 1.0f - s->ema_decay;
#pragma omp simd
    for (int64_t i = from; i < end; i++) {
        const float scaled = grad[i] * grad_scale;
        const float m = keep1 * first[i] + (1.0f - keep1) * scaled;
        const float v = keep2 * second[i] + (1.0f - keep2) * scaled * scaled;
        const float step = m * unbias1 / (sqrtf(v * unbias2) + eps);
        const float w = weight[i] - lr * (step + decay * weight[i]);
        first[i] = m;
        second[i] = v;
        weight[i] = w;
        if (averaged) average[i] += follow * (w - average[i]);
    }
}

static Status adamw_kernel(const Device *dev, Tensor p, Tensor m, Tensor v, Tensor ema, Tensor g,
                           const AdamwStep *step)
{
    const Span all = { tensor_f32(p), tensor_f32(m), tensor_f32(v),
                       ema.data ? tensor_f32(ema) : NULL, tensor_f32(g) };
    const int64_t count = tensor_count(p);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, count))
    for (int64_t first = 0; first < count; first += CPU_ELEMENTS) {
        const int64_t end = cpu_min(first + CPU_ELEMENTS, count);
        if (all.average)
            update(all, first, end, step, true);
        else
            update(all, first, end, step, false);
    }
    return OK;
}

void CPU_FILL(adamw)(OpTable *table)
{
    table->adamw = adamw_kernel;
}
