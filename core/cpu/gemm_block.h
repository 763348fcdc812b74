/*
 * gemm_block: a block of C in registers over packed operands, for products in F32 whose every
 * element is one chain of fused multiply-adds over k ascending (Goto & van de Geijn 2008).
 *
 * A panel of A is strips of ROWS rows, of B strips of COLUMNS columns, one after the other; a strip
 * holds k by k what the block reads. Between depths the chain waits in C, as f32, which is what it
 * is in the register: so blocking changes no bit.
 */
#ifndef ZT_CORE_CPU_GEMM_BLOCK_H
#define ZT_CORE_CPU_GEMM_BLOCK_H

#include "core/blas/gemm.h"
#include "core/cpu/tile.h"

#include <string.h>

/* Rows x vectors of C in registers, of 16 or 32; on x86-64 the emulation needs them itself. */
enum {
    gemm_rows_x86_64 = 4,
    gemm_rows_avx2 = 6,
    gemm_rows_avx512 = 12,
    gemm_vectors_x86_64 = 1,
    gemm_vectors_avx2 = 2,
    gemm_vectors_avx512 = 2,

    GEMM_ROWS = CPU_PASTE(gemm_, rows, CPU_ISA),
    GEMM_VECTORS = CPU_PASTE(gemm_, vectors, CPU_ISA),
    GEMM_COLUMNS = GEMM_VECTORS * CPU_LANES,

    GEMM_DEPTH = 256, /* a strip of A and one of B fit the first cache */
};

/* ---- the chain ------------------------------------------------------------------------------ */

typedef double Wide __attribute__((vector_size(2 * CPU_VECTOR_BYTES)));
typedef int64_t WideBits __attribute__((vector_size(2 * CPU_VECTOR_BYTES)));

/* fma(a, b, c) without the instruction. The product is exact in double; the sum is rounded to odd
 * (Boldo & Melquiond 2008), so that rounding it once more to float rounds the exact value. */
static inline __attribute__((always_inline)) CpuVector emulated_fma(CpuVector a, CpuVector b,
                                                                    CpuVector c)
{
    const Wide product = __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide);
    const Wide addend = __builtin_convertvector(c, Wide);
    const Wide sum = product + addend, other = sum - product;
    const Wide lost = (product - (sum - other)) + (addend - other);
    const WideBits bits = (WideBits)sum;
    /* masks are -1 where true; what was lost in infinities and NaN is NaN, neither above nor below
     */
    const WideBits inexact = (lost > 0) | (lost < 0), even = (bits & 1) - 1;
    const WideBits outwards = ~((lost > 0) ^ (sum > 0));
    const WideBits step = (outwards & 2) - 1;
    return __builtin_convertvector((Wide)(bits + (step & inexact & even)), CpuVector);
}

static inline __attribute__((always_inline)) CpuVector fused(float a, CpuVector b, CpuVector c)
{
    return CPU_FUSED ? a * b + c : emulated_fma(a - (CpuVector){ 0 }, b, c); /* -0 - 0 is -0 */
}

/* What a block's chains go on from: rows of C, or one row for all (stride 0): bias, zeros. */
typedef struct GemmStart {
    const float *at;
    int64_t row;
} GemmStart;

/* c (rows, GEMM_COLUMNS) = the start continued over `depth` of packed A (depth, GEMM_ROWS) and
 * B (depth, GEMM_COLUMNS). Rows are constant where this is inlined, so the loops unroll into
 * registers. */
static inline __attribute__((always_inline)) void gemm_block(const int rows, int64_t depth,
                                                             const float *a, const float *b,
                                                             GemmStart start, float *c,
                                                             int64_t c_row)
{
    CpuVector sum[GEMM_ROWS][GEMM_VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < GEMM_VECTORS; j++)
            sum[i][j] = *(const CpuLoose *)(start.at + i * start.row + j * CPU_LANES);
    for (int64_t p = 0; p < depth; p++) {
        CpuVector line[GEMM_VECTORS];
        for (int j = 0; j < GEMM_VECTORS; j++)
            line[j] = *(const CpuLoose *)(b + p * GEMM_COLUMNS + j * CPU_LANES);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < GEMM_VECTORS; j++)
                sum[i][j] = fused(a[p * GEMM_ROWS + i], line[j], sum[i][j]);
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < GEMM_VECTORS; j++)
            *(CpuLoose *)(c + i * c_row + j * CPU_LANES) = sum[i][j];
}

