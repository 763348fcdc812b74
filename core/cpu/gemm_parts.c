#include "core/cpu/gemm_parts.h"

#include "core/cpu/gemm_block.h"

enum {
    TILE_HEIGHT = 84, /* a multiple of every GEMM_ROWS; small: one is kept a level */
    TILE_WIDTH = 128,
    LEVELS = 5, /* of a tree over LINEAR_PARTS */
};

/* A tile of C: rows and columns at (i, j) of the whole, kept at c with rows c_row apart. */
typedef struct Tile {
    float *c;
    int64_t c_row, i, j, rows, columns;
} Tile;

/* The tile's chains go on over first <= k < end of a term; a and b are room for panels. */
static void continue_tile(Tile t, const PartsTerm *term, int64_t first, int64_t end, float *a,
                          float *b)
{
    for (int64_t p = first; p < end; p += GEMM_DEPTH) {
        const int64_t depth = cpu_min(GEMM_DEPTH, end - p);
        pack_a(a, term->a, t.i, t.rows, p, depth);
        pack_b(b, term->b, t.j, t.columns, p, depth);
        gemm_panel(t.rows, t.columns, depth, a, b, (GemmStart){ t.c, t.c_row }, t.c, t.c_row);
    }
}

static void clear_tile(Tile t)
{
    for (int64_t i = 0; i < t.rows; i++)
        memset(t.c + i * t.c_row, 0, (size_t)t.columns * sizeof *t.c);
}

static void add_tile(Tile to, Tile from)
{
    for (int64_t i = 0; i < to.rows; i++)
        for (int64_t j = 0; j < to.columns; j++)
            to.c[i * to.c_row + j] += from.c[i * from.c_row + j];
}

static void copy_tile(Tile to, Tile from)
{
    for (int64_t i = 0; i < to.rows; i++)
        memcpy(to.c + i * to.c_row, from.c + i * from.c_row, (size_t)to.columns * sizeof *to.c);
}

/* A chain a part. Sums of 1, 2, 4, ... parts wait in levels, the largest first; a part that
 * completes a pair is added to it at once, as in a binary counter. */
static void multiply_parts(const PartsGemm *g, Tile t)
{
    _Alignas(64) float a[TILE_HEIGHT * GEMM_DEPTH], b[TILE_WIDTH * GEMM_DEPTH];
    _Alignas(64) float level[LEVELS][TILE_HEIGHT * TILE_WIDTH];
    Tile at[LEVELS];
    for (int i = 0; i < LEVELS; i++)
        at[i] = (Tile){ level[i], TILE_WIDTH, t.i, t.j, t.rows, t.columns };
    int used = 0;
    for (int part = 0; part < g->parts; part++) {
        clear_tile(at[used]);
        for (int p = 0; p < g->terms; p++) {
            const int64_t chunk = g->term[p].k / g->parts;
            continue_tile(at[used], &g->term[p], part * chunk, (part + 1) * chunk, a, b);
        }
        used++;
        for (int parts = part + 1; parts % 2 == 0; parts /= 2, used--)
            add_tile(at[used - 2], at[used - 1]);
    }
    for (; used > 1; used--) add_tile(at[used - 2], at[used - 1]);
    if (g->accumulate)
        add_tile(t, at[0]);
    else
        copy_tile(t, at[0]); /* 0 + -0 is not -0 */
}

void gemm_parts(const PartsGemm *gemm, int threads)
{
    const int64_t down = cpu_blocks(gemm->m, TILE_HEIGHT);
    int64_t width = TILE_WIDTH;
    /* every thread has work, if need be in narrower tiles */
    while (threads > 1 && width > 2 * GEMM_COLUMNS &&
           down * cpu_blocks(gemm->n, width) < 2 * threads)
        width /= 2;
    const int64_t tiles = down * cpu_blocks(gemm->n, width);
#pragma omp parallel for schedule(dynamic) num_threads(tiles > 1 ? threads : 1)
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t i = tile % down * TILE_HEIGHT, j = tile / down * width;
        const Tile t = { .c = gemm->c + i * gemm->n + j,
                         .c_row = gemm->n,
                         .i = i,
                         .j = j,
                         .rows = cpu_min(TILE_HEIGHT, gemm->m - i),
                         .columns = cpu_min(width, gemm->n - j) };
        multiply_parts(gemm, t);
    }
}
