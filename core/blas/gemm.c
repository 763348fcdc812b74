#include "core/blas/gemm.h"

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdio.h>
#include <string.h>

/* Tiles of about 256 x 512 run as fast as the whole (within 7 per cent: the library packs its
 * operands for each) and leave work for many threads. An even count of them feeds two evenly. */
enum { TILE_ROWS = 256, TILE_COLUMNS = 512, FEW_ROWS = 96, FEW_ROWS_COLUMNS = 256 };
static const int64_t whole_below = 1 << 20; /* multiply-adds */

typedef struct Grid {
    int64_t rows, columns; /* of tiles */
} Grid;

static Grid choose_grid(const Gemm *g)
{
    if (g->m * g->n * g->k < whole_below) return (Grid){ 1, 1 };
    if (g->m <= FEW_ROWS) return (Grid){ 1, (g->n + FEW_ROWS_COLUMNS - 1) / FEW_ROWS_COLUMNS };
    const int64_t rows = (g->m + TILE_ROWS - 1) / TILE_ROWS;
    return (Grid){ (rows + 1) / 2 * 2, (g->n + TILE_COLUMNS - 1) / TILE_COLUMNS };
}

/* Start of part `index` of `parts`, on a multiple of 16: a line of cache. */
static int64_t part_start(int64_t count, int64_t parts, int64_t index)
{
    return index == parts ? count : count * index / parts / 16 * 16;
}

static dnnl_status_t multiply_tile(const Gemm *g, Grid grid, int64_t tile)
{
    const int64_t row = tile % grid.rows, column = tile / grid.rows;
    const int64_t i = part_start(g->m, grid.rows, row);
    const int64_t j = part_start(g->n, grid.columns, column);
    const int64_t m = part_start(g->m, grid.rows, row + 1) - i;
    const int64_t n = part_start(g->n, grid.columns, column + 1) - j;
    if (m == 0 || n == 0) return dnnl_success;

    /* the bias is laid down while the tile is about to be in cache anyway */
    float *c = g->c + i * g->n + j;
    for (int64_t r = 0; g->bias && r < m; r++)
        memcpy(c + r * g->n, g->bias + j, (size_t)n * sizeof *c);
    const float *a = g->a.data + (g->a.transposed ? i : i * g->a.stride);
    const float *b = g->b.data + (g->b.transposed ? j * g->b.stride : j);
    return dnnl_sgemm(g->a.transposed ? 'T' : 'N', g->b.transposed ? 'T' : 'N', m, n, g->k, 1.0f, a,
                      g->a.stride, b, g->b.stride, g->bias || g->accumulate ? 1.0f : 0.0f, c, g->n);
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

void gemm_version(char out[32])
{
    const dnnl_version_t *v = dnnl_version();
    (void)snprintf(out, 32, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
}