/* A block at an edge of C works on a copy. Few rows are worth a loop of their own. */
static inline void gemm_edge(int64_t rows, int64_t columns, int64_t depth, const float *a,
                             const float *b, GemmStart start, float *c, int64_t c_row)
{
    float block[GEMM_ROWS * GEMM_COLUMNS] = { 0 };
    const GemmStart at = { block, GEMM_COLUMNS };
    for (int64_t i = 0; i < rows; i++)
        memcpy(block + i * GEMM_COLUMNS, start.at + i * start.row, (size_t)columns * sizeof *c);
    if (rows <= GEMM_ROWS / 3)
        gemm_block(GEMM_ROWS / 3, depth, a, b, at, block, GEMM_COLUMNS);
    else if (rows <= GEMM_ROWS / 3 * 2)
        gemm_block(GEMM_ROWS / 3 * 2, depth, a, b, at, block, GEMM_COLUMNS);
    else
        gemm_block(GEMM_ROWS, depth, a, b, at, block, GEMM_COLUMNS);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * c_row, block + i * GEMM_COLUMNS, (size_t)columns * sizeof *c);
}

/* c (rows, columns) of packed panels of one depth; see above for the start. The strip of A stays in
 * the first cache, those of B pass by from the second. */
static inline void gemm_panel(int64_t rows, int64_t columns, int64_t depth, const float *a,
                              const float *b, GemmStart start, float *c, int64_t c_row)
{
    for (int64_t i = 0; i < rows; i += GEMM_ROWS)
        for (int64_t j = 0; j < columns; j += GEMM_COLUMNS) {
            const float *at = a + i * depth, *bt = b + j * depth;
            const GemmStart from = { start.at + i * start.row + j, start.row };
            float *ct = c + i * c_row + j;
            if (i + GEMM_ROWS <= rows && j + GEMM_COLUMNS <= columns)
                gemm_block(GEMM_ROWS, depth, at, bt, from, ct, c_row);
            else
                gemm_edge(cpu_min(GEMM_ROWS, rows - i), cpu_min(GEMM_COLUMNS, columns - j), depth,
                          at, bt, from, ct, c_row);
        }
}

/* ---- packing -------------------------------------------------------------------------------- */

/* A strip of rows of k, (depth, width) with its first `count` of each row there and zeros after:
 * to[p][i] = from[i][p] */
static inline __attribute__((always_inline)) void pack_strip_turned(float *restrict to,
                                                                    const float *restrict from,
                                                                    int64_t stride, const int width,
                                                                    int64_t count, int64_t depth)
{
    tile_transpose(to, width, from, stride, count, depth, 1.0f, false);
    for (int64_t p = 0; count < width && p < depth; p++)
        for (int64_t i = count; i < width; i++) to[p * width + i] = 0;
}

/* the same from rows along the strip: to[p][i] = from[p][i] */
static inline __attribute__((always_inline)) void
pack_strip_straight(float *restrict to, const float *restrict from, int64_t stride, const int width,
                    int64_t count, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++)
        for (int i = 0; i < width; i++) to[p * width + i] = i < count ? from[p * stride + i] : 0;
}

/* Strips of `width`, one after the other. `turned`: k runs along the rows of memory. Otherwise
 * memory is read row by row, a few at a time: read strip by strip, rows a power of two apart throw
 * each other out of the cache. */
static inline __attribute__((always_inline)) void pack_f32(float *restrict to, const float *from,
                                                           int64_t stride, bool turned,
                                                           const int width, int64_t count,
                                                           int64_t depth)
{
    enum { FEW = 4 };
    if (turned) {
        for (int64_t i = 0; i < count; i += width)
            pack_strip_turned(to + i * depth, from + i * stride, stride, width,
                              cpu_min(width, count - i), depth);
        return;
    }
    for (int64_t p = 0; p < depth; p += FEW)
        for (int64_t i = 0; i < count; i += width) {
            float *strip = to + i * depth + p * width;
            const float *rows = from + p * stride + i;
            if (i + width <= count && p + FEW <= depth)
                pack_strip_straight(strip, rows, stride, width, width, FEW);
            else
                pack_strip_straight(strip, rows, stride, width, count - i, cpu_min(FEW, depth - p));
        }
}

/* Panels of one depth, k >= p, in to: `rows` rows of A from i on, `columns` of B from j on. */
static inline void pack_a(float *to, GemmOperand a, int64_t i, int64_t rows, int64_t p,
                          int64_t depth)
{
    const float *from = a.data + (a.transposed ? p * a.stride + i : i * a.stride + p);
    pack_f32(to, from, a.stride, !a.transposed, GEMM_ROWS, rows, depth);
}

static inline void pack_b(float *to, GemmOperand b, int64_t j, int64_t columns, int64_t p,
                          int64_t depth)
{
    const float *from = b.data + (b.transposed ? j * b.stride + p : p * b.stride + j);
    pack_f32(to, from, b.stride, b.transposed, GEMM_COLUMNS, columns, depth);
}

#endif
