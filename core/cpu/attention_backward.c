/*
 * Backward attention. Probabilities come back from the kept log-sum-exp, tile by tile:
 *   s = scale q k^T + bias,  p = exp(s - lse),  dp = dout v^T,  ds = p (dp - rowsum(dout out))
 *   dv = p^T dout,  dk = scale ds^T q,  dq = scale ds k,  dbias = sums of ds along diagonals
 * One task is one (sample, head): tiles of keys outside, tiles of queries inside; dk and dv of the
 * tile stay in scratch, dq is added to in memory. A task that adds to a head's bias takes that
 * head's samples in order. So every number has one owner and one order of additions.
 */
#include "core/cpu/attention_gradients.h"

#include <omp.h>
#include <string.h>

#include "core/cpu/vector_math.h"

typedef struct Tile {
    float *q_columns;    /* (head_dim, QUERY_TILE) scaled */
    float *dout_columns; /* (head_dim, QUERY_TILE) */
    float *dq_columns;   /* (head_dim, QUERY_TILE) */
    float *q_rows;       /* (QUERY_TILE, padded head_dim) scaled */
    float *dout_rows;    /* (QUERY_TILE, padded head_dim) */
    float *p, *ds;       /* (KEY_TILE, QUERY_TILE) */
    float *lse, *dot;    /* (QUERY_TILE); dot: rowsum(dout out) */
    float *dk, *dv;      /* (KEY_TILE, padded head_dim) */
    int64_t padded;
} Tile;

static Tile tile_at(float *base, int64_t head_dim)
{
    const int64_t padded = cpu_pad(head_dim), columns = QUERY_TILE * head_dim;
    Tile t = { .q_columns = base, .padded = padded };
    t.dout_columns = t.q_columns + columns;
    t.dq_columns = t.dout_columns + columns;
    t.q_rows = t.dq_columns + columns;
    t.dout_rows = t.q_rows + QUERY_TILE * padded;
    t.p = t.dout_rows + QUERY_TILE * padded;
    t.ds = t.p + QUERY_TILE * KEY_TILE;
    t.lse = t.ds + QUERY_TILE * KEY_TILE;
    t.dot = t.lse + QUERY_TILE;
    t.dk = t.dot + QUERY_TILE;
    t.dv = t.dk + KEY_TILE * padded;
    return t;
}

static void load_rows(float *restrict to, const float *restrict from, int64_t count, int64_t padded,
                      AttentionSize size, float scale)
{
    for (int64_t i = 0; i < count; i++) {
        for (int64_t d = 0; d < size.head_dim; d++)
            to[i * padded + d] = scale * from[i * size.stride + d];
        for (int64_t d = size.head_dim; d < padded; d++) to[i * padded + d] = 0;
    }
}

static void load_queries(const Tile *t, const AttentionHead *h, int64_t first, int64_t count,
                         AttentionSize size)
{
    const float *q = h->q + first * size.stride, *dout = h->dout + first * size.stride;
    const float *out = h->out + first * size.stride;
    attention_load_columns(t->q_columns, q, count, size, h->scale);
    attention_load_columns(t->dout_columns, dout, count, size, 1.0f);
    load_rows(t->q_rows, q, count, t->padded, size, h->scale);
    load_rows(t->dout_rows, dout, count, t->padded, size, 1.0f);
    for (int64_t i = 0; i < QUERY_TILE; i++) t->lse[i] = t->dot[i] = 0;
    for (int64_t i = 0; i < count; i++) {
        t->dot[i] = cpu_dot(dout + i * size.stride, out + i * size.stride, size.head_dim);
        t->lse[i] = h->lse[first + i];
    }
}

/* p = exp(s + bias - lse), then ds = p (dp - dot); `bias` at the tile's (j, i) = (0, 0) */
static void soften(const Tile *t, const float *restrict bias, int64_t keys, int64_t queries)
{
    const int64_t lanes = attention_lanes(queries);
    float *restrict p = t->p, *restrict ds = t->ds;
    const float *restrict lse = t->lse, *restrict dot = t->dot;
    if (bias) {
        for (int64_t j = 0; j < keys; j++)
            for (int64_t i = 0; i < queries; i++) p[j * QUERY_TILE + i] += bias[j - i];
    }
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i++) {
            const float e = cpu_exp_below(p[j * QUERY_TILE + i] - lse[i]);
            p[j * QUERY_TILE + i] = e;
            ds[j * QUERY_TILE + i] = e * (ds[j * QUERY_TILE + i] - dot[i]);
        }
}

