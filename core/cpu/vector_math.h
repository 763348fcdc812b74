/*
 * vector_math: exp and what is made of it, without branches, so that loops over them vectorise.
 *
 * cpu_exp: relative error below 2e-7 (2 ulp) on [-87.3, 88.37]; arguments outside are clamped to
 * it, so it gives neither 0 nor infinity. NaN stays NaN.
 */
#ifndef ZT_CORE_CPU_VECTOR_MATH_H
#define ZT_CORE_CPU_VECTOR_MATH_H

#include <stdint.h>

static inline uint32_t cpu_bits(float x)
{
    union {
        float f;
        uint32_t u;
    } pun = { .f = x };
    return pun.u;
}

static inline float cpu_float(uint32_t u)
{
    union {
        uint32_t u;
        float f;
    } pun = { .u = u };
    return pun.f;
}

/* cpu_exp for x that is known to be below 88.37.
 * exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2)/2; exp(r) by its series to r^7, whose next
 * term is below 1e-8. */
static inline float cpu_exp_below(float x)
{
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x < -87.3f ? -87.3f : x;
    const float shifted = x * 1.44269504f + magic;
    const float n = shifted - magic;
    /* ln 2 in two parts: the first has few bits, so n times it is exact */
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r * r + r + 1.0f;
    return p * cpu_float((cpu_bits(shifted) - cpu_bits(magic) + 127u) << 23);
}

static inline float cpu_exp(float x)
{
    return cpu_exp_below(x > 88.37f ? 88.37f : x); /* n <= 127: 2^128 is no float */
}

static inline float cpu_sigmoid(float x)
{
    return 1.0f / (1.0f + cpu_exp(-x));
}

/* tanh form of GELU: x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) */
static inline float cpu_gelu(float x)
{
    const float two_u = 1.5957691216f * (x + 0.044715f * x * x * x);
    return x * cpu_sigmoid(two_u);
}

/* d gelu / dx = s + x s (1 - s) d(2u)/dx, s = sigmoid(2u) */
static inline float cpu_gelu_slope(float x)
{
    const float two_u = 1.5957691216f * (x + 0.044715f * x * x * x);
    const float slope = 1.5957691216f * (1.0f + 3.0f * 0.044715f * x * x);
    const float e = cpu_exp(-two_u), s = 1.0f / (1.0f + e);
    return s + x * (s * (e * s)) * slope; /* 1 - s = e s: no cancellation */
}

#endif
