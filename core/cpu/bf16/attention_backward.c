/*
 * Backward attention with products in BF16, by the formulas of core/cpu/attention_backward.c: what
 * is multiplied is rounded, sums and the softmax are F32.
 *
 * One task is one (sample, head). Its queries are packed once, its keys tile by tile: tiles of keys
 * outside, tiles of queries inside. A task that adds to a head's bias takes that head's samples in
 * order.
 */
#include "core/cpu/attention_gradients.h"
#include "core/cpu/bf16/attention_panels.h"

#include <omp.h>
#include <string.h>

#include "core/cpu/vector_math.h"

/* Panels of a tile of queries. */
typedef struct QueryPanels {
    Pair *q_columns, *dout_columns; /* B (head_dim, QUERY_TILE) */
    Pair *q_rows, *dout_rows;       /* B (QUERY_TILE, head_dim) */
} QueryPanels;

/* A thread's scratch. */
typedef struct Tile {
    float *p, *ds;          /* (KEY_TILE, QUERY_TILE) */
    float *dk, *dv;         /* (KEY_TILE, head_dim) */
    float *dq;              /* (head_dim, QUERY_TILE) */
    float *lse, *dot;       /* (all queries, whole tiles); dot: rowsum(dout out) */
    Pair *queries;          /* of every tile of queries */
    Pair *k, *v;            /* A (KEY_TILE, head_dim) */
    Pair *k_turned;         /* A (head_dim, KEY_TILE) */
    Pair *p_rows, *ds_rows; /* A (KEY_TILE, QUERY_TILE) */
    Pair *ds_columns;       /* B (KEY_TILE, QUERY_TILE) */
} Tile;

static Tile tile_at(float *base, int64_t q_tokens, int64_t dim)
{
    const int64_t tiles = cpu_blocks(q_tokens, QUERY_TILE);
    Tile t = { .p = base };
    t.ds = t.p + KEY_TILE * QUERY_TILE;
    t.dk = t.ds + KEY_TILE * QUERY_TILE;
    t.dv = t.dk + KEY_TILE * dim;
    t.dq = t.dv + KEY_TILE * dim;
    t.lse = t.dq + QUERY_TILE * dim;
    t.dot = t.lse + tiles * QUERY_TILE;
    t.queries = panels_at(t.dot + tiles * QUERY_TILE);
    t.k = t.queries + tiles * attention_query_words(dim);
    t.v = t.k + panel_words(KEY_TILE, dim);
    t.k_turned = t.v + panel_words(KEY_TILE, dim);
    t.p_rows = t.k_turned + panel_words(dim, KEY_TILE);
    t.ds_rows = t.p_rows + panel_words(KEY_TILE, QUERY_TILE);
    t.ds_columns = t.ds_rows + panel_words(KEY_TILE, QUERY_TILE);
    return t;
}

static QueryPanels query_panels(const Tile *t, int64_t first, int64_t dim)
{
    QueryPanels p = { .q_columns = t->queries + first / QUERY_TILE * attention_query_words(dim) };
    p.dout_columns = p.q_columns + panel_words(QUERY_TILE, dim);
    p.q_rows = p.dout_columns + panel_words(QUERY_TILE, dim);
    p.dout_rows = p.q_rows + panel_words(dim, QUERY_TILE);
    return p;
}

static void pack_queries(const Tile *t, const AttentionHead *h, AttentionSize size)
{
    const int64_t dim = size.head_dim, stride = size.stride;
    for (int64_t i = 0; i < size.q_tokens; i += QUERY_TILE) {
        const int64_t count = cpu_min(QUERY_TILE, size.q_tokens - i);
        const QueryPanels to = query_panels(t, i, dim);
        const CellSource q = { .f32 = h->q + i * stride, .stride = stride };
        const CellSource dout = { .f32 = h->dout + i * stride, .stride = stride };
        pack_b(to.q_columns, q, true, count, dim);
        pack_b(to.dout_columns, dout, true, count, dim);
        pack_b(to.q_rows, q, false, dim, count);
        pack_b(to.dout_rows, dout, false, dim, count);
    }
    for (int64_t i = 0; i < size.q_tokens; i++) {
        t->dot[i] = cpu_dot(h->dout + i * stride, h->out + i * stride, dim);
        t->lse[i] = h->lse[i];
    }
    for (int64_t i = size.q_tokens; i % QUERY_TILE != 0; i++) t->lse[i] = t->dot[i] = 0;
}

static void pack_keys(const Tile *t, const AttentionHead *h, int64_t first, int64_t keys,
                      AttentionSize size)
{
    const CellSource k = { .f32 = h->k + first * size.stride, .stride = size.stride };
    const CellSource v = { .f32 = h->v + first * size.stride, .stride = size.stride };
    pack_a(t->k, k, false, keys, size.head_dim);
    pack_a(t->v, v, false, keys, size.head_dim);
    pack_a(t->k_turned, k, true, size.head_dim, keys);
}

/* p = exp(scale s + bias - lse), then ds = p (dp - dot); `bias` at the tile's (j, i) = (0, 0); lse
 * and dot of the tile's queries */
