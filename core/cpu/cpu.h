/*
 * cpu: what the kernel files share.
 *
 * Every file here is compiled once for each instruction set, with -DCPU_ISA=x86_64|avx2|avx512.
 * All functions are static but one a file, which fills its slots of the table; its name ends in the
 * instruction set. Loops are plain C that the compiler turns into vectors; sums over rows go by
 * columns in fixed blocks, so the bits depend on neither thread count nor timing.
 */
#ifndef ZT_CORE_CPU_CPU_H
#define ZT_CORE_CPU_CPU_H

#include "core/op_table.h"

#define CPU_PASTE_(a, b, c) a##b##_##c
#define CPU_PASTE(a, b, c) CPU_PASTE_(a, b, c)
/* CPU_FILL(norm) is cpu_fill_norm_avx2, and so on. */
#define CPU_FILL(topic) CPU_PASTE(cpu_fill_, topic, CPU_ISA)

#define CPU_TOPICS(TOPIC)     \
    TOPIC(linear)             \
    TOPIC(norm)               \
    TOPIC(rmsnorm)            \
    TOPIC(modulate)           \
    TOPIC(rope)               \
    TOPIC(attention)          \
    TOPIC(attention_backward) \
    TOPIC(attention_merge)    \
    TOPIC(activation)         \
    TOPIC(elementwise)        \
    TOPIC(convert)            \
    TOPIC(embed)              \
    TOPIC(loss)               \
    TOPIC(adamw)

#define CPU_DECLARE_FILL(topic) void CPU_FILL(topic)(OpTable * table);
CPU_TOPICS(CPU_DECLARE_FILL)
#undef CPU_DECLARE_FILL

/* Threads worth waking for `elements` of work: below this many a fork costs more than it gives. */
static inline int cpu_threads(const Device *dev, int64_t elements)
{
    enum { WORTH_A_FORK = 16384 };
    return elements < WORTH_A_FORK ? 1 : dev->threads;
}

static inline int64_t cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Blocks of at most `size` that cover `count`. */
static inline int64_t cpu_blocks(int64_t count, int64_t size)
{
    return (count + size - 1) / size;
}

enum {
    CPU_COLUMNS = 64,     /* columns that one task sums over all rows: 4 lines of cache a row */
    CPU_ROWS = 64,        /* rows summed before the sum joins the total: keeps the tail exact */
    CPU_ELEMENTS = 16384, /* elements of one task of a flat loop */
    CPU_SUM_LANES = 16,   /* sums of a row, whatever the width of a vector and the address */

    cpu_fused_x86_64 = 0,
    cpu_fused_avx2 = 1,
    cpu_fused_avx512 = 1,
    CPU_FUSED = CPU_PASTE(cpu_, fused, CPU_ISA), /* a multiply-add is one instruction */
};

/* a b + c where a compiler may choose which of two products it fuses: the same choice everywhere */
static inline float cpu_multiply_add(float a, float b, float c)
{
    return CPU_FUSED ? __builtin_fmaf(a, b, c) : a * b + c;
}

/* ((0 + 1) + (2 + 3)) + ..., in place: the tree of core/group.h */
static inline float cpu_tree_sum(float *part, int parts)
{
    for (int stride = 1; stride < parts; stride *= 2)
        for (int i = 0; i + stride < parts; i += 2 * stride) part[i] += part[i + stride];
    return part[0];
}

/* Rows are summed by lanes and the lanes by the tree, as here. */
static inline float cpu_dot(const float *a, const float *b, int64_t count)
{
    float lane[CPU_SUM_LANES] = { 0 };
    int64_t c = 0;
    for (; c + CPU_SUM_LANES <= count; c += CPU_SUM_LANES)
        for (int l = 0; l < CPU_SUM_LANES; l++) lane[l] += a[c + l] * b[c + l];
    for (int l = 0; c < count; c++, l++) lane[l] += a[c] * b[c];
    return cpu_tree_sum(lane, CPU_SUM_LANES);
}

#endif
