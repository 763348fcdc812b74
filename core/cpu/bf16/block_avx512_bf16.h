/* A block of C (32, 32) by the dot products of pairs of AVX512_BF16: 8 rows at a time. */
#ifndef ZT_CORE_CPU_BF16_BLOCK_AVX512_BF16_H
#define ZT_CORE_CPU_BF16_BLOCK_AVX512_BF16_H

#include "core/cpu/bf16/cells.h"

enum { DOT_ROWS = 8 };

static inline void bf16_begin(void)
{
}

static inline void bf16_end(void)
{
}

static inline void dot_rows(float *c, int64_t c_row, const Pair *a, const Pair *b, int64_t cells,
                            bool accumulate)
{
    const Pair *right = b + cells * CELL_WORDS;
    __m512 sum[DOT_ROWS][2];
    for (int i = 0; i < DOT_ROWS; i++)
        for (int j = 0; j < 2; j++)
            sum[i][j] =
                accumulate ? _mm512_loadu_ps(c + i * c_row + j * CELL_SIDE) : _mm512_setzero_ps();
    for (int64_t p = 0; p < cells * CELL_WORDS; p += CELL_WORDS)
        for (int w = 0; w < CELL_SIDE; w++) {
            const __m512bh b0 = (__m512bh)_mm512_load_si512(b + p + w * CELL_SIDE);
            const __m512bh b1 = (__m512bh)_mm512_load_si512(right + p + w * CELL_SIDE);
            for (int i = 0; i < DOT_ROWS; i++) {
                const __m512bh x = (__m512bh)_mm512_set1_epi32((int)a[p + i * CELL_SIDE + w]);
                sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
                sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
            }
        }
    for (int i = 0; i < DOT_ROWS; i++)
        for (int j = 0; j < 2; j++) _mm512_storeu_ps(c + i * c_row + j * CELL_SIDE, sum[i][j]);
}

/* c (32, 32) = or += two strips of A times two of B, `cells` deep; the first `rows` are wanted. */
static inline void bf16_block(float *c, int64_t c_row, const Pair *a, const Pair *b, int64_t cells,
                              int64_t rows, bool accumulate)
{
    for (int64_t i = 0; i < rows; i += DOT_ROWS) {
        const Pair *strip = a + i / CELL_SIDE * cells * CELL_WORDS;
        dot_rows(c + i * c_row, c_row, strip + i % CELL_SIDE * CELL_SIDE, b, cells, accumulate);
    }
}

#endif
