/*
 * Goto & van de Geijn 2008: a task owns a tile of C, packs the strips of A and B it needs DEPTH
 * deep, and a block of C stays in registers over that depth. Between depths the chain waits in C,
 * as f32, which is what it is in the register: so blocking changes no bit.
 */
#include "core/cpu/gemm_exact.h"

#include <string.h>

#include "core/cpu/tile.h"

/* Rows x vectors of C in registers, of 16 or 32; on x86-64 the emulation needs them itself. */
enum {
    exact_rows_x86_64 = 4,
    exact_rows_avx2 = 6,
    exact_rows_avx512 = 12,
    exact_vectors_x86_64 = 1,
    exact_vectors_avx2 = 2,
    exact_vectors_avx512 = 2,

    ROWS = CPU_PASTE(exact_, rows, CPU_ISA),
    VECTORS = CPU_PASTE(exact_, vectors, CPU_ISA),
    COLUMNS = VECTORS * CPU_LANES,

    DEPTH = 256,
    TILE_HEIGHT = 168, /* a multiple of every ROWS, as is its half */
    TILE_WIDTH = 256,
    PART_HEIGHT = TILE_HEIGHT / 2, /* of tiles that are summed by parts: one is kept a level */
    PART_WIDTH = TILE_WIDTH / 2,
    LEVELS = 5, /* of a tree over LINEAR_PARTS */
};

/* ---- the chain ------------------------------------------------------------------------------ */

typedef double Wide __attribute__((vector_size(2 * CPU_VECTOR_BYTES)));
typedef int64_t WideBits __attribute__((vector_size(2 * CPU_VECTOR_BYTES)));

/* fma(a, b, c) without the instruction. The product is exact in double; the sum is rounded to odd
 * (Boldo & Melquiond 2008), so that rounding it once more to float rounds the exact value. */
static inline __attribute__((always_inline)) CpuVector emulated_fma(CpuVector a, CpuVector b,
                                                                    CpuVector c)
{
    const Wide product = __builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide);
    const Wide addend = __builtin_convertvector(c, Wide);
    const Wide sum = product + addend, other = sum - product;
    const Wide lost = (product - (sum - other)) + (addend - other);
    const WideBits bits = (WideBits)sum;
    /* masks are -1 where true; what was lost in infinities and NaN is NaN, neither above nor below
     */
    const WideBits inexact = (lost > 0) | (lost < 0), even = (bits & 1) - 1;
    const WideBits outwards = ~((lost > 0) ^ (sum > 0));
    const WideBits step = (outwards & 2) - 1;
    return __builtin_convertvector((Wide)(bits + (step & inexact & even)), CpuVector);
}

static inline __attribute__((always_inline)) CpuVector fused(float a, CpuVector b, CpuVector c)
{
    return CPU_FUSED ? a * b + c : emulated_fma(a - (CpuVector){ 0 }, b, c); /* -0 - 0 is -0 */
}

/* C (rows, COLUMNS) continues over `depth` of packed A (depth, ROWS) and B (depth, COLUMNS). Rows
 * are constant where this is inlined, so the loops unroll into registers. */
static inline __attribute__((always_inline)) void continue_block(const int rows, int64_t depth,
                                                                 const float *a, const float *b,
                                                                 float *c, int64_t c_row)
{
    CpuVector sum[ROWS][VECTORS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < VECTORS; j++)
            sum[i][j] = *(const CpuLoose *)(c + i * c_row + j * CPU_LANES);
    for (int64_t p = 0; p < depth; p++) {
        CpuVector line[VECTORS];
        for (int j = 0; j < VECTORS; j++)
            line[j] = *(const CpuLoose *)(b + p * COLUMNS + j * CPU_LANES);
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < VECTORS; j++)
                sum[i][j] = fused(a[p * ROWS + i], line[j], sum[i][j]);
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < VECTORS; j++) *(CpuLoose *)(c + i * c_row + j * CPU_LANES) = sum[i][j];
}

static void continue_whole(int64_t depth, const float *a, const float *b, float *c, int64_t c_row)
{
    continue_block(ROWS, depth, a, b, c, c_row);
}

