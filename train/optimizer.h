/*
 * optimizer: AdamW and the moving average over this rank's flat buffers.
 *
 * Every rank of the data group holds the same gradients after their reduction and does the same
 * update. Not collective: the norm's sum over ranks rides on the step's control all-reduce.
 */
#ifndef ZT_TRAIN_OPTIMIZER_H
#define ZT_TRAIN_OPTIMIZER_H

#include "core/model/params.h"
#include "core/ops.h"
#include "train/train_config.h"

typedef struct Optimizer {
    const Device *dev;       /* view */
    const ParamList *params; /* view */
    const Mesh *mesh;        /* view */
    Tensor weights, grads;   /* (params->local_elements) F32; views */
    Tensor exp_avg, exp_avg_sq;
    Tensor ema; /* or absent */
} Optimizer;

/* Sum of squares of the gradient elements this rank answers for: every logical element once over
 * the replica, so a tensor that is whole on each tensor rank counts on the first only. */
Status optimizer_square_norm(const Optimizer *optimizer, double *out);

/* One update. done: updates before this one. grad_scale: clipping. */
Status optimizer_update(const Optimizer *optimizer, const TrainKeys *keys, int64_t done,
                        double grad_scale);

#endif
