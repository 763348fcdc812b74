#include "core/cpu/cpu.h"

#include <string.h>

#include "core/cpu/vector_math.h"

/* Rounding to nearest even by integer arithmetic: no branch, so every instruction set gives the
 * same bits. */

static float from_f32(float x)
{
    return x;
}

static float to_f32(float x)
{
    return x;
}

static float from_bf16(uint16_t x)
{
    return cpu_float((uint32_t)x << 16);
}

static uint16_t to_bf16(float x)
{
    const uint32_t u = cpu_bits(x);
    const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const uint32_t quiet = (u >> 16) | 0x40u; /* a NaN must not round to infinity */
    return (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

static float from_f16(uint16_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000u) << 16, magnitude = (uint32_t)(x & 0x7fffu) << 13;
    const uint32_t exponent = magnitude & 0x0f800000u;
    const uint32_t normal = magnitude + (112u << 23);
    const uint32_t special = magnitude + (224u << 23); /* infinity and NaN */
    /* below 2^-14: put the fraction under an exponent of its own, then take that away */
    const uint32_t tiny = cpu_bits(cpu_float(magnitude + (113u << 23)) - cpu_float(113u << 23));
    const uint32_t u = exponent == 0x0f800000u ? special : exponent == 0 ? tiny : normal;
    return cpu_float(u | sign);
}

static uint16_t to_f16(float x)
{
    const uint32_t u = cpu_bits(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    /* below 2^-14: adding 0.5 lines the fraction up with F16's smallest step, and rounds */
    const uint32_t tiny = cpu_bits(cpu_float(magnitude) + 0.5f) - cpu_bits(0.5f);
    const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint32_t finite = magnitude < (113u << 23) ? tiny : normal;
    return (uint16_t)(sign | (magnitude >= (143u << 23) ? special : finite));
}

// clang-format off
#define CONVERT(source, source_type, target, target_type)                                          \
    static void source##_to_##target(void *restrict dst, const void *restrict src, int64_t count)  \
    {                                                                                              \
        target_type *to = dst;                                                                     \
        const source_type *from = src;                                                             \
        for (int64_t i = 0; i < count; i++) to[i] = to_##target(from_##source(from[i]));           \
    }
CONVERT(f32, float, bf16, uint16_t)
CONVERT(f32, float, f16, uint16_t)
CONVERT(bf16, uint16_t, f32, float)
CONVERT(bf16, uint16_t, f16, uint16_t)
CONVERT(f16, uint16_t, f32, float)
CONVERT(f16, uint16_t, bf16, uint16_t)
// clang-format on

static void copy_32(void *restrict dst, const void *restrict src, int64_t count)
{
    memcpy(dst, src, (size_t)count * sizeof(float));
}

static void copy_16(void *restrict dst, const void *restrict src, int64_t count)
{
    memcpy(dst, src, (size_t)count * sizeof(uint16_t));
}

static Status convert_kernel(const Device *dev, Tensor dst, Tensor src)
{
    typedef void Convert(void *restrict, const void *restrict, int64_t);
    static Convert *const converts[3][3] = {
        [F32] = { [F32] = copy_32, [BF16] = f32_to_bf16, [F16] = f32_to_f16 },
        [BF16] = { [F32] = bf16_to_f32, [BF16] = copy_16, [F16] = bf16_to_f16 },
        [F16] = { [F32] = f16_to_f32, [BF16] = f16_to_bf16, [F16] = copy_16 },
    };
    Convert *const convert = converts[src.dtype][dst.dtype];
    const int64_t count = tensor_count(src), blocks = cpu_blocks(count, CPU_ELEMENTS);
    const size_t to_bytes = dtype_bytes(dst.dtype), from_bytes = dtype_bytes(src.dtype);
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, count))
    for (int64_t block = 0; block < blocks; block++) {
        const int64_t first = block * CPU_ELEMENTS;
        convert((char *)dst.data + (size_t)first * to_bytes,
                (const char *)src.data + (size_t)first * from_bytes,
                cpu_min(CPU_ELEMENTS, count - first));
    }
    return OK;
}

void CPU_FILL(convert)(OpTable *table)
{
    table->convert = convert_kernel;
}
