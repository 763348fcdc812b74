/*
 * state_plan: the memory of any rank of any mesh, without the ranks, the dataset or the memory.
 *
 * The same code that creates a run's state runs on a counting device, with groups that have ranks
 * and sizes and no way to talk. What depends on the machine that will train must be given: threads
 * and the kernels' instruction set (this machine's) decide on the scratch of attention.
 */
#ifndef ZT_TRAIN_STATE_PLAN_H
#define ZT_TRAIN_STATE_PLAN_H

#include "data/dataset.h"
#include "train/memory.h"
#include "train/traffic.h"
#include "train/train_config.h"

/* What a run's memory follows from. */
typedef struct StatePlan {
    TrainConfig config;       /* model.dit channels are set */
    BucketList train_sizes;   /* views */
    BucketList heldout_sizes; /* count 0: no held-out loss */
    int threads;              /* a rank */
} StatePlan;

/* What a mesh must divide for this run. */
MeshLimits train_mesh_limits(const TrainConfig *config, BucketList train, BucketList heldout);

/* The memory of one rank and what it sends in a step; traffic may be NULL. Not collective.
 * ERR_CONFIG, ERR_MEMORY (of small tables). */
Status state_plan_rank(const StatePlan *plan, const Mesh *mesh, RankMemory *memory,
                       TrainTraffic *traffic);

#endif
