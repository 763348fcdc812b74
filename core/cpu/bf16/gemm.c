/*
 * gemm in BF16: both operands are rounded as they are packed, products are exact, sums F32.
 *
 * A task owns columns of C and some of its rows. It packs its columns of B once a depth and passes
 * the rows of A by, so that packing is a small part of the work; C waits between depths.
 */
#include "core/cpu/bf16/panel.h"

#include "core/blas/gemm.h"
#include "core/cpu/gemm_tasks.h"

enum { DEPTH = 512, TASK_COLUMNS = 512, PANEL_ROWS = 128 };

static CellSource source_at(GemmOperand o, int64_t row, int64_t column)
{
    const int64_t at = o.transposed ? column * o.stride + row : row * o.stride + column;
    return (CellSource){ .f32 = o.bf16 ? NULL : o.data + at,
                         .bf16 = o.bf16 ? o.bf16 + at : NULL,
                         .stride = o.stride };
}

static void lay_bias(const Gemm *g, GemmTask t)
{
    for (int64_t r = 0; r < t.rows; r++)
        memcpy(g->c + (t.i + r) * g->n + t.j, g->bias + t.j, (size_t)t.columns * sizeof *g->c);
}

static void run_task(const Gemm *g, GemmTask t)
{
    _Alignas(64) Pair a[PANEL_ROWS * DEPTH / 2];
    _Alignas(64) Pair b[TASK_COLUMNS * DEPTH / 2];
    if (g->bias) lay_bias(g, t);
    bf16_begin();
    for (int64_t p = 0; p < g->k; p += DEPTH) {
        const int64_t depth = cpu_min(DEPTH, g->k - p);
        const bool accumulate = p > 0 || g->accumulate || g->bias;
        pack_b(b, source_at(g->b, p, t.j), g->b.transposed, t.columns, depth);
        for (int64_t i = 0; i < t.rows; i += PANEL_ROWS) {
            const int64_t rows = cpu_min(PANEL_ROWS, t.rows - i);
            pack_a(a, source_at(g->a, t.i + i, p), g->a.transposed, rows, depth);
            panel_multiply(g->c + (t.i + i) * g->n + t.j, g->n, a, b, rows, t.columns, depth,
                           accumulate);
        }
    }
    bf16_end();
}

static Status gemm_bf16(const Device *dev, const Gemm *g)
{
    if (g->k == 0) return gemm_f32(g, 1); /* a sum of nothing */
    const GemmTasks tasks = gemm_tasks(g->m, g->n, BLOCK, BLOCK, TASK_COLUMNS, dev->threads);
#pragma omp parallel for schedule(dynamic) num_threads(tasks.count > 1 ? dev->threads : 1)
    for (int64_t i = 0; i < tasks.count; i++) run_task(g, gemm_task(&tasks, i));
    return OK;
}

void BF16_FILL(gemm)(OpTable *table)
{
    table->gemm = gemm_bf16;
}
