#include "core/blas/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <string.h>

/* Tiles of about 256 x 512 run as fast as the whole (within 7 per cent: the library packs its
 * operands for each) and leave work for many threads. An even count of them feeds two evenly. */
enum { TILE_ROWS = 256, TILE_COLUMNS = 512, FEW_ROWS = 96, FEW_ROWS_COLUMNS = 256 };
static const int64_t whole_below = 1 << 20; /* multiply-adds */
/* Floats of a panel of widened BF16: half a megabyte of a thread's stack, and of its cache; a tile
 * is never too wide for it. */
enum { PANEL = 128 * 1024, WIDEST = PANEL / 16 };

typedef struct Grid {
    int64_t rows, columns; /* of tiles */
} Grid;

static Grid choose_grid(const Gemm *g)
{
    if (g->m * g->n * g->k < whole_below && g->n <= WIDEST) return (Grid){ 1, 1 };
    if (g->m <= FEW_ROWS) return (Grid){ 1, (g->n + FEW_ROWS_COLUMNS - 1) / FEW_ROWS_COLUMNS };
    const int64_t rows = (g->m + TILE_ROWS - 1) / TILE_ROWS;
    return (Grid){ (rows + 1) / 2 * 2, (g->n + TILE_COLUMNS - 1) / TILE_COLUMNS };
}

/* Start of part `index` of `parts`, on a multiple of 16: a line of cache. */
static int64_t part_start(int64_t count, int64_t parts, int64_t index)
{
    return index == parts ? count : count * index / parts / 16 * 16;
}

/* A tile of C: rows [i, i + m), columns [j, j + n). */
typedef struct Tile {
    int64_t i, j, m, n;
} Tile;

/* c += or = the tile's rows of A times b, both for summed indices [k, k + count). */
static dnnl_status_t multiply_part(const Gemm *g, Tile t, int64_t k, int64_t count, const float *b,
                                   int64_t b_stride, bool add)
{
    const GemmOperand *a = &g->a;
    const float *first = a->data + (a->transposed ? k * a->stride + t.i : t.i * a->stride + k);
    return dnnl_sgemm(a->transposed ? 'T' : 'N', g->b.transposed ? 'T' : 'N', t.m, t.n, count, 1.0f,
                      first, a->stride, b, b_stride, add ? 1.0f : 0.0f, g->c + t.i * g->n + t.j,
                      g->n);
}

static void widen(float *restrict to, const uint16_t *restrict from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = (uint32_t)from[i] << 16;
        memcpy(&to[i], &bits, sizeof bits);
    }
}

/* The sum is cut so that a panel of B fits: (n, part) as stored where transposed, else (part, n).
 */
static dnnl_status_t multiply_bf16(const Gemm *g, Tile t, bool add)
{
    float panel[PANEL];
    const GemmOperand *b = &g->b;
    const int64_t longest = PANEL / t.n;
    dnnl_status_t status = dnnl_success;
    for (int64_t k = 0; k < g->k && status == dnnl_success; k += longest) {
        const int64_t part = g->k - k < longest ? g->k - k : longest;
        const int64_t rows = b->transposed ? t.n : part, width = b->transposed ? part : t.n;
        const uint16_t *from =
            b->bf16 + (b->transposed ? t.j * b->stride + k : k * b->stride + t.j);
        for (int64_t r = 0; r < rows; r++) widen(panel + r * width, from + r * b->stride, width);
        status = multiply_part(g, t, k, part, panel, width, add || k > 0);
    }
    return status;
}

static dnnl_status_t multiply_tile(const Gemm *g, Grid grid, int64_t tile)
{
    const int64_t row = tile % grid.rows, column = tile / grid.rows;
    Tile t = { .i = part_start(g->m, grid.rows, row), .j = part_start(g->n, grid.columns, column) };
    t.m = part_start(g->m, grid.rows, row + 1) - t.i;
    t.n = part_start(g->n, grid.columns, column + 1) - t.j;
    if (t.m == 0 || t.n == 0) return dnnl_success;

    /* the bias is laid down while the tile is about to be in cache anyway */
    float *c = g->c + t.i * g->n + t.j;
    for (int64_t r = 0; g->bias && r < t.m; r++)
        memcpy(c + r * g->n, g->bias + t.j, (size_t)t.n * sizeof *c);
    const bool add = g->bias || g->accumulate;
    if (g->b.bf16) return multiply_bf16(g, t, add);
    const float *b = g->b.data + (g->b.transposed ? t.j * g->b.stride : t.j);
    return multiply_part(g, t, 0, g->k, b, g->b.stride, add);
}

/* A sum of nothing, which the library refuses. */
static void multiply_nothing(const Gemm *g)
{
    for (int64_t i = 0; i < g->m; i++) {
        float *c = g->c + i * g->n;
        if (g->bias)
            memcpy(c, g->bias, (size_t)g->n * sizeof *c);
        else if (!g->accumulate)
            memset(c, 0, (size_t)g->n * sizeof *c);
    }
}

Status gemm_f32(const Gemm *gemm, int threads)
{
    if (gemm->k == 0) {
        multiply_nothing(gemm);
        return OK;
    }
    const Grid grid = choose_grid(gemm);
    const int64_t tiles = grid.rows * grid.columns;
    int status = dnnl_success;
#pragma omp parallel num_threads(tiles > 1 ? threads : 1)
    {
        omp_set_num_threads(1); /* what the library may use; holds for this region only */
#pragma omp for schedule(dynamic) reduction(max : status)
        for (int64_t tile = 0; tile < tiles; tile++) {
            const int result = (int)multiply_tile(gemm, grid, tile);
            status = result > status ? result : status;
        }
    }
    CHECK(status == dnnl_success, ERR_DEVICE,
          "gemm (%lld x %lld x %lld): oneDNN refused with status %d", (long long)gemm->m,
          (long long)gemm->n, (long long)gemm->k, status);
    return OK;
}
