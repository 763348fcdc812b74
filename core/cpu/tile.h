/*
 * tile: small matrix products on operands as they lie in memory, for attention.
 *
 * C (m, n) = or += A (m, k) B (k, n). A is read one number at a time, with any strides; B and C
 * have rows of whole vectors: n is a multiple of CPU_LANES, which the caller gets by padding its
 * own scratch. A block of C stays in registers over all of k. Nothing is packed or allocated, so
 * sizes from a few rows up run at the same speed.
 */
#ifndef ZT_CORE_CPU_TILE_H
#define ZT_CORE_CPU_TILE_H

#include "core/cpu/cpu.h"

/* Width of a vector, and rows x vectors of the block of C in registers (16 registers, 32 in
 * AVX-512), for each instruction set. */
enum {
    cpu_bytes_x86_64 = 16,
    cpu_bytes_avx2 = 32,
    cpu_bytes_avx512 = 64,
    cpu_vectors_x86_64 = 2,
    cpu_vectors_avx2 = 2,
    cpu_vectors_avx512 = 4,

    CPU_VECTOR_BYTES = CPU_PASTE(cpu_, bytes, CPU_ISA),
    CPU_LANES = CPU_VECTOR_BYTES / 4,
    TILE_ROWS = 4,
    TILE_VECTORS = CPU_PASTE(cpu_, vectors, CPU_ISA),
};

typedef float CpuVector __attribute__((vector_size(CPU_VECTOR_BYTES)));
/* the same, at any address of a float */
typedef float CpuLoose __attribute__((vector_size(CPU_VECTOR_BYTES), aligned(4), may_alias));

typedef struct TileA {
    const float *data;
    int64_t row, column; /* A[i][p] = data[i row + p column] */
} TileA;

typedef struct TileSize {
    int64_t m, n, k;
} TileSize;

static inline int64_t cpu_pad(int64_t count)
{
    return cpu_blocks(count, CPU_LANES) * CPU_LANES;
}

/* Rows and vectors are constants where this is inlined, so the loops unroll into registers. */
static inline __attribute__((always_inline)) void tile_block(const int rows, const int vectors,
                                                             int64_t k, TileA a, const float *b,
                                                             int64_t b_row, float *c, int64_t c_row,
                                                             bool accumulate)
{
    CpuVector sum[TILE_ROWS][TILE_VECTORS] = { 0 };
    for (int i = 0; accumulate && i < rows; i++)
        for (int j = 0; j < vectors; j++)
            sum[i][j] = *(const CpuLoose *)(c + i * c_row + j * CPU_LANES);
    for (int64_t p = 0; p < k; p++) {
        CpuVector line[TILE_VECTORS];
        for (int j = 0; j < vectors; j++)
            line[j] = *(const CpuLoose *)(b + p * b_row + j * CPU_LANES);
        for (int i = 0; i < rows; i++) {
            const float x = a.data[i * a.row + p * a.column];
            for (int j = 0; j < vectors; j++) sum[i][j] += x * line[j];
        }
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < vectors; j++) *(CpuLoose *)(c + i * c_row + j * CPU_LANES) = sum[i][j];
}

static inline __attribute__((always_inline)) void tile_strip(const int vectors, int64_t m,
                                                             int64_t k, TileA a, const float *b,
                                                             int64_t b_row, float *c, int64_t c_row,
                                                             bool accumulate)
{
    int64_t i = 0;
    for (; i + TILE_ROWS <= m; i += TILE_ROWS) {
        const TileA at = { a.data + i * a.row, a.row, a.column };
        tile_block(TILE_ROWS, vectors, k, at, b, b_row, c + i * c_row, c_row, accumulate);
    }
    for (; i < m; i++) {
        const TileA at = { a.data + i * a.row, a.row, a.column };
        tile_block(1, vectors, k, at, b, b_row, c + i * c_row, c_row, accumulate);
    }
}

static inline void tile_multiply(float *c, int64_t c_row, TileA a, const float *b, int64_t b_row,
                                 TileSize size, bool accumulate)
{
    const int64_t wide = (int64_t)TILE_VECTORS * CPU_LANES;
    int64_t j = 0;
    for (; j + wide <= size.n; j += wide)
        tile_strip(TILE_VECTORS, size.m, size.k, a, b + j, b_row, c + j, c_row, accumulate);
    for (; j < size.n; j += CPU_LANES)
        tile_strip(1, size.m, size.k, a, b + j, b_row, c + j, c_row, accumulate);
}

typedef float Four __attribute__((vector_size(16)));
typedef float LooseFour __attribute__((vector_size(16), aligned(4), may_alias));

/* to[d][i] = or += scale from[i][d]: four by four, in registers. (Left to itself the compiler
 * scatters, a lane at a time.) The edges multiply and add as the middle does, in one instruction
 * where there is one: bits do not depend on the place. */
static inline __attribute__((always_inline)) void
tile_transpose(float *restrict to, int64_t to_row, const float *restrict from, int64_t from_row,
               int64_t rows, int64_t columns, float scale, bool add)
{
    const int64_t whole_rows = rows & -4, whole_columns = columns & -4;
    for (int64_t i = 0; i < whole_rows; i += 4)
        for (int64_t d = 0; d < whole_columns; d += 4) {
            const float *in = from + i * from_row + d;
            float *out = to + d * to_row + i;
            const Four a = *(const LooseFour *)in;
            const Four b = *(const LooseFour *)(in + from_row);
            const Four c = *(const LooseFour *)(in + 2 * from_row);
            const Four e = *(const LooseFour *)(in + 3 * from_row);
            const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5);
            const Four ba = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const Four ce = __builtin_shufflevector(c, e, 0, 4, 1, 5);
            const Four ec = __builtin_shufflevector(c, e, 2, 6, 3, 7);
            const Four turned[4] = { __builtin_shufflevector(ab, ce, 0, 1, 4, 5),
                                     __builtin_shufflevector(ab, ce, 2, 3, 6, 7),
                                     __builtin_shufflevector(ba, ec, 0, 1, 4, 5),
                                     __builtin_shufflevector(ba, ec, 2, 3, 6, 7) };
            for (int r = 0; r < 4; r++) {
                LooseFour *line = (LooseFour *)(out + r * to_row);
                if (add)
                    *line += scale * turned[r];
                else
                    *line = scale * turned[r];
            }
        }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t d = i < whole_rows ? whole_columns : 0; d < columns; d++) {
            const float x = from[i * from_row + d], old = add ? to[d * to_row + i] : 0;
            to[d * to_row + i] = add ? old + scale * x : scale * x;
        }
}

#endif
