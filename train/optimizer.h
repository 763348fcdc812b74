/*
 * optimizer: AdamW and the moving average over this rank's part of the flat buffers.
 *
 * Without shards every rank of the gradient group holds the same summed gradients and does the same
 * update. With shards (ZeRO-1) each updates its own ranges only, and the weights are gathered
 * bucket by bucket in the order in which the forward needs them, under the update of the buckets
 * after. An element's update knows nothing of its neighbours: both ways give the same bits.
 */
#ifndef ZT_TRAIN_OPTIMIZER_H
#define ZT_TRAIN_OPTIMIZER_H

#include "comm/comm.h"
#include "core/base/exact_sum.h"
#include "core/model/params.h"
#include "core/ops.h"
#include "core/parallel/bucket.h"
#include "train/train_config.h"

typedef struct Optimizer {
    const Device *dev;          /* view */
    const ParamList *params;    /* view */
    const Mesh *mesh;           /* view */
    Tensor weights, grads;      /* (params->local_elements) F32; views */
    Tensor exp_avg, exp_avg_sq; /* (optimizer_elements) F32; views */
    Tensor ema;                 /* same, or absent */
    /* NULL without shards; views */
    const BucketShards *shards; /* over the gradient group */
    Reducer *reducer;           /* gathers the weights */
    const int *bucket_order;    /* (params->buckets): as the backward completes them */
} Optimizer;

/* Elements of a moment's buffer on a rank: its shards, or all (shards NULL). */
int64_t optimizer_elements(const ParamList *params, const BucketShards *shards);

/* ema = weights, where there is one. */
Status optimizer_start_average(const Optimizer *optimizer);

/* Sum of squares of the gradient elements this rank answers for, so that a sum over the world
 * counts every logical element once: a tensor that is whole on each tensor rank counts on the first
 * only, and what all of the gradient group hold on its first only. Not collective: the sum rides on
 * the step's control all-reduce. */
Status optimizer_square_norm(const Optimizer *optimizer, double *out);
/* The same without rounding, for exact numerics. */
Status optimizer_exact_square_norm(const Optimizer *optimizer, ExactSum *out);

/* One update. done: updates before this one. grad_scale: clipping. Collective over the gradient
 * group with shards, otherwise not collective. */
Status optimizer_update(const Optimizer *optimizer, const TrainKeys *keys, int64_t done,
                        double grad_scale);

#endif