/* One tile of keys against one of queries. */
static void visit(const Tile *t, const AttentionHead *h, int64_t first_key, int64_t keys,
                  int64_t first_query, int64_t queries, AttentionSize size)
{
    const float *k = h->k + first_key * size.stride, *v = h->v + first_key * size.stride;
    const int64_t dim = size.head_dim, diagonal = first_key - first_query;
    const int64_t lanes = attention_lanes(queries);
    const TileSize scores = { keys, lanes, dim };

    tile_multiply(t->p, QUERY_TILE, (TileA){ k, size.stride, 1 }, t->q_columns, QUERY_TILE, scores,
                  false);
    tile_multiply(t->ds, QUERY_TILE, (TileA){ v, size.stride, 1 }, t->dout_columns, QUERY_TILE,
                  scores, false);
    soften(t, h->bias ? h->bias + diagonal : NULL, keys, queries);

    /* sums over queries: only those that exist */
    const TileSize gradients = { keys, t->padded, queries };
    tile_multiply(t->dv, t->padded, (TileA){ t->p, QUERY_TILE, 1 }, t->dout_rows, t->padded,
                  gradients, true);
    tile_multiply(t->dk, t->padded, (TileA){ t->ds, QUERY_TILE, 1 }, t->q_rows, t->padded,
                  gradients, true);
    tile_multiply(t->dq_columns, QUERY_TILE, (TileA){ k, 1, size.stride }, t->ds, QUERY_TILE,
                  (TileSize){ dim, lanes, keys }, false);
    /* scaled apart from the addition: fused or not, a query has the same bits at any place */
    for (int64_t d = 0; d < dim; d++)
        for (int64_t i = 0; i < lanes; i++) t->dq_columns[d * QUERY_TILE + i] *= h->scale;
    tile_transpose(h->dq + first_query * size.stride, size.stride, t->dq_columns, QUERY_TILE, dim,
                   queries, 1.0f, true);
    attention_add_bias(h, t->ds, diagonal, keys, queries);
}

static void store_rows(float *restrict to, const float *restrict from, int64_t count,
                       int64_t padded, AttentionSize size)
{
    for (int64_t j = 0; j < count; j++)
        for (int64_t d = 0; d < size.head_dim; d++) to[j * size.stride + d] = from[j * padded + d];
}

static void backward_head(const Tile *t, const AttentionHead *h, AttentionSize size)
{
    attention_clear_rows(h->dq, size.q_tokens, size);
    for (int64_t j = 0; j < h->keys; j += KEY_TILE) {
        const int64_t keys = cpu_min(KEY_TILE, h->keys - j);
        memset(t->dk, 0, (size_t)(keys * t->padded) * sizeof *t->dk);
        memset(t->dv, 0, (size_t)(keys * t->padded) * sizeof *t->dv);
        for (int64_t i = 0; i < size.q_tokens; i += QUERY_TILE) {
            const int64_t queries = cpu_min(QUERY_TILE, size.q_tokens - i);
            load_queries(t, h, i, queries, size);
            visit(t, h, j, keys, i, queries, size);
        }
        store_rows(h->dk + j * size.stride, t->dk, keys, t->padded, size);
        store_rows(h->dv + j * size.stride, t->dv, keys, t->padded, size);
    }
    attention_clear_masked(h, size);
}

static Status attention_backward_kernel(const Device *dev, Tensor dq, Tensor dk, Tensor dv,
                                        Tensor drel_bias, Tensor dout, Tensor q, Tensor k, Tensor v,
                                        Tensor out, Tensor lse, const AttentionOptions *options,
                                        Arena *scratch)
{
    const AttentionSize size = attention_size(q, k);
    const int64_t each = attention_backward_floats(size.head_dim);
    const AttentionCall call = { dq, dk, dv, drel_bias, dout, q, k, v, out, lse, options };
    const int64_t samples = drel_bias.data ? size.batch : 1; /* that one task takes in order */
    const size_t mark = arena_mark(scratch);
    Tensor threads;
    TRY(tensor_alloc(scratch, F32, SHAPE(dev->threads, each), "attention tiles", &threads));

#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
    for (int64_t task = 0; task < size.batch * size.heads / samples; task++) {
        const Tile t = tile_at(tensor_f32(threads) + omp_get_thread_num() * each, size.head_dim);
        const int64_t head = task % size.heads;
        for (int64_t s = 0; s < samples; s++) {
            const AttentionHead h = attention_head(&call, size, task / size.heads + s, head);
            backward_head(&t, &h, size);
        }
    }
    arena_release(scratch, mark);
    return OK;
}

void CPU_FILL(attention_backward)(OpTable *table)
{
    table->attention_backward = attention_backward_kernel;
}
