/*
 * gemm_chain: f32 matrix products whose bits belong to the logical element alone.
 *
 * Every C[i][j] is one chain of fused multiply-adds, over k ascending, from 0, from C or from the
 * bias. So nothing changes with m, n, the place in a tile, the threads or the width of a vector;
 * x86-64 has no such instruction and computes the same rounding in double.
 */
#ifndef ZT_CORE_CPU_GEMM_CHAIN_H
#define ZT_CORE_CPU_GEMM_CHAIN_H

#include "core/blas/gemm.h"
#include "core/cpu/cpu.h"

#define gemm_chain CPU_PASTE(cpu_, gemm_chain, CPU_ISA)

/* Packs operands on the stack of each thread (some 700 KiB); allocates nothing. b is F32. */
void gemm_chain(const Gemm *gemm, int threads);

#endif
