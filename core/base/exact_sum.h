/*
 * exact_sum: sums of squares of f32 numbers without any rounding, hence in any order.
 *
 * The square of an f32 is a 48-bit integer times a power of two from 2^-298 up. The sum is one
 * long integer of digits base 2^32, so whoever adds what, the value is the same; it is rounded
 * once, when it is read. For losses and gradient norms that every mesh must agree on.
 *
 * A sum is plain I64 numbers and may be all-reduced as such: digits are left below 2^32 by every
 * call here, so that those of 2^30 sums add without overflow. Not collective.
 */
#ifndef ZT_CORE_BASE_EXACT_SUM_H
#define ZT_CORE_BASE_EXACT_SUM_H

#include <stdint.h>

enum {
    EXACT_SUM_DIGITS = 20, /* 640 bits: 2^256 at most a term, 2^80 terms */
    EXACT_SUM_LIMBS = EXACT_SUM_DIGITS + 2,
};

/* Zero-initialise. digit[i] weighs 2^(32 i - 298); then how many infinities and NaN came. */
typedef struct ExactSum {
    int64_t limb[EXACT_SUM_LIMBS];
} ExactSum;

/* sum += x[i]^2, on at most `threads` threads */
void exact_sum_add_squares(ExactSum *sum, const float *x, int64_t count, int threads);
/* sum += (a[i] - b[i])^2, the difference rounded to f32 */
void exact_sum_add_squared_errors(ExactSum *sum, const float *a, const float *b, int64_t count,
                                  int threads);
/* sum += other, which may be the all-reduced sum of up to 2^30 others */
void exact_sum_merge(ExactSum *sum, const ExactSum *other);

/* The nearest double, ties to even. NaN when one came; else infinity when one came. */
double exact_sum_value(const ExactSum *sum);

#endif
