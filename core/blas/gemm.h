/*
 * gemm: f32 matrix products, by oneDNN; its one owner.
 *
 * C is cut into tiles that depend on its shape alone, and each tile is one call of the library on
 * one thread. So the bits do not depend on how many threads there are: left to itself the library
 * also cuts the sum, differently for each thread count.
 *
 * A weight stored as BF16 is widened panel by panel into a thread's cache: no copy of it is kept,
 * and the product is that of the F32 values it stands for.
 */
#ifndef ZT_CORE_BLAS_GEMM_H
#define ZT_CORE_BLAS_GEMM_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct GemmOperand {
    const float *data;
    int64_t stride;       /* values between rows as stored */
    bool transposed;      /* the operand is the transpose of what is stored */
    const uint16_t *bf16; /* b only: the values are BF16 and lie here instead of in data */
} GemmOperand;

typedef struct Gemm {
    float *c;         /* (m, n), contiguous */
    GemmOperand a, b; /* (m, k), (k, n) */
    int64_t m, n, k;
    const float *bias; /* (n) added to every row, or NULL; not with accumulate */
    bool accumulate;   /* C += A B rather than C = A B + bias */
} Gemm;

/* ERR_DEVICE when the library refuses. */
Status gemm_f32(const Gemm *gemm, int threads);

#endif
