/* plan_parts: what the files of the plan command share. */
#ifndef ZT_TOOLS_PLAN_PARTS_H
#define ZT_TOOLS_PLAN_PARTS_H

#include "core/base/json_writer.h"
#include "core/base/options.h"
#include "core/parallel/schedule.h"
#include "infer/sampling_plan.h"
#include "train/state_plan.h"

typedef struct PlanOptions {
    const char *config; /* or a model's folder: then sampling is planned */
    OptionStrings overrides;
    int64_t ranks, gpus; /* 0: those of the configured mesh */
    double memory_gib;   /* of a rank; 0: no limit */
    OptionSizes sizes;
    OptionInts frames;
    int64_t channels;
    const char *svg;
    bool schedule, json;
    /* of sampling; 0, NULL: not given */
    int64_t tensor, pipeline, context, guidance_ranks, batch, threads;
    const char *dtype;
} PlanOptions;

/* ---- sampling (plan_sampling.c) ---- */

/* The whole command where a model's folder is given. */
Status plan_sampling(const PlanOptions *options);

/* Every rank's memory: ranks (mesh_ranks of the plan's shape). */
Status plan_sampling_ranks(const SamplingPlan *plan, SamplingMemory *ranks);
/* The rank that needs the most; of equals the first. */
int plan_sampling_largest(const SamplingMemory *ranks, int count);
/* Of the legal meshes of 1, 2, 4, ... 64 ranks, as machines come, one of the fewest on which it
 * fits; of those the one that needs the least. *found: there is one; then *shape is it and *bytes
 * what its largest rank needs. */
Status plan_sampling_fit(const SamplingPlan *plan, const ModelDir *model, int64_t limit_bytes,
                         bool *found, MeshShape *shape, int64_t *bytes);

/* ---- the clips (plan_sizes.c) ---- */

/* The sizes of a run's clips: the dataset's, or those that the options assume. */
typedef struct PlanSizes {
    Dataset *train, *heldout;              /* owned; NULL: assumed */
    DatasetBucket *assumed;                /* owned */
    BucketList train_sizes, heldout_sizes; /* views of the above */
    int64_t channels;
} PlanSizes;

/* The dataset's when it is here and neither --size nor --frames is given. ERR_USAGE, ERR_MEMORY and
 * what dataset_open says. */
Status plan_sizes_find(const PlanOptions *options, const TrainConfig *config, PlanSizes *out);
void plan_sizes_destroy(PlanSizes *sizes);

/* ---- meshes (plan_meshes.c) ---- */

/* What one mesh takes. */
typedef struct MeshPlan {
    MeshShape shape;
    RankMemory memory;    /* of the rank that takes the most */
    TrainTraffic traffic; /* of the rank that sends the most */
    double bubble;
    bool fits;
} MeshPlan;

/* Every rank's memory: ranks (mesh_ranks(shape)). *traffic: of the rank that sends the most. */
Status plan_ranks(const StatePlan *plan, MeshShape shape, RankMemory *ranks, TrainTraffic *traffic);
/* Of every rank, or beyond 16 ranks of those of each stage with the most tokens and micro-batches;
 * the others have no more, but for the 64 bytes to which ZeRO's shards are rounded. limit_bytes 0:
 * none. */
Status plan_mesh(const StatePlan *plan, MeshShape shape, int64_t limit_bytes, MeshPlan *out);
/* Every legal mesh of so many ranks, with as many chunks a rank as configured: those that fit
 * first, by traffic, then the rest, by memory. The caller frees *out. */
Status plan_rank_meshes(const StatePlan *plan, int ranks, int64_t limit_bytes, MeshPlan **out,
                        int *count);
void plan_write_mesh(JsonWriter *w, const char *key, MeshShape shape);
/* "2x1x4x2 (ulysses 2)" */
const char *plan_mesh_name(MeshShape shape, char out[64]);

/* ---- the schedule (plan_schedule.c) ---- */

/* Of a replica's micro-batches in a step. The caller destroys *out. */
Status plan_schedule(const StatePlan *plan, MeshShape shape, Schedule *out);
Status plan_bubble(const Schedule *schedule, double *bubble);
/* Writes the drawing; nothing partial stands under the name. */
Status plan_schedule_svg(const Schedule *schedule, const char *path);

/* ---- what to do (plan_advice.c) ---- */

/* Lines that name what would fit, when this mesh does not: recomputation, sharding, smaller
 * micro-batches, another mesh. meshes (count): plan_rank_meshes. */
Status plan_advice(const StatePlan *plan, MeshShape shape, int64_t limit_bytes,
                   const MeshPlan *meshes, int count);

#endif
