/* plan_case: small runs on any mesh, for the tests of plans and of allocations. */
#ifndef ZT_TESTS_SUPPORT_PLAN_CASE_H
#define ZT_TESTS_SUPPORT_PLAN_CASE_H

#include "comm/comm.h"
#include "data/dataset.h"
#include "train/state_plan.h"

enum { PLAN_CHANNELS = 4, PLAN_PATCH = PLAN_CHANNELS * 4, PLAN_CLIPS = 6 };

/* A mesh and other keys, of so many ranks. */
typedef struct PlanCase {
    int ranks;
    const char *keys; /* of plan_case_config */
} PlanCase;

extern const PlanCase plan_cases[];
extern const int plan_case_count;

/* A folder with a dataset of clips of these sizes in turn; the same name on every rank.
 * Collective. Asserts that all goes well. */
void plan_case_dataset(Comm *comm, const DatasetBucket *sizes, int count, char dir[256]);
/* A model of three small blocks that trains on it. `keys`: more "key=value", parted by spaces;
 * "heldout": the same clips are held out, too. */
void plan_case_config(const char *dataset, const char *run, const char *keys, TrainConfig *out);
/* The plan of such a run on clips of these sizes. */
StatePlan plan_case_plan(const TrainConfig *config, BucketList sizes);
/* Removes the folder. Collective. */
void plan_case_remove(Comm *comm, const char *dir);

/* A latent size of so many frames, rows and columns. */
static inline DatasetBucket plan_case_bucket(int64_t t, int64_t h, int64_t w)
{
    return (DatasetBucket){
        .t = t, .h = h, .w = w, .tokens = t * (h / 2) * (w / 2), .patch = PLAN_PATCH
    };
}

#endif
