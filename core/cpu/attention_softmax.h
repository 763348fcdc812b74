/*
 * attention_softmax: the softmax of scores that pass by in tiles of keys (Milakov & Gimelshein
 * 2018), with the running maximum and sum of each query; shared by attention's arithmetics.
 */
#ifndef ZT_CORE_CPU_ATTENTION_SOFTMAX_H
#define ZT_CORE_CPU_ATTENTION_SOFTMAX_H

#include <float.h>
#include <math.h>

#include "core/cpu/attention_tile.h"
#include "core/cpu/vector_math.h"

/* A tile of queries; a thread's scratch. */
typedef struct Softmax {
    float *out;     /* (head_dim, QUERY_TILE), not yet divided by sum */
    float *score;   /* (KEY_TILE, QUERY_TILE) */
    float *maximum; /* (QUERY_TILE) */
    float *sum;     /* (QUERY_TILE) */
    float *shrink;  /* (QUERY_TILE) */
} Softmax;

static inline int64_t softmax_floats(int64_t head_dim)
{
    return QUERY_TILE * (head_dim + KEY_TILE + 3);
}

static inline Softmax softmax_at(float *base, int64_t head_dim)
{
    Softmax t = { .out = base };
    t.score = t.out + QUERY_TILE * head_dim;
    t.maximum = t.score + QUERY_TILE * KEY_TILE;
    t.sum = t.maximum + QUERY_TILE;
    t.shrink = t.sum + QUERY_TILE;
    return t;
}

/* score[j][i] += bias[j - i + q_tokens - 1], with `bias` at the tile's (j, i) = (0, 0) */
static inline void softmax_bias(float *restrict score, const float *restrict bias, int64_t keys,
                                int64_t queries)
{
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < queries; i++) score[j * QUERY_TILE + i] += bias[j - i];
}

static inline void softmax_begin(const Softmax *t, int64_t dim, int64_t lanes)
{
    for (int64_t i = 0; i < lanes; i++) {
        t->maximum[i] = -FLT_MAX;
        t->sum[i] = 0;
    }
    for (int64_t d = 0; d < dim; d++)
        for (int64_t i = 0; i < lanes; i++) t->out[d * QUERY_TILE + i] = 0;
}

/* new maximum m' >= m; shrink = exp(m - m'); score = exp(scale score - m'); sum = sum shrink + ...;
 * out shrinks, too. scale is above 0. */
static inline __attribute__((always_inline)) void
softmax_tile(const Softmax *t, int64_t dim, int64_t keys, int64_t lanes, const float scale)
{
    float *restrict score = t->score, *restrict maximum = t->maximum;
    float *restrict sum = t->sum, *restrict shrink = t->shrink, *restrict out = t->out;
    float top[QUERY_TILE];
    for (int64_t i = 0; i < lanes; i++) top[i] = -FLT_MAX;
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i++) {
            const float s = score[j * QUERY_TILE + i];
            top[i] = s > top[i] ? s : top[i];
        }
    for (int64_t i = 0; i < lanes; i++) {
        const float next = scale * top[i] > maximum[i] ? scale * top[i] : maximum[i];
        shrink[i] = cpu_exp_below(maximum[i] - next);
        maximum[i] = next;
        sum[i] *= shrink[i];
    }
    for (int64_t j = 0; j < keys; j++)
        for (int64_t i = 0; i < lanes; i++) {
            const float p = cpu_exp_below(scale * score[j * QUERY_TILE + i] - maximum[i]);
            score[j * QUERY_TILE + i] = p;
            sum[i] += p;
        }
    for (int64_t d = 0; d < dim; d++)
        for (int64_t i = 0; i < lanes; i++) out[d * QUERY_TILE + i] *= shrink[i];
}

/* out /= sum, and the logarithm of the whole sum; without a key there is nothing to attend to */
static inline void softmax_finish(const Softmax *t, float *lse, int64_t keys, int64_t queries,
                                  int64_t dim)
{
    for (int64_t i = 0; i < queries; i++) {
        lse[i] = keys > 0 ? t->maximum[i] + logf(t->sum[i]) : -INFINITY;
        t->shrink[i] = keys > 0 ? 1.0f / t->sum[i] : 0.0f;
    }
    for (int64_t d = 0; d < dim; d++)
        for (int64_t i = 0; i < queries; i++) t->out[d * QUERY_TILE + i] *= t->shrink[i];
}

#endif
