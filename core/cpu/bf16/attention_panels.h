/* attention_panels: the scratch of attention in BF16, planned in F32 numbers. */
#ifndef ZT_CORE_CPU_BF16_ATTENTION_PANELS_H
#define ZT_CORE_CPU_BF16_ATTENTION_PANELS_H

#include "core/cpu/attention_tile.h"
#include "core/cpu/bf16/panel.h"

/* The first line of cache at or after `base`: CELL_SIDE numbers are planned for it. */
static inline Pair *panels_at(float *base)
{
    return (Pair *)(((uintptr_t)base + 63) & ~(uintptr_t)63);
}

/* Panels of one tile of queries of the backward: q and dout, as columns and as rows. */
static inline int64_t attention_query_words(int64_t dim)
{
    return 2 * panel_words(QUERY_TILE, dim) + 2 * panel_words(dim, QUERY_TILE);
}

/* F32 numbers that a thread of the backward needs. */
static inline int64_t attention_backward_panels(int64_t q_tokens, int64_t dim)
{
    const int64_t numbers = 2 * KEY_TILE * QUERY_TILE + 2 * KEY_TILE * dim + QUERY_TILE * dim +
                            2 * cpu_blocks(q_tokens, QUERY_TILE) * QUERY_TILE + CELL_SIDE;
    const int64_t words = cpu_blocks(q_tokens, QUERY_TILE) * attention_query_words(dim) +
                          2 * panel_words(KEY_TILE, dim) + panel_words(dim, KEY_TILE) +
                          2 * panel_words(KEY_TILE, QUERY_TILE) + panel_words(QUERY_TILE, KEY_TILE);
    return numbers + words;
}

#endif