static void soften(const Tile *t, const float *restrict lse, const float *restrict dot,
                   const float *restrict bias, int64_t keys, int64_t queries, float scale)
{
    float *restrict p = t->p, *restrict ds = t->ds;
    for (int64_t j = 0; j < keys; j++) {
        float *restrict score = p + j * QUERY_TILE, *restrict slope = ds + j * QUERY_TILE;
        for (int64_t i = 0; i < QUERY_TILE; i++) score[i] *= scale;
        for (int64_t i = 0; bias && i < queries; i++) score[i] += bias[j - i];
        for (int64_t i = 0; i < QUERY_TILE; i++) {
            const float e = cpu_exp_below(score[i] - lse[i]);
            score[i] = e;
            slope[i] = e * (slope[i] - dot[i]);
        }
    }
}

/* One tile of keys, packed, against one of queries. */
static void visit(const Tile *t, const AttentionHead *h, int64_t first_key, int64_t keys,
                  int64_t first, int64_t queries, AttentionSize size)
{
    const int64_t dim = size.head_dim, diagonal = first_key - first;
    const QueryPanels query = query_panels(t, first, dim);
    const CellSource p = { .f32 = t->p, .stride = QUERY_TILE };
    const CellSource ds = { .f32 = t->ds, .stride = QUERY_TILE };
    panel_multiply(t->p, QUERY_TILE, t->k, query.q_columns, keys, QUERY_TILE, dim, false);
    panel_multiply(t->ds, QUERY_TILE, t->v, query.dout_columns, keys, QUERY_TILE, dim, false);
    soften(t, t->lse + first, t->dot + first, h->bias ? h->bias + diagonal : NULL, keys, queries,
           h->scale);

    /* sums over queries: only those that exist */
    pack_a(t->p_rows, p, false, keys, queries);
    pack_a(t->ds_rows, ds, false, keys, queries);
    panel_multiply(t->dv, dim, t->p_rows, query.dout_rows, keys, dim, queries, true);
    panel_multiply(t->dk, dim, t->ds_rows, query.q_rows, keys, dim, queries, true);
    pack_b(t->ds_columns, ds, false, QUERY_TILE, keys);
    panel_multiply(t->dq, QUERY_TILE, t->k_turned, t->ds_columns, dim, QUERY_TILE, keys, false);
    tile_transpose(h->dq + first * size.stride, size.stride, t->dq, QUERY_TILE, dim, queries,
                   h->scale, true);
    attention_add_bias(h, t->ds, diagonal, keys, queries);
}

static void store_rows(float *restrict to, const float *restrict from, int64_t count, float scale,
                       AttentionSize size)
{
    for (int64_t j = 0; j < count; j++)
        for (int64_t d = 0; d < size.head_dim; d++)
            to[j * size.stride + d] = scale * from[j * size.head_dim + d];
}

static void backward_head(const Tile *t, const AttentionHead *h, AttentionSize size)
{
    attention_clear_rows(h->dq, size.q_tokens, size);
    pack_queries(t, h, size);
    for (int64_t j = 0; j < h->keys; j += KEY_TILE) {
        const int64_t keys = cpu_min(KEY_TILE, h->keys - j);
        memset(t->dk, 0, (size_t)(keys * size.head_dim) * sizeof *t->dk);
        memset(t->dv, 0, (size_t)(keys * size.head_dim) * sizeof *t->dv);
        pack_keys(t, h, j, keys, size);
        for (int64_t i = 0; i < size.q_tokens; i += QUERY_TILE)
            visit(t, h, j, keys, i, cpu_min(QUERY_TILE, size.q_tokens - i), size);
        store_rows(h->dk + j * size.stride, t->dk, keys, h->scale, size);
        store_rows(h->dv + j * size.stride, t->dv, keys, 1.0f, size);
    }
    attention_clear_masked(h, size);
}

static Status attention_backward_kernel(const Device *dev, Tensor dq, Tensor dk, Tensor dv,
                                        Tensor drel_bias, Tensor dout, Tensor q, Tensor k, Tensor v,
                                        Tensor out, Tensor lse, const AttentionOptions *options,
                                        Arena *scratch)
{
    const AttentionSize size = attention_size(q, k);
    const int64_t each = attention_backward_panels(size.q_tokens, size.head_dim);
    const AttentionCall call = { dq, dk, dv, drel_bias, dout, q, k, v, out, lse, options };
    const int64_t samples = drel_bias.data ? size.batch : 1; /* that one task takes in order */
    const size_t mark = arena_mark(scratch);
    Tensor threads;
    TRY(tensor_alloc(scratch, F32, SHAPE(dev->threads, each), "attention panels", &threads));

#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
    for (int64_t task = 0; task < size.batch * size.heads / samples; task++) {
        const Tile t = tile_at(tensor_f32(threads) + omp_get_thread_num() * each, size.q_tokens,
                               size.head_dim);
        const int64_t head = task % size.heads;
        bf16_begin();
        for (int64_t s = 0; s < samples; s++) {
            const AttentionHead h = attention_head(&call, size, task / size.heads + s, head);
            backward_head(&t, &h, size);
        }
        bf16_end();
    }
    arena_release(scratch, mark);
    return OK;
}

void BF16_FILL(attention_backward)(OpTable *table)
{
    table->attention_backward = attention_backward_kernel;
}
