/* A block of C (32, 32) by the tiles of AMX: four of C, two of A, two of B; a cell is a tile. */
#ifndef ZT_CORE_CPU_BF16_BLOCK_AMX_H
#define ZT_CORE_CPU_BF16_BLOCK_AMX_H

#include "core/cpu/bf16/cells.h"

/* What LDTILECFG reads: palette 1, rows and bytes a row of each tile. */
typedef struct TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TileConfig;

/* Before the blocks of a thread, and after: tiles are its own, and the kernel would save them. */
static inline void bf16_begin(void)
{
    TileConfig config = { .palette = 1 };
    for (int i = 0; i < 8; i++) {
        config.row_bytes[i] = 64;
        config.rows[i] = CELL_SIDE;
    }
    _tile_loadconfig(&config);
}

static inline void bf16_end(void)
{
    _tile_release();
}

/* c (32, 32) = or += two strips of A times two of B, `cells` deep; the first `rows` are wanted. */
static inline void bf16_block(float *c, int64_t c_row, const Pair *a, const Pair *b, int64_t cells,
                              int64_t rows, bool accumulate)
{
    const size_t line = 64, stride = (size_t)c_row * sizeof *c;
    const Pair *lower = a + cells * CELL_WORDS, *right = b + cells * CELL_WORDS;
    (void)rows;
    if (accumulate) {
        _tile_loadd(0, c, stride);
        _tile_loadd(1, c + CELL_SIDE, stride);
        _tile_loadd(2, c + CELL_SIDE * c_row, stride);
        _tile_loadd(3, c + CELL_SIDE * c_row + CELL_SIDE, stride);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int64_t p = 0; p < cells * CELL_WORDS; p += CELL_WORDS) {
        _tile_loadd(4, a + p, line);
        _tile_loadd(6, b + p, line);
        _tile_loadd(7, right + p, line);
        _tile_loadd(5, lower + p, line);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, stride);
    _tile_stored(1, c + CELL_SIDE, stride);
    _tile_stored(2, c + CELL_SIDE * c_row, stride);
    _tile_stored(3, c + CELL_SIDE * c_row + CELL_SIDE, stride);
}

#endif
