/*
 * Forward attention: one task is one (sample, head, tile of queries). Tiles of keys pass by with
 * the running maximum and sum of each query (Milakov & Gimelshein 2018), so that no more than
 * KEY_TILE x QUERY_TILE scores exist.
 */
#include "core/cpu/attention_tile.h"

#include <float.h>
#include <math.h>
#include <omp.h>

#include "core/cpu/vector_math.h"

/* A thread's scratch, and what its task reads. */
typedef struct Tile {
    float *q;       /* (head_dim, QUERY_TILE) scaled */
    float *out;     /* (head_dim, QUERY_TILE), not yet divided by sum */
    float *score;   /* (KEY_TILE, QUERY_TILE) */
    float *maximum; /* (QUERY_TILE) */
    float *sum;     /* (QUERY_TILE) */
    float *shrink;  /* (QUERY_TILE) */
} Tile;

static Tile tile_at(float *base, int64_t head_dim)
{
    Tile t = { .q = base };
    t.out = t.q + QUERY_TILE * head_dim;
    t.score = t.out + QUERY_TILE * head_dim;
    t.maximum = t.score + QUERY_TILE * KEY_TILE;
    t.sum = t.maximum + QUERY_TILE;
    t.shrink = t.sum + QUERY_TILE;
    return t;
}

/* score[j][i] += bias[j - i + q_tokens - 1], with `bias` at the tile's (j, i) = (0, 0) */
static void add_bias(float *restrict score, const float *restrict bias, int64_t keys,
                     int64_t queries)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < queries; i++) score[j * QUERY_TILE + i] += bias[j - i];
}

/* new maximum m' >= m; shrink = exp(m - m'); score = exp(score - m'); sum = sum shrink + ... */
static void soften(const Tile *t, int64_t keys, int64_t lanes)
{
    float *restrict score = t->score, *restrict maximum = t->maximum;
    float *restrict sum = t->sum, *restrict shrink = t->shrink;
    float top[QUERY_TILE];
    for (int64_t i = 0; i < lanes; i++) top[i] = maximum[i];
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i++) {
            const float s = score[j * QUERY_TILE + i];
            top[i] = s > top[i] ? s : top[i];
        }
    for (int64_t i = 0; i < lanes; i++) {
        shrink[i] = cpu_exp_below(maximum[i] - top[i]);
        maximum[i] = top[i];
        sum[i] *= shrink[i];
    }
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i++) {
            const float p = cpu_exp_below(score[j * QUERY_TILE + i] - maximum[i]);
            score[j * QUERY_TILE + i] = p;
            sum[i] += p;
        }
}

static void attend_keys(const Tile *t, const float *k, const float *v, const float *bias,
                        int64_t keys, int64_t queries, AttentionSize size)
{
    const int64_t dim = size.head_dim, lanes = attention_lanes(queries);
    tile_multiply(t->score, QUERY_TILE, (TileA){ k, size.stride, 1 }, t->q, QUERY_TILE,
                  (TileSize){ keys, lanes, dim }, false);
    if (bias) add_bias(t->score, bias, keys, queries);
    soften(t, keys, lanes);
    for (int64_t d = 0; d < dim; d++)
        for (int64_t i = 0; i < lanes; i++) t->out[d * QUERY_TILE + i] *= t->shrink[i];
    tile_multiply(t->out, QUERY_TILE, (TileA){ v, 1, size.stride }, t->score, QUERY_TILE,
                  (TileSize){ dim, lanes, keys }, true);
}

static void begin(const Tile *t, int64_t dim, int64_t lanes)
{
    for (int64_t i = 0; i < lanes; i++) {
        t->maximum[i] = -FLT_MAX;
        t->sum[i] = 0;
    }
    for (int64_t d = 0; d < dim; d++)
        for (int64_t i = 0; i < lanes; i++) t->out[d * QUERY_TILE + i] = 0;
}

