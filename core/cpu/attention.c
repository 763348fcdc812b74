/*
 * Forward attention: one task is one (sample, head, tile of queries). Tiles of keys pass by with
 * the running maximum and sum of each query (Milakov & Gimelshein 2018), so that no more than
 * KEY_TILE x QUERY_TILE scores exist.
 */
#include "core/cpu/attention_softmax.h"

#include <omp.h>

/* A thread's scratch. */
typedef struct Tile {
    Softmax soft;
    float *q; /* (head_dim, QUERY_TILE) scaled */
} Tile;

static Tile tile_at(float *base, int64_t head_dim)
{
    return (Tile){ softmax_at(base, head_dim), base + softmax_floats(head_dim) };
}

static int64_t forward_floats(int64_t head_dim)
{
    return softmax_floats(head_dim) + QUERY_TILE * head_dim;
}

static void attend_keys(const Tile *t, const float *k, const float *v, const float *bias,
                        int64_t keys, int64_t queries, AttentionSize size)
{
    const Softmax *soft = &t->soft;
    const int64_t dim = size.head_dim, lanes = attention_lanes(queries);
    tile_multiply(soft->score, QUERY_TILE, (TileA){ k, size.stride, 1 }, t->q, QUERY_TILE,
                  (TileSize){ keys, lanes, dim }, false);
    if (bias) softmax_bias(soft->score, bias, keys, queries);
    softmax_tile(soft, dim, keys, lanes, 1.0f);
    tile_multiply(soft->out, QUERY_TILE, (TileA){ v, 1, size.stride }, soft->score, QUERY_TILE,
                  (TileSize){ dim, lanes, keys }, true);
}

/* One task; q, k, v, out at the head's first query of the tile and first key, bias as add_bias. */
static void attend(const Tile *t, float *out, float *lse, const float *q, const float *k,
                   const float *v, const float *bias, int64_t keys, int64_t queries,
                   AttentionSize size, float scale)
{
    const int64_t dim = size.head_dim;
    attention_load_columns(t->q, q, queries, size, scale);
    softmax_begin(&t->soft, dim, attention_lanes(queries));
    for (int64_t j = 0; j < keys; j += KEY_TILE)
        attend_keys(t, k + j * size.stride, v + j * size.stride, bias ? bias + j : NULL,
                    cpu_min(KEY_TILE, keys - j), queries, size);
    softmax_finish(&t->soft, lse, keys, queries, dim);
    tile_transpose(out, size.stride, t->soft.out, QUERY_TILE, dim, queries, 1.0f, false);
}

static Status attention_kernel(const Device *dev, Tensor out, Tensor lse, Tensor q, Tensor k,
                               Tensor v, const AttentionOptions *options, Arena *scratch)
{
    const AttentionSize size = attention_size(q, k);
    const int64_t tiles = cpu_blocks(size.q_tokens, QUERY_TILE);
    const int64_t each = forward_floats(size.head_dim);
    const float *bias = options->rel_bias.data;
    const size_t mark = arena_mark(scratch);
    Tensor threads;
    TRY(tensor_alloc(scratch, F32, SHAPE(dev->threads, each), "attention tiles", &threads));

#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
    for (int64_t task = 0; task < size.batch * size.heads * tiles; task++) {
        const int64_t first = task % tiles * QUERY_TILE, head = task / tiles % size.heads;
        const AttentionPlace at = attention_place(options, size, task / tiles / size.heads, head);
        const int64_t at_q = at.q + first * size.stride;
        const Tile t = tile_at(tensor_f32(threads) + omp_get_thread_num() * each, size.head_dim);
        attend(&t, tensor_f32(out) + at_q, tensor_f32(lse) + at.lse + first, tensor_f32(q) + at_q,
               tensor_f32(k) + at.k, tensor_f32(v) + at.k, bias ? bias + at.bias - first : NULL,
               at.keys, cpu_min(QUERY_TILE, size.q_tokens - first), size, options->scale);
    }
    arena_release(scratch, mark);
    return OK;
}

static size_t attention_scratch(const Device *dev, int64_t q_tokens, int64_t k_tokens,
                                int64_t head_dim)
{
    (void)q_tokens; /* tiles are of one size, however long the sequence */
    (void)k_tokens;
    const int64_t forward = forward_floats(head_dim);
    const int64_t backward = attention_backward_floats(head_dim);
    const int64_t each = forward > backward ? forward : backward;
    return (size_t)(dev->threads * each) * sizeof(float) + ARENA_ALIGN;
}

void CPU_FILL(attention)(OpTable *table)
{
    table->attention = attention_kernel;
    table->attention_scratch = attention_scratch;
}
