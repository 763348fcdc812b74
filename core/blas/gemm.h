/*
 * gemm: f32 matrix products, by oneDNN; its one owner.
 *
 * Row-major C (m, n) = op(A) (m, k) op(B) (k, n), or += when accumulate. Runs on `threads` OpenMP
 * threads; inside a parallel region on the calling thread alone.
 */
#ifndef ZT_CORE_BLAS_GEMM_H
#define ZT_CORE_BLAS_GEMM_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct GemmOperand {
    const float *data;
    int64_t stride;  /* floats between rows as stored */
    bool transposed; /* op is the transpose of what is stored */
} GemmOperand;

typedef struct GemmSize {
    int64_t m, n, k;
} GemmSize;

/* ERR_DEVICE when the library refuses. */
Status gemm_f32(float *c, int64_t c_stride, GemmOperand a, GemmOperand b, GemmSize size,
                bool accumulate, int threads);

/* "oneDNN 2.6.3": for --version and reports. */
void gemm_version(char out[32]);

#endif
