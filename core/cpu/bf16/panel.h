/* panel: products of panels of cells (core/cpu/bf16/cells.h), sums in F32. */
#ifndef ZT_CORE_CPU_BF16_PANEL_H
#define ZT_CORE_CPU_BF16_PANEL_H

#define BF16_HEADER_(isa) <core/cpu/bf16/block_##isa.h>
#define BF16_HEADER(isa) BF16_HEADER_(isa)
#include BF16_HEADER(BF16_ISA)

#include <string.h>

#define BF16_FILL(topic) CPU_PASTE(bf16_fill_, topic, BF16_ISA)

/* What a file of this folder puts in place of the F32 kernels. */
void BF16_FILL(gemm)(OpTable *table);
void BF16_FILL(attention)(OpTable *table);
void BF16_FILL(attention_backward)(OpTable *table);

/* A block that lies over the edge of C works on a copy. */
static inline void edge_block(float *c, int64_t c_row, const Pair *a, const Pair *b, int64_t cells,
                              int64_t rows, int64_t columns, bool accumulate)
{
    _Alignas(64) float block[BLOCK * BLOCK];
    if (accumulate) memset(block, 0, sizeof block);
    for (int64_t i = 0; accumulate && i < rows; i++)
        memcpy(block + i * BLOCK, c + i * c_row, (size_t)columns * sizeof *c);
    bf16_block(block, BLOCK, a, b, cells, rows, accumulate);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * c_row, block + i * BLOCK, (size_t)columns * sizeof *c);
}

/* c (rows, columns), rows c_row apart, = or += a b; a panel is `depth` deep. Between bf16_begin and
 * bf16_end. */
static inline void panel_multiply(float *c, int64_t c_row, const Pair *a, const Pair *b,
                                  int64_t rows, int64_t columns, int64_t depth, bool accumulate)
{
    const int64_t cells = cells_of(depth), strips = STRIPS * cells * CELL_WORDS;
    for (int64_t j = 0; j < columns; j += BLOCK)
        for (int64_t i = 0; i < rows; i += BLOCK) {
            const Pair *at = a + i / BLOCK * strips, *bt = b + j / BLOCK * strips;
            float *ct = c + i * c_row + j;
            if (i + BLOCK <= rows && j + BLOCK <= columns)
                bf16_block(ct, c_row, at, bt, cells, BLOCK, accumulate);
            else
                edge_block(ct, c_row, at, bt, cells, cpu_min(BLOCK, rows - i),
                           cpu_min(BLOCK, columns - j), accumulate);
        }
}

#endif
