/*
 * attention_tile: tiles that forward and backward share.
 *
 * Scores live transposed, keys down and queries across: a vector is one key against many queries,
 * so maxima and sums over keys are element by element, and K and V are read as they lie, one number
 * at a time. Only the tile of queries is transposed, once. Each thread has its own scratch.
 */
#ifndef ZT_CORE_CPU_ATTENTION_TILE_H
#define ZT_CORE_CPU_ATTENTION_TILE_H

#include "core/cpu/tile.h"

enum {
    QUERY_TILE = 64, /* a multiple of every vector width */
    KEY_TILE = 256,  /* scores of a tile: 64 KiB, in the second level of cache */
};

/* Sizes of one call; floats between tokens of q, k, v, out. */
typedef struct AttentionSize {
    int64_t batch, heads, q_tokens, k_tokens, head_dim, stride;
} AttentionSize;

static inline AttentionSize attention_size(Tensor q, Tensor k)
{
    return (AttentionSize){ .batch = q.shape[0],
                            .heads = q.shape[2],
                            .q_tokens = q.shape[1],
                            .k_tokens = k.shape[1],
                            .head_dim = q.shape[3],
                            .stride = q.shape[2] * q.shape[3] };
}

/* Keys of a sample that are not masked. */
static inline int64_t attention_keys(const AttentionOptions *options, AttentionSize size,
                                     int64_t sample)
{
    if (!options->key_lengths.data) return size.k_tokens;
    const int64_t length = ((const int32_t *)options->key_lengths.data)[sample];
    return length < 0 ? 0 : cpu_min(length, size.k_tokens);
}

/* Where one head of one sample begins in the tensors of a call. */
typedef struct AttentionPlace {
    int64_t q, k, lse; /* its first query, key and sum: elements from the start */
    int64_t bias;      /* that of key 0 for query 0 */
    int64_t keys;      /* that are not masked */
} AttentionPlace;

static inline AttentionPlace attention_place(const AttentionOptions *options, AttentionSize size,
                                             int64_t sample, int64_t head)
{
    const int64_t diagonals = size.q_tokens + size.k_tokens - 1;
    return (AttentionPlace){ .q = sample * size.q_tokens * size.stride + head * size.head_dim,
                             .k = sample * size.k_tokens * size.stride + head * size.head_dim,
                             .lse = (sample * size.heads + head) * size.q_tokens,
                             .bias = head * diagonals + size.q_tokens - 1,
                             .keys = attention_keys(options, size, sample) };
}

/* Lanes that `queries` take: whole vectors, which the compiler is shown. */
static inline int64_t attention_lanes(int64_t queries)
{
    return cpu_pad(queries) & -(int64_t)CPU_LANES;
}

/* A tile of queries, (queries, head_dim) with rows `stride` apart, to (head_dim, QUERY_TILE); the
 * lanes past the last query are zero, so that what is computed from them stays finite. */
static inline void attention_load_columns(float *to, const float *from, int64_t queries,
                                          AttentionSize size, float scale)
{
    tile_transpose(to, QUERY_TILE, from, size.stride, queries, size.head_dim, scale, false);
    const int64_t lanes = cpu_pad(queries);
    for (int64_t d = 0; d < size.head_dim; d++)
        for (int64_t i = queries; i < lanes; i++) to[d * QUERY_TILE + i] = 0;
}

/* Floats of scratch a thread needs. */
static inline int64_t attention_backward_floats(int64_t head_dim)
{
    return QUERY_TILE * (3 * head_dim + 2 * cpu_pad(head_dim) + 2 * KEY_TILE + 4) +
           2 * KEY_TILE * cpu_pad(head_dim);
}

#endif