/* out /= sum, and the logarithm of the whole sum; without a key there is nothing to attend to */
static void finish(const Tile *t, float *lse, int64_t keys, int64_t queries, int64_t dim)
{
    for (int64_t i = 0; i < queries; i++) {
        lse[i] = keys > 0 ? t->maximum[i] + logf(t->sum[i]) : -INFINITY;
        t->shrink[i] = keys > 0 ? 1.0f / t->sum[i] : 0.0f;
    }
    for (int64_t d = 0; d < dim; d++)
        for (int64_t i = 0; i < queries; i++) t->out[d * QUERY_TILE + i] *= t->shrink[i];
}

/* One task; q, k, v, out at the head's first query of the tile and first key, bias as add_bias. */
static void attend(const Tile *t, float *out, float *lse, const float *q, const float *k,
                   const float *v, const float *bias, int64_t keys, int64_t queries,
                   AttentionSize size, float scale)
{
    const int64_t dim = size.head_dim;
    attention_load_columns(t->q, q, queries, size, scale);
    begin(t, dim, attention_lanes(queries));
    for (int64_t j = 0; j < keys; j += KEY_TILE)
        attend_keys(t, k + j * size.stride, v + j * size.stride, bias ? bias + j : NULL,
                    cpu_min(KEY_TILE, keys - j), queries, size);
    finish(t, lse, keys, queries, dim);
    tile_transpose(out, size.stride, t->out, QUERY_TILE, dim, queries, 1.0f, false);
}

static Status attention_kernel(const Device *dev, Tensor out, Tensor lse, Tensor q, Tensor k,
                               Tensor v, const AttentionOptions *options, Arena *scratch)
{
    const AttentionSize size = attention_size(q, k);
    const int64_t tiles = cpu_blocks(size.q_tokens, QUERY_TILE);
    const int64_t each = attention_forward_floats(size.head_dim);
    const size_t mark = arena_mark(scratch);
    Tensor threads;
    TRY(tensor_alloc(scratch, F32, SHAPE(dev->threads, each), "attention tiles", &threads));

#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
    for (int64_t task = 0; task < size.batch * size.heads * tiles; task++) {
        const int64_t first = task % tiles * QUERY_TILE, head = task / tiles % size.heads;
        const int64_t sample = task / tiles / size.heads;
        const int64_t at_q = (sample * size.q_tokens + first) * size.stride + head * size.head_dim;
        const int64_t at_k = sample * size.k_tokens * size.stride + head * size.head_dim;
        const float *bias = NULL;
        if (options->rel_bias.data)
            bias = tensor_f32(options->rel_bias) + head * (size.q_tokens + size.k_tokens - 1) +
                   size.q_tokens - 1 - first;
        const Tile t = tile_at(tensor_f32(threads) + omp_get_thread_num() * each, size.head_dim);
        attend(&t, tensor_f32(out) + at_q,
               tensor_f32(lse) + (sample * size.heads + head) * size.q_tokens + first,
               tensor_f32(q) + at_q, tensor_f32(k) + at_k, tensor_f32(v) + at_k, bias,
               attention_keys(options, size, sample), cpu_min(QUERY_TILE, size.q_tokens - first),
               size, options->scale);
    }
    arena_release(scratch, mark);
    return OK;
}

static size_t attention_scratch(const Device *dev, int64_t q_tokens, int64_t k_tokens,
                                int64_t head_dim)
{
    (void)q_tokens; /* tiles are of one size, however long the sequence */
    (void)k_tokens;
    const int64_t forward = attention_forward_floats(head_dim);
    const int64_t backward = attention_backward_floats(head_dim);
    const int64_t each = forward > backward ? forward : backward;
    return (size_t)(dev->threads * each) * sizeof(float) + ARENA_ALIGN;
}

void CPU_FILL(attention)(OpTable *table)
{
    table->attention = attention_kernel;
    table->attention_scratch = attention_scratch;
}
