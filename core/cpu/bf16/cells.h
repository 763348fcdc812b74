/*
 * cells: BF16 operands of matrix products, as both instruction sets want them.
 *
 * A cell is 1 KiB, 16 lines of cache. Of A (m, k) it holds 16 rows and 32 of k, a row a line. Of
 * B (k, n) it holds 32 of k and 16 columns: line p has the pairs (B[2p][j], B[2p + 1][j]). So a
 * cell of B is that of B's transpose with its 32-bit words turned over the diagonal. A panel is
 * cells, those of one strip of 16 rows (or columns) one after the other along k; strips come in
 * twos. What lies past the edge of a matrix is zero.
 *
 * Values are F32 in memory and rounded to nearest even here, or are BF16 already.
 */
#ifndef ZT_CORE_CPU_BF16_CELLS_H
#define ZT_CORE_CPU_BF16_CELLS_H

#include "core/cpu/cpu.h"

#include <immintrin.h>

enum { CELL_SIDE = 16, CELL_DEPTH = 32, CELL_WORDS = 256, STRIPS = 2, BLOCK = 32 };

/* A word is two BF16 values, the one of lower k in its lower half. */
typedef uint32_t Pair;

/* Where a matrix lies: at F32 or at BF16 values, rows `stride` values apart. */
typedef struct CellSource {
    const float *f32;
    const uint16_t *bf16; /* or NULL */
    int64_t stride;
} CellSource;

static inline int64_t cells_of(int64_t depth)
{
    return cpu_blocks(depth, CELL_DEPTH);
}

/* Words of a panel of `count` rows (or columns) and `depth`. */
static inline int64_t panel_words(int64_t count, int64_t depth)
{
    return cpu_blocks(count, BLOCK) * STRIPS * cells_of(depth) * CELL_WORDS;
}

static inline __mmask16 first_lanes(int64_t count)
{
    return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1);
}

/* 16 values from (row, column) on, those of `mask`; the others are zero. */
static inline __m256i narrow(CellSource s, int64_t row, int64_t column, __mmask16 mask)
{
    const int64_t at = row * s.stride + column;
    if (s.bf16) return _mm256_maskz_loadu_epi16(mask, s.bf16 + at);
    return (__m256i)_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, s.f32 + at));
}

/* A line of 32 values of one row, of which `count` are there. */
static inline __m512i line_along(CellSource s, int64_t row, int64_t column, int64_t count)
{
    if (count <= 0) return _mm512_setzero_si512();
    const __m256i low = narrow(s, row, column, first_lanes(count));
    const __m256i high =
        count > 16 ? narrow(s, row, column + 16, first_lanes(count - 16)) : _mm256_setzero_si256();
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

/* A line of pairs of 16 columns of two rows, of which `rows` are there. */
static inline __m512i line_across(CellSource s, int64_t row, int64_t column, int64_t rows,
                                  __mmask16 mask)
{
    if (rows <= 0) return _mm512_setzero_si512();
    const __m512i low = _mm512_cvtepu16_epi32(narrow(s, row, column, mask));
    if (rows == 1) return low;
    const __m512i high = _mm512_cvtepu16_epi32(narrow(s, row + 1, column, mask));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

/* Words over the diagonal, in registers. */
static inline void turn(__m512i line[CELL_SIDE])
{
    __m512i a[CELL_SIDE], b[CELL_SIDE];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(line[i], line[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(line[i], line[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; k++) {
            b[i + 2 * k] = _mm512_unpacklo_epi64(a[i + k], a[i + 2 + k]);
            b[i + 2 * k + 1] = _mm512_unpackhi_epi64(a[i + k], a[i + 2 + k]);
        }
    /* b[4 g + c] has columns c, c + 4, c + 8, c + 12 of rows 4 g to 4 g + 3, a quarter each */
    for (int c = 0; c < 4; c++) {
        const __m512i lower = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88);
        const __m512i upper = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
        const __m512i lower_odd = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
        const __m512i upper_odd = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
        line[c] = _mm512_shuffle_i32x4(lower, upper, 0x88);
        line[c + 4] = _mm512_shuffle_i32x4(lower_odd, upper_odd, 0x88);
        line[c + 8] = _mm512_shuffle_i32x4(lower, upper, 0xdd);
        line[c + 12] = _mm512_shuffle_i32x4(lower_odd, upper_odd, 0xdd);
    }
}

/* One cell. `along`: k runs along the rows of memory, else down its columns. `turned`: the lines
 * are wanted the other way. count, depth: what is there of the cell's 16 and 32. */
static inline __attribute__((always_inline)) void pack_cell(Pair *to, CellSource s,
                                                            const bool along, const bool turned,
                                                            int64_t first, int64_t count, int64_t k,
                                                            int64_t depth)
{
    __m512i line[CELL_SIDE];
    const __mmask16 mask = first_lanes(count);
    for (int i = 0; i < CELL_SIDE; i++)
        line[i] = along ? line_along(s, first + i, k, i < count ? depth : 0)
                        : line_across(s, k + 2 * i, first, depth - 2 * i, mask);
    if (turned) turn(line);
    for (int i = 0; i < CELL_SIDE; i++) _mm512_store_si512(to + i * CELL_SIDE, line[i]);
}

static inline __attribute__((always_inline)) void pack_panel(Pair *to, CellSource s,
                                                             const bool along, const bool turned,
                                                             int64_t count, int64_t depth)
{
    const int64_t strips = cpu_blocks(count, BLOCK) * STRIPS, cells = cells_of(depth);
    /* the inner loop goes on along the rows of memory */
    const int64_t inner = along ? cells : strips;
    for (int64_t n = 0; n < strips * cells; n++) {
        const int64_t i = along ? n / inner : n % inner, p = along ? n % inner : n / inner;
        pack_cell(to + (i * cells + p) * CELL_WORDS, s, along, turned, i * CELL_SIDE,
                  count - i * CELL_SIDE, p * CELL_DEPTH,
                  cpu_min(CELL_DEPTH, depth - p * CELL_DEPTH));
    }
}

/* A panel of A, `count` rows of it, from A (count, depth) as it lies or from its transpose. */
static inline void pack_a(Pair *to, CellSource s, bool transposed, int64_t count, int64_t depth)
{
    if (transposed)
        pack_panel(to, s, false, true, count, depth);
    else
        pack_panel(to, s, true, false, count, depth);
}

/* A panel of B, `count` columns of it, from B (depth, count) as it lies or from its transpose. */
static inline void pack_b(Pair *to, CellSource s, bool transposed, int64_t count, int64_t depth)
{
    if (transposed)
        pack_panel(to, s, true, true, count, depth);
    else
        pack_panel(to, s, false, false, count, depth);
}

#endif
