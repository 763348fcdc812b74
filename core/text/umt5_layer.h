/*
 * umt5_layer: one layer of the umT5 encoder (spec 9), forward; shared by the encoder that is
 * trained (core/text/umt5.h) and the public one that is not (core/text/text_encoder.h).
 *
 * Between its two halves stands the attention, which each of them calls in its own way. Rows of
 * everything else know nothing of each other: "(batch, length)" may be any rows. Where tensor ranks
 * share a layer, each has some whole heads and some of d_ff, and `config` says how many; then
 * umt5_layer_finish is collective over their group.
 */
#ifndef ZT_CORE_TEXT_UMT5_LAYER_H
#define ZT_CORE_TEXT_UMT5_LAYER_H

#include "core/group.h"
#include "core/model/model_config.h"
#include "core/ops.h"

typedef struct Umt5LayerActs {
    Tensor ss1, ss2;      /* (batch * length): sums of squares of the two norms */
    Tensor n1, n2;        /* (batch, length, d_model): normed */
    Tensor q, k, v, out;  /* (batch, length, heads, d_kv) */
    Tensor lse;           /* (batch, heads, length) */
    Tensor rel_bias;      /* (heads, 2 length - 1): of the trained encoder */
    Tensor x1, x2;        /* (batch, length, d_model): after attention, after the MLP */
    Tensor wi0, wi1, mlp; /* (batch, length, d_ff) */
} Umt5LayerActs;

Status umt5_layer_alloc(Arena *arena, const TextConfig *config, int64_t batch, int64_t length,
                        Umt5LayerActs *acts);
/* n1, q, k, v from x (batch, length, d_model); w: the rows of TEXT_BLOCK_PARAMS. */
Status umt5_layer_begin(const Device *dev, const TextConfig *config, const Tensor *w,
                        const Umt5LayerActs *acts, Tensor x);
/* x2 from out and x. */
Status umt5_layer_finish(const Device *dev, Group *group, const TextConfig *config, const Tensor *w,
                         const Umt5LayerActs *acts, Tensor x);

/* y = T5's RMSNorm of x; ss (rows) */
Status umt5_norm(const Device *dev, const TextConfig *config, Tensor y, Tensor ss, Tensor x,
                 Tensor w);
/* rel_bias (heads, span) from a layer's table (buckets, heads), buckets (span) I32 */
Status umt5_bias(const Device *dev, Tensor rel_bias, Tensor table, Tensor buckets, Arena *scratch);
/* buckets (2 length - 1) I32: the bucket of each relative position, -(length - 1) first. */
void umt5_fill_buckets(const TextConfig *config, Tensor buckets);
/* Bucket of relative position rel = key - query (bidirectional, spec 9). */
int32_t umt5_bucket(int64_t rel, int64_t buckets, int64_t max_distance);

/* (batch, length, heads, d_kv) as (batch, length, heads * d_kv) */
static inline Tensor umt5_heads_as_rows(Tensor heads)
{
    return tensor_reshape(heads,
                          SHAPE(heads.shape[0], heads.shape[1], heads.shape[2] * heads.shape[3]));
}

#endif
