/*
 * gemm_exact: f32 matrix products whose bits belong to the logical element alone (numerics: exact).
 *
 * Every C[i][j] is one chain of fused multiply-adds, over k ascending, from 0, from C or from the
 * bias. So nothing changes with m, n, the place in a tile, the threads or the width of a vector;
 * x86-64 has no such instruction and computes the same rounding in double.
 *
 * A sum that tensor ranks cut is `parts` chains from 0, one an equal chunk of every term's k (a
 * chunk runs through the terms in order), added by the tree ((0 + 1) + (2 + 3)) + ... of
 * core/group.h: a rank that owns an aligned half of the chunks ends with that half's subtree.
 */
#ifndef ZT_CORE_CPU_GEMM_EXACT_H
#define ZT_CORE_CPU_GEMM_EXACT_H

#include "core/blas/gemm.h"
#include "core/cpu/cpu.h"

typedef struct ExactTerm {
    GemmOperand a, b; /* (m, k), (k, n) */
    int64_t k;        /* a multiple of parts */
} ExactTerm;

typedef enum ExactStart {
    EXACT_WRITE,    /* C = the sum, whose chain starts at the bias if there is one */
    EXACT_CONTINUE, /* the chain starts at C: parts is 1 */
    EXACT_ADD,      /* C + the sum, one addition */
} ExactStart;

typedef struct ExactGemm {
    float *c; /* (m, n), contiguous */
    int64_t m, n;
    ExactTerm term[LINEAR_PAIRS];
    int terms;
    int parts; /* 1 .. LINEAR_PARTS */
    ExactStart start;
    const float *bias; /* (n) or NULL; for EXACT_WRITE with parts 1 */
} ExactGemm;

#define gemm_exact CPU_PASTE(cpu_, gemm_exact, CPU_ISA)

/* Packs operands on the stack of each thread (below half a MiB); allocates nothing. */
void gemm_exact(const ExactGemm *gemm, int threads);

#endif
