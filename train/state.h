/*
 * state: everything a training run owns on one rank, created and destroyed in one place.
 */
#ifndef ZT_TRAIN_STATE_H
#define ZT_TRAIN_STATE_H

#include "comm/comm.h"
#include "core/codec/linear.h"
#include "core/model/velocity.h"
#include "data/loader.h"
#include "train/checkpoint.h"
#include "train/optimizer.h"
#include "train/step.h"
#include "train/train_config.h"

typedef struct TrainState {
    Comm *comm;               /* view */
    TrainConfig config;       /* model.dit channels are the dataset's */
    char *config_text;        /* owned: the resolved configuration as YAML */
    Dataset *train, *heldout; /* owned; heldout NULL: none */
    LinearCodec codec;        /* owned */
    MeshGroups groups;
    Device device;
    Dit dit;                                           /* owned */
    Arena weights_arena, grads_arena, optimizer_arena; /* owned */
    BucketShards shards;                               /* owned; zero when parallel.zero is 0 */
    Optimizer optimizer;
    ExactGrads exact;   /* owned; exact numerics */
    TrainStep step;     /* owned */
    Velocity velocity;  /* owned; when held-out loss or samples are asked for */
    Loader *loader;     /* owned */
    ModelDir model;     /* what checkpoints say of the model */
    double gemm_gflops; /* of all ranks together */
} TrainState;

/* Collective over the world. On failure everything is undone. */
Status train_state_create(Comm *comm, const TrainConfig *config, TrainState *state);
/* Collective (the reducer). */
void train_state_destroy(TrainState *state);

/* Saves or loads RUN/checkpoints. Collective over the world. samples = step * batch. */
Status train_state_save(TrainState *state, int64_t step);
/* *step: updates done, 0 when the run has no checkpoint: then the weights are initialised. */
Status train_state_load(TrainState *state, int64_t *step);
/* Opens the loader at a step. Not collective: agree afterwards. */
Status train_state_open_loader(TrainState *state, int64_t step);

#endif
