/*
 * state: everything a training run owns on one rank, created and destroyed in one place.
 *
 * Large memory is all reserved here, in arenas, by train/state_memory.c: a step reserves nothing.
 */
#ifndef ZT_TRAIN_STATE_H
#define ZT_TRAIN_STATE_H

#include "comm/comm.h"
#include "core/base/lock.h"
#include "core/codec/codec.h"
#include "core/model/velocity.h"
#include "data/loader.h"
#include "train/checkpoint_saver.h"
#include "train/heldout.h"
#include "train/low_rank.h"
#include "train/memory.h"
#include "train/optimizer.h"
#include "train/samples.h"
#include "train/profiling.h"
#include "train/step.h"
#include "train/train_config.h"
#include "train/trust.h"

typedef struct TrainState {
    Comm *comm;                            /* view */
    TrainConfig config;                    /* model.dit channels are the dataset's */
    FolderLock lock;                       /* owned; of run.dir, rank 0 */
    char *config_text;                     /* owned: the resolved configuration as YAML */
    Trust trust;                           /* owned */
    Dataset *train, *heldout;              /* owned; heldout NULL: none */
    ConditionKind condition;               /* of the clips of both, where the model reads it */
    BucketList train_sizes, heldout_sizes; /* views; of a plan, of no dataset */
    Codec codec;                           /* owned; none where nobody needs it */
    MeshGroups groups;
    Device device;
    Profiling profiling;
    ReducerWay reduce;
    Dit dit;                                           /* owned */
    Arena weights_arena, grads_arena, optimizer_arena; /* owned */
    Tensor weights, grads; /* of the model; views: the optimizer's, but for low-rank changes */
    Arena saving_arena, low_rank_arena; /* owned */
    CheckpointSaver *saver;             /* owned */
    BucketShards shards;                /* owned; zero when parallel.zero is 0 */
    Optimizer optimizer;
    ExactGrads exact;    /* owned; exact numerics */
    LowRank low_rank;    /* owned; lora.rank: what the optimizer works on instead of weights */
    char *lora_metadata; /* owned; of its files */
    char base_digest[DIGEST_HEX]; /* of the model that it changes, once loaded; "": of none */
    TrainStep step;               /* owned */
    Velocity velocity;            /* owned; when held-out loss is asked for */
    HeldoutSpace heldout_space;   /* owned; likewise */
    Sampling sampling;            /* owned; when samples are asked for */
    LoaderSizes loader_sizes;
    Loader *loader;          /* owned; NULL until it is opened */
    ModelDir model;          /* what checkpoints say of the model */
    double gemm_gflops;      /* of all ranks together */
    int64_t resident_before; /* bytes of the libraries and MPI, when the state was made */
} TrainState;

/* Where the time went, when the configuration asks. Collective over the world. */
Status train_state_tell_profile(TrainState *state);

/* Collective over the world. On failure everything is undone. */
Status train_state_create(Comm *comm, const TrainConfig *config, TrainState *state);
/* Collective (the reducer). */
void train_state_destroy(TrainState *state);

/* Saves RUN/checkpoints/step-N. Collective over the world. samples = step * batch. With
 * checkpoint.async and not `last` it goes on beside training. */
Status train_state_save(TrainState *state, int64_t step, bool last);
/* *step: updates done, 0 when the run has no checkpoint: then the weights are initialised. */
Status train_state_load(TrainState *state, int64_t *step);
/* How far a save that goes on is, by what ranks said in the step's control all-reduce: how many are
 * ready. Collective over the world, with the same number on every rank. */
Status train_state_saving(TrainState *state, int64_t ready);
/* Opens the loader at a step. Not collective: agree afterwards. */
Status train_state_open_loader(TrainState *state, int64_t step);

/* The parts of train_state_create that need no rank but this one and no dataset but its sizes: from
 * config, groups, sizes and device on, which are set. Shared with state_plan_rank, whose device is
 * counting. Collective over the gradient group (the reducer), except in a plan. On failure
 * train_state_destroy undoes it. */
Status train_state_reserve(TrainState *state);
/* Tells how much of the rank that has used the most was resident, beside its plan. Collective over
 * the world. */
Status train_state_report_peak(TrainState *state);
/* What a checkpoint of this run is of: views. */
CheckpointState train_state_checkpoint(TrainState *state);
CheckpointOptions train_state_checkpoint_options(const TrainState *state);
/* What has been reserved. */
Status train_state_memory(const TrainState *state, RankMemory *out);
/* What the loader of this rank does, from its first step on. */
LoaderOptions train_state_loader_options(const TrainState *state, int64_t step);

#endif
