/*
 * gemm_parts: f32 matrix products that tensor ranks cut (numerics: exact).
 *
 * The sum over k is `parts` chains from 0 as in core/cpu/gemm_chain.h, one an equal chunk of every
 * term's k (a chunk runs through the terms in order), added by the tree ((0 + 1) + (2 + 3)) + ...
 * of core/group.h: a rank that owns an aligned half of the chunks ends with that half's subtree.
 */
#ifndef ZT_CORE_CPU_GEMM_PARTS_H
#define ZT_CORE_CPU_GEMM_PARTS_H

#include "core/blas/gemm.h"
#include "core/cpu/cpu.h"

typedef struct PartsTerm {
    GemmOperand a, b; /* (m, k), (k, n) */
    int64_t k;        /* a multiple of parts */
} PartsTerm;

typedef struct PartsGemm {
    float *c; /* (m, n), contiguous */
    int64_t m, n;
    PartsTerm term[LINEAR_PAIRS];
    int terms;
    int parts;       /* 1 .. LINEAR_PARTS */
    bool accumulate; /* C + the sum, one addition, rather than the sum */
} PartsGemm;

#define gemm_parts CPU_PASTE(cpu_, gemm_parts, CPU_ISA)

/* Packs operands on the stack of each thread (below half a MiB); allocates nothing. */
void gemm_parts(const PartsGemm *gemm, int threads);

#endif
