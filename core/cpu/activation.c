#include "core/cpu/cpu.h"
#include "core/cpu/vector_math.h"

#include <math.h>

/* Outputs may be one of the inputs: every element is read before it is written. */

static Status gelu_kernel(const Device *dev, Tensor y, Tensor x)
{
    float *to = tensor_f32(y);
    const float *in = tensor_f32(x);
    const int64_t count = tensor_count(x);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = cpu_gelu(in[i]);
    return OK;
}

static Status gelu_backward_kernel(const Device *dev, Tensor dx, Tensor dy, Tensor x)
{
    float *to = tensor_f32(dx);
    const float *grad = tensor_f32(dy), *in = tensor_f32(x);
    const int64_t count = tensor_count(x);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = grad[i] * cpu_gelu_slope(in[i]);
    return OK;
}

/* erf is the C library's: these run on a few hundred image tokens a clip */
static Status gelu_erf_kernel(const Device *dev, Tensor y, Tensor x)
{
    float *to = tensor_f32(y);
    const float *in = tensor_f32(x);
    const int64_t count = tensor_count(x);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = 0.5f * in[i] * (1.0f + erff(0.70710678f * in[i]));
    return OK;
}

/* d/dx = (1 + erf(x / sqrt 2)) / 2 + x exp(-x^2 / 2) / sqrt(2 pi) */
static Status gelu_erf_backward_kernel(const Device *dev, Tensor dx, Tensor dy, Tensor x)
{
    float *to = tensor_f32(dx);
    const float *grad = tensor_f32(dy), *in = tensor_f32(x);
    const int64_t count = tensor_count(x);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) {
        const float v = in[i];
        to[i] = grad[i] *
                (0.5f * (1.0f + erff(0.70710678f * v)) + 0.39894228f * v * cpu_exp(-0.5f * v * v));
    }
    return OK;
}

static Status silu_kernel(const Device *dev, Tensor y, Tensor x)
{
    float *to = tensor_f32(y);
    const float *in = tensor_f32(x);
    const int64_t count = tensor_count(x);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = in[i] * cpu_sigmoid(in[i]);
    return OK;
}

/* d silu / dx = s + x s (1 - s), s = sigmoid(x) and 1 - s = e s */
static float silu_slope(float x)
{
    const float e = cpu_exp(-x), s = 1.0f / (1.0f + e);
    return s + x * (s * (e * s));
}

static Status silu_backward_kernel(const Device *dev, Tensor dx, Tensor dy, Tensor x,
                                   bool accumulate)
{
    float *to = tensor_f32(dx);
    const float *grad = tensor_f32(dy), *in = tensor_f32(x);
    const int64_t count = tensor_count(x);
    if (accumulate) {
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
        for (int64_t i = 0; i < count; i++) to[i] += grad[i] * silu_slope(in[i]);
    } else {
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
        for (int64_t i = 0; i < count; i++) to[i] = grad[i] * silu_slope(in[i]);
    }
    return OK;
}

static Status gated_gelu_kernel(const Device *dev, Tensor y, Tensor a, Tensor b)
{
    float *to = tensor_f32(y);
    const float *gate = tensor_f32(a), *value = tensor_f32(b);
    const int64_t count = tensor_count(a);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) to[i] = cpu_gelu(gate[i]) * value[i];
    return OK;
}

static Status gated_gelu_backward_kernel(const Device *dev, Tensor da, Tensor db, Tensor dy,
                                         Tensor a, Tensor b)
{
    float *to_a = tensor_f32(da), *to_b = tensor_f32(db);
    const float *grad = tensor_f32(dy), *gate = tensor_f32(a), *value = tensor_f32(b);
    const int64_t count = tensor_count(a);
#pragma omp parallel for simd schedule(simd : static) num_threads(cpu_threads(dev, count))
    for (int64_t i = 0; i < count; i++) {
        const float g = grad[i], x = gate[i], v = value[i];
        to_a[i] = g * v * cpu_gelu_slope(x);
        to_b[i] = g * cpu_gelu(x);
    }
    return OK;
}

void CPU_FILL(activation)(OpTable *table)
{
    table->gelu = gelu_kernel;
    table->gelu_backward = gelu_backward_kernel;
    table->gelu_erf = gelu_erf_kernel;
    table->gelu_erf_backward = gelu_erf_backward_kernel;
    table->silu = silu_kernel;
    table->silu_backward = silu_backward_kernel;
    table->gated_gelu = gated_gelu_kernel;
    table->gated_gelu_backward = gated_gelu_backward_kernel;
}
