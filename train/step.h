/*
 * step: the forward and backward of one training step on this rank, gradients summed over data.
 *
 *   per micro-batch:  x_t = (1-t) x + t noise, target = noise - x;  v = model(x_t, 1000 t, caption)
 *                     loss = sum (v - target)^2 / elements of the whole step
 *
 * An image-to-video model reads the clip's mask and condition beside x_t (core/codec/condition.h),
 * without noise, and its image tokens; loss and target are of the clip alone.
 *
 * The pipeline's schedule table says in which order; each gradient bucket starts its reduction when
 * the last micro-batch's backward, or its weights' turn, has left it. Every draw is a function of
 * the sample's number, so the sum does not know the mesh.
 */
#ifndef ZT_TRAIN_STEP_H
#define ZT_TRAIN_STEP_H

#include "comm/comm.h"
#include "core/model/dit.h"
#include "core/base/exact_sum.h"
#include "core/model/flow.h"
#include "core/parallel/bucket.h"
#include "core/parallel/pipeline.h"
#include "data/loader.h"
#include "train/exact_grads.h"

/* One micro-batch in flight on one chunk: the model's activations and the loss' tensors. */
typedef struct StepSlot {
    DitSlot model;
    Arena arena;  /* owned: the three below */
    Tensor noise; /* (clips, tokens, patch): noise, then the gradient of the velocity */
    Tensor target;
    Tensor x_t; /* own buffer where the model's first stage is another, or reads more than it */
} StepSlot;

typedef struct TrainStep {
    const Dit *dit;           /* view */
    const MeshGroups *groups; /* view */
    FlowOptions flow;
    Tensor grads;               /* (local_elements) F32; view */
    const BucketShards *shards; /* view; NULL: each rank gets the whole sum */
    ExactGrads *exact;          /* view; NULL in fast numerics */
    ConditionKind condition;    /* of the batches' clips, where the model reads it */
    ExactSum exact_loss;        /* exact numerics: loss_sum, unrounded */
    int micro;                  /* whose backward runs */
    ScheduleKind schedule_kind;
    StepSlot *slots;         /* owned; (chunks, slot_count) */
    int slot_count;          /* a chunk */
    Arena scratch, messages; /* owned */
    PipelineBuffers buffers; /* owned */
    Schedule schedule;       /* owned; of schedule.micros */
    Reducer *reducer;        /* owned; NULL when data is 1 */
    int *bucket_order;       /* owned: buckets as the backward completes them */
    /* of the step at hand */
    const Batch *batch;
    double loss_sum; /* of this rank's micro-batches; 0 but on the last stage */
    /* of its clips the one with the largest mean squared error, infinity where that is not finite;
     * sample -1: it measured none */
    int64_t worst_sample;
    double worst_loss;
} TrainStep;

typedef struct TrainStepOptions {
    FlowOptions flow;
    const DitShape *shapes; /* every bucket, with the largest micro-batch */
    int shape_count;
    int micros_max;             /* micro-batches a replica may get in a step */
    const BucketShards *shards; /* over the gradient group; NULL: gradients are not sharded */
    ExactGrads *exact;          /* exact numerics; else NULL */
    ConditionKind condition;    /* of the clips, where the model reads it */
    ScheduleKind schedule;      /* several chunks a rank (mesh.chunks): interleaved */
    ReducerWay reduce;
} TrainStepOptions;

/* Not collective: agree afterwards. ERR_MEMORY. */
Status train_step_create(const Dit *dit, const MeshGroups *groups, Tensor grads,
                         const TrainStepOptions *options, TrainStep *out);
void train_step_destroy(TrainStep *step);
/* Bytes of activations. */
size_t train_step_activation_bytes(const TrainStep *step);

/* Leaves the step's gradient in `grads`, summed over the gradient group (of shards: this rank's
 * ranges; the rest means nothing), and *loss_sum: squared errors
 * of this rank's samples (last stage, first tensor rank; 0 elsewhere), so that a sum over the world
 * counts each once. Collective over the world. An error cannot be recovered. */
Status train_step_run(TrainStep *step, const Batch *batch, double *loss_sum);

#endif
