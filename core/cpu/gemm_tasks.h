/* gemm_tasks: how the C of a matrix product is shared out to threads. */
#ifndef ZT_CORE_CPU_GEMM_TASKS_H
#define ZT_CORE_CPU_GEMM_TASKS_H

#include "core/cpu/cpu.h"

/* A part of C: rows [i, i + rows), columns [j, j + columns). */
typedef struct GemmTask {
    int64_t i, j, rows, columns;
} GemmTask;

/* C (m, n) in tasks of rows x columns, the last ones smaller. */
typedef struct GemmTasks {
    int64_t m, n, rows, columns, down, count;
} GemmTasks;

static inline int64_t gemm_half(int64_t count, int64_t multiple)
{
    return cpu_blocks(cpu_blocks(count, 2), multiple) * multiple;
}

/* As square as can be, two a thread or more: what a task packs is read as often as it is high and
 * wide. Sizes are multiples of a block of C, columns at most `widest`. An empty C is no task. */
static inline GemmTasks gemm_tasks(int64_t m, int64_t n, int64_t block_rows, int64_t block_columns,
                                   int64_t widest, int threads)
{
    const int64_t wanted = threads > 1 ? 2 * threads : 1;
    if (m == 0 || n == 0) return (GemmTasks){ 0 };
    GemmTasks t = { .m = m, .n = n, .rows = m, .columns = cpu_min(n, widest) };
    while (cpu_blocks(m, t.rows) * cpu_blocks(n, t.columns) < wanted) {
        const bool high = t.rows > block_rows, wide = t.columns > block_columns;
        if (!high && !wide) break;
        if (high && (t.rows >= t.columns || !wide))
            t.rows = gemm_half(t.rows, block_rows);
        else
            t.columns = gemm_half(t.columns, block_columns);
    }
    t.down = cpu_blocks(m, t.rows);
    t.count = t.down * cpu_blocks(n, t.columns);
    return t;
}

static inline GemmTask gemm_task(const GemmTasks *t, int64_t number)
{
    GemmTask task = { .i = number % t->down * t->rows, .j = number / t->down * t->columns };
    task.rows = cpu_min(t->rows, t->m - task.i);
    task.columns = cpu_min(t->columns, t->n - task.j);
    return task;
}

#endif
