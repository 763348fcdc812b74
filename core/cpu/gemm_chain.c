/*
 * A task owns some rows and columns of C. It packs its columns of B once a depth and passes the
 * rows of A by, a panel at a time, so that packing is a small part of the work.
 */
#include "core/cpu/gemm_chain.h"

#include "core/cpu/gemm_block.h"

/* PANEL_ROWS: a multiple of every GEMM_ROWS */
enum { PANEL_ROWS = 168, TASK_COLUMNS = 512 };

/* Rows [i, i + rows) and columns [j, j + columns) of C. */
typedef struct Task {
    int64_t i, j, rows, columns;
} Task;

/* What the task's chains go on from: what was there, the bias or nothing. */
static GemmStart first_start(const Gemm *g, Task t)
{
    static const float zeros[TASK_COLUMNS];
    if (g->accumulate) return (GemmStart){ g->c + t.i * g->n + t.j, g->n };
    return (GemmStart){ g->bias ? g->bias + t.j : zeros, 0 };
}

static void run_task(const Gemm *g, Task t)
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

static int64_t half(int64_t count, int64_t multiple)
{
    return cpu_blocks(cpu_blocks(count, 2), multiple) * multiple;
}

/* Tasks as square as can be, two a thread or more: what is packed is read as often as a task is
 * high and wide. */
static Task choose_size(const Gemm *g, int threads)
{
    const int64_t wanted = threads > 1 ? 2 * threads : 1;
    Task size = { .rows = g->m, .columns = cpu_min(g->n, TASK_COLUMNS) };
    while (cpu_blocks(g->m, size.rows) * cpu_blocks(g->n, size.columns) < wanted) {
        const bool high = size.rows > GEMM_ROWS, wide = size.columns > GEMM_COLUMNS;
        if (!high && !wide) break;
        if (high && (size.rows >= size.columns || !wide))
            size.rows = half(size.rows, GEMM_ROWS);
        else
            size.columns = half(size.columns, GEMM_COLUMNS);
    }
    return size;
}

void gemm_chain(const Gemm *gemm, int threads)
{
    const Task size = choose_size(gemm, threads);
    const int64_t down = cpu_blocks(gemm->m, size.rows),
                  tasks = down * cpu_blocks(gemm->n, size.columns);
#pragma omp parallel for schedule(dynamic) num_threads(tasks > 1 ? threads : 1)
    for (int64_t task = 0; task < tasks; task++) {
        Task t = { .i = task % down * size.rows, .j = task / down * size.columns };
        t.rows = cpu_min(size.rows, gemm->m - t.i);
        t.columns = cpu_min(size.columns, gemm->n - t.j);
        run_task(gemm, t);
    }
}