/* A block at an edge of C works on a copy. Few rows are worth a loop of their own. */
static void continue_edge(int64_t rows, int64_t columns, int64_t depth, const float *a,
                          const float *b, float *c, int64_t c_row)
{
    float block[ROWS * COLUMNS] = { 0 };
    for (int64_t i = 0; i < rows; i++)
        memcpy(block + i * COLUMNS, c + i * c_row, (size_t)columns * sizeof *c);
    if (rows <= ROWS / 3)
        continue_block(ROWS / 3, depth, a, b, block, COLUMNS);
    else if (rows <= ROWS / 3 * 2)
        continue_block(ROWS / 3 * 2, depth, a, b, block, COLUMNS);
    else
        continue_block(ROWS, depth, a, b, block, COLUMNS);
    for (int64_t i = 0; i < rows; i++)
        memcpy(c + i * c_row, block + i * COLUMNS, (size_t)columns * sizeof *c);
}

/* ---- packing -------------------------------------------------------------------------------- */

/* A strip, (depth, width) with its first `count` of each row there and zeros after, from rows of
 * k: to[p][i] = from[i][p] */
static inline __attribute__((always_inline)) void pack_turned(float *restrict to,
                                                              const float *restrict from,
                                                              int64_t stride, const int width,
                                                              int64_t count, int64_t depth)
{
    tile_transpose(to, width, from, stride, count, depth, 1.0f, false);
    for (int64_t p = 0; count < width && p < depth; p++)
        for (int64_t i = count; i < width; i++) to[p * width + i] = 0;
}

/* the same from rows along the strip: to[p][i] = from[p][i] */
static inline __attribute__((always_inline)) void pack_straight(float *restrict to,
                                                                const float *restrict from,
                                                                int64_t stride, const int width,
                                                                int64_t count, int64_t depth)
{
    for (int64_t p = 0; p < depth; p++) {
        if (count == width) {
            for (int i = 0; i < width; i++) to[p * width + i] = from[p * stride + i];
            continue;
        }
        for (int64_t i = 0; i < count; i++) to[p * width + i] = from[p * stride + i];
        for (int64_t i = count; i < width; i++) to[p * width + i] = 0;
    }
}

/* Strips of `width`, one after the other; `turned`: k runs along the rows of memory. */
static inline __attribute__((always_inline)) void pack(float *restrict to, const float *from,
                                                       int64_t stride, bool turned, const int width,
                                                       int64_t count, int64_t depth)
{
    for (int64_t i = 0; i < count; i += width) {
        const int64_t there = cpu_min(width, count - i);
        if (turned)
            pack_turned(to + i * depth, from + i * stride, stride, width, there, depth);
        else
            pack_straight(to + i * depth, from + i, stride, width, there, depth);
    }
}

/* ---- tiles ---------------------------------------------------------------------------------- */

/* On the stack of who owns the tile, and aligned: a vector that lies across two lines of cache
 * takes twice the time. */
typedef struct Packed {
    float *a; /* (tile's rows, DEPTH) in strips of ROWS */
    float *b; /* (DEPTH, tile's columns) in strips of COLUMNS */
} Packed;

/* A tile of C: rows and columns at (i, j) of the whole, kept at c with rows c_row apart. */
typedef struct Tile {
    float *c;
    int64_t c_row, i, j, rows, columns;
} Tile;

static void continue_packed(Tile t, const Packed *packed, int64_t depth)
{
    for (int64_t j = 0; j < t.columns; j += COLUMNS)
        for (int64_t i = 0; i < t.rows; i += ROWS) {
            const float *a = packed->a + i * depth, *b = packed->b + j * depth;
            float *c = t.c + i * t.c_row + j;
            if (i + ROWS <= t.rows && j + COLUMNS <= t.columns)
                continue_whole(depth, a, b, c, t.c_row);
            else
                continue_edge(cpu_min(ROWS, t.rows - i), cpu_min(COLUMNS, t.columns - j), depth, a,
                              b, c, t.c_row);
        }
}

