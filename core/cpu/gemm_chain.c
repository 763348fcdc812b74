/*
 * A task owns some rows and columns of C. It packs its columns of B once a depth and passes the
 * rows of A by, a panel at a time, so that packing is a small part of the work.
 */
#include "core/cpu/gemm_chain.h"

#include "core/cpu/gemm_block.h"
#include "core/cpu/gemm_tasks.h"

/* PANEL_ROWS: a multiple of every GEMM_ROWS */
enum { PANEL_ROWS = 168, TASK_COLUMNS = 512 };

/* What the task's chains go on from: what was there, the bias or nothing. */
static GemmStart first_start(const Gemm *g, GemmTask t)
{
    static const float zeros[TASK_COLUMNS];
    if (g->accumulate) return (GemmStart){ g->c + t.i * g->n + t.j, g->n };
    return (GemmStart){ g->bias ? g->bias + t.j : zeros, 0 };
}

static void run_task(const Gemm *g, GemmTask t)
{
    /* aligned: a vector that lies across two lines of cache takes twice the time */
    _Alignas(64) float a[PANEL_ROWS * GEMM_DEPTH];
    _Alignas(64) float b[TASK_COLUMNS * GEMM_DEPTH];
    float *c = g->c + t.i * g->n + t.j;
    GemmStart start = first_start(g, t);
    int64_t p = 0;
    do { /* once for a sum of nothing */
        const int64_t depth = cpu_min(GEMM_DEPTH, g->k - p);
        pack_b(b, g->b, t.j, t.columns, p, depth);
        for (int64_t i = 0; i < t.rows; i += PANEL_ROWS) {
            const int64_t rows = cpu_min(PANEL_ROWS, t.rows - i);
            const GemmStart from = { start.at + i * start.row, start.row };
            pack_a(a, g->a, t.i + i, rows, p, depth);
            gemm_panel(rows, t.columns, depth, a, b, from, c + i * g->n, g->n);
        }
        start = (GemmStart){ c, g->n };
        p += GEMM_DEPTH;
    } while (p < g->k);
}

void gemm_chain(const Gemm *gemm, int threads)
{
    const GemmTasks tasks =
        gemm_tasks(gemm->m, gemm->n, GEMM_ROWS, GEMM_COLUMNS, TASK_COLUMNS, threads);
#pragma omp parallel for schedule(dynamic) num_threads(tasks.count > 1 ? threads : 1)
    for (int64_t i = 0; i < tasks.count; i++) run_task(gemm, gemm_task(&tasks, i));
}
