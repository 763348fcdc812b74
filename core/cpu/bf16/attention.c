/*
 * Forward attention with products in BF16: q, k, v and the probabilities are rounded, the softmax
 * and all sums are F32.
 *
 * One task is some tiles of queries of one (sample, head). It packs the head's keys and values
 * once; where there are few heads a head is several tasks.
 */
#include "core/cpu/attention_softmax.h"
#include "core/cpu/bf16/attention_panels.h"

#include <omp.h>

/* A thread's scratch. */
typedef struct Tile {
    Softmax soft;
    Pair *q;      /* B (head_dim, QUERY_TILE) */
    Pair *p;      /* B (KEY_TILE, QUERY_TILE): probabilities */
    Pair *keys;   /* A (keys, head_dim) */
    Pair *values; /* A (head_dim, KEY_TILE), a tile of keys after the other */
} Tile;

static int64_t forward_words(int64_t keys, int64_t dim)
{
    return panel_words(QUERY_TILE, dim) + panel_words(QUERY_TILE, KEY_TILE) +
           panel_words(keys, dim) + cpu_blocks(keys, KEY_TILE) * panel_words(dim, KEY_TILE);
}

static int64_t forward_floats(int64_t keys, int64_t dim)
{
    return softmax_floats(dim) + forward_words(keys, dim) + CELL_SIDE;
}

static Tile tile_at(float *base, int64_t keys, int64_t dim)
{
    Tile t = { .soft = softmax_at(base, dim) };
    t.q = panels_at(base + softmax_floats(dim));
    t.p = t.q + panel_words(QUERY_TILE, dim);
    t.keys = t.p + panel_words(QUERY_TILE, KEY_TILE);
    t.values = t.keys + panel_words(keys, dim);
    return t;
}

static void pack_head(const Tile *t, const float *k, const float *v, int64_t keys,
                      AttentionSize size)
{
    const int64_t dim = size.head_dim, panel = panel_words(dim, KEY_TILE);
    pack_a(t->keys, (CellSource){ .f32 = k, .stride = size.stride }, false, keys, dim);
    for (int64_t j = 0; j < keys; j += KEY_TILE) {
        const CellSource tile = { .f32 = v + j * size.stride, .stride = size.stride };
        pack_a(t->values + j / KEY_TILE * panel, tile, true, dim, cpu_min(KEY_TILE, keys - j));
    }
}

/* Tiles of values are as deep as their keys, the last one less deep. */
static void attend_keys(const Tile *t, const float *bias, int64_t first, int64_t keys,
                        int64_t queries, int64_t dim, float scale)
{
    const Softmax *soft = &t->soft;
    panel_multiply(soft->score, QUERY_TILE, t->keys + first / BLOCK * panel_words(BLOCK, dim), t->q,
                   keys, QUERY_TILE, dim, false);
    if (bias) {
        for (int64_t i = 0; i < keys * QUERY_TILE; i++) soft->score[i] *= scale;
        softmax_bias(soft->score, bias, keys, queries);
    }
    softmax_tile(soft, dim, keys, QUERY_TILE, bias ? 1.0f : scale);
    pack_b(t->p, (CellSource){ .f32 = soft->score, .stride = QUERY_TILE }, false, QUERY_TILE, keys);
    panel_multiply(soft->out, QUERY_TILE, t->values + first / KEY_TILE * panel_words(dim, KEY_TILE),
                   t->p, dim, QUERY_TILE, keys, true);
}

/* One tile of queries: q, out, lse and bias at its first. */
static void attend(const Tile *t, float *out, float *lse, const float *q, const float *bias,
                   int64_t keys, int64_t queries, AttentionSize size, float scale)
{
    const int64_t dim = size.head_dim;
    pack_b(t->q, (CellSource){ .f32 = q, .stride = size.stride }, true, queries, dim);
    softmax_begin(&t->soft, dim, QUERY_TILE);
    for (int64_t j = 0; j < keys; j += KEY_TILE)
        attend_keys(t, bias ? bias + j : NULL, j, cpu_min(KEY_TILE, keys - j), queries, dim, scale);
    softmax_finish(&t->soft, lse, keys, queries, dim);
    tile_transpose(out, size.stride, t->soft.out, QUERY_TILE, dim, queries, 1.0f, false);
}

static Status attention_kernel(const Device *dev, Tensor out, Tensor lse, Tensor q, Tensor k,
                               Tensor v, const AttentionOptions *options, Arena *scratch)
{
    const AttentionSize size = attention_size(q, k);
    const int64_t tiles = cpu_blocks(size.q_tokens, QUERY_TILE), heads = size.batch * size.heads;
    const int64_t parts = cpu_min(tiles, cpu_blocks(2 * dev->threads, heads));
    const int64_t each = forward_floats(size.k_tokens, size.head_dim);
    const float *bias = options->rel_bias.data;
    const size_t mark = arena_mark(scratch);
    Tensor threads;
    TRY(tensor_alloc(scratch, F32, SHAPE(dev->threads, each), "attention panels", &threads));

#pragma omp parallel for schedule(dynamic) num_threads(dev->threads)
    for (int64_t task = 0; task < heads * parts; task++) {
        const int64_t part = task % parts, head = task / parts % size.heads;
        const AttentionPlace at = attention_place(options, size, task / parts / size.heads, head);
        const Tile t = tile_at(tensor_f32(threads) + omp_get_thread_num() * each, size.k_tokens,
                               size.head_dim);
        bf16_begin();
        pack_head(&t, tensor_f32(k) + at.k, tensor_f32(v) + at.k, at.keys, size);
        for (int64_t i = part; i < tiles; i += parts) {
            const int64_t first = i * QUERY_TILE, at_q = at.q + first * size.stride;
            attend(&t, tensor_f32(out) + at_q, tensor_f32(lse) + at.lse + first,
                   tensor_f32(q) + at_q, bias ? bias + at.bias - first : NULL, at.keys,
                   cpu_min(QUERY_TILE, size.q_tokens - first), size, options->scale);
        }
        bf16_end();
    }
    arena_release(scratch, mark);
    return OK;
}

static size_t attention_scratch(const Device *dev, int64_t q_tokens, int64_t k_tokens,
                                int64_t head_dim)
{
    const int64_t forward = forward_floats(k_tokens, head_dim);
    const int64_t backward = attention_backward_panels(q_tokens, head_dim);
    const int64_t each = forward > backward ? forward : backward;
    return (size_t)(dev->threads * each) * sizeof(float) + ARENA_ALIGN;
}

void BF16_FILL(attention)(OpTable *table)
{
    table->attention = attention_kernel;
    table->attention_scratch = attention_scratch;
}