/* The tile's chains go on over first <= k < end of a term. */
static void continue_tile(Tile t, const ExactTerm *term, int64_t first, int64_t end,
                          const Packed *packed)
{
    const GemmOperand a = term->a, b = term->b;
    for (int64_t p = first; p < end; p += DEPTH) {
        const int64_t depth = cpu_min(DEPTH, end - p);
        pack(packed->a, a.data + (a.transposed ? p * a.stride + t.i : t.i * a.stride + p), a.stride,
             !a.transposed, ROWS, t.rows, depth);
        pack(packed->b, b.data + (b.transposed ? t.j * b.stride + p : p * b.stride + t.j), b.stride,
             b.transposed, COLUMNS, t.columns, depth);
        continue_packed(t, packed, depth);
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

/* One chain an element, in C itself. */
static void multiply_chain(const ExactGemm *g, Tile t)
{
    _Alignas(64) float a[TILE_HEIGHT * DEPTH], b[TILE_WIDTH * DEPTH];
    const Packed packed = { a, b };
    if (g->bias) {
        for (int64_t i = 0; i < t.rows; i++)
            memcpy(t.c + i * t.c_row, g->bias + t.j, (size_t)t.columns * sizeof *t.c);
    } else if (g->start == EXACT_WRITE) {
        clear_tile(t);
    }
    for (int p = 0; p < g->terms; p++) continue_tile(t, &g->term[p], 0, g->term[p].k, &packed);
}

/* A chain a part. Sums of 1, 2, 4, ... parts wait in levels, the largest first; a part that
 * completes a pair is added to it at once, as in a binary counter. */
static void multiply_parts(const ExactGemm *g, Tile t)
{
    _Alignas(64) float a[PART_HEIGHT * DEPTH], b[PART_WIDTH * DEPTH];
    _Alignas(64) float level[LEVELS][PART_HEIGHT * PART_WIDTH];
    const Packed packed = { a, b };
    Tile at[LEVELS];
    for (int i = 0; i < LEVELS; i++)
        at[i] = (Tile){ level[i], PART_WIDTH, t.i, t.j, t.rows, t.columns };
    int used = 0;
    for (int part = 0; part < g->parts; part++) {
        clear_tile(at[used]);
        for (int p = 0; p < g->terms; p++) {
            const int64_t chunk = g->term[p].k / g->parts;
            continue_tile(at[used], &g->term[p], part * chunk, (part + 1) * chunk, &packed);
        }
        used++;
        for (int parts = part + 1; parts % 2 == 0; parts /= 2, used--)
            add_tile(at[used - 2], at[used - 1]);
    }
    for (; used > 1; used--) add_tile(at[used - 2], at[used - 1]);
    if (g->start == EXACT_ADD)
        add_tile(t, at[0]);
    else
        copy_tile(t, at[0]); /* 0 + -0 is not -0 */
}

/* ---- the whole ------------------------------------------------------------------------------ */

void gemm_exact(const ExactGemm *gemm, int threads)
{
    const bool chain = gemm->parts == 1 && gemm->start != EXACT_ADD;
    const int64_t height = chain ? TILE_HEIGHT : PART_HEIGHT;
    int64_t width = chain ? TILE_WIDTH : PART_WIDTH;
    const int64_t down = cpu_blocks(gemm->m, height);
    /* every thread has work, if need be in narrower tiles */
    while (threads > 1 && width > 2 * COLUMNS && down * cpu_blocks(gemm->n, width) < 2 * threads)
        width /= 2;
    const int64_t tiles = down * cpu_blocks(gemm->n, width);
#pragma omp parallel for schedule(dynamic) num_threads(tiles > 1 ? threads : 1)
    for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t i = tile % down * height, j = tile / down * width;
        const Tile t = { .c = gemm->c + i * gemm->n + j,
                         .c_row = gemm->n,
                         .i = i,
                         .j = j,
                         .rows = cpu_min(height, gemm->m - i),
                         .columns = cpu_min(width, gemm->n - j) };
        if (chain)
            multiply_chain(gemm, t);
        else
            multiply_parts(gemm, t);
    }
}
