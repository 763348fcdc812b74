/*
 * checkpoint_side: one rank's side of a training run that is saved and loaded: buffers whose every
 * value is known, on any mesh, sharded or not, and what is asserted of them.
 */
#ifndef ZT_TESTS_CHECKPOINT_SIDE_H
#define ZT_TESTS_CHECKPOINT_SIDE_H

#include "comm/comm.h"
#include "core/base/file.h"
#include "train/checkpoint.h"

enum { SIDE_BUFFERS = 4, SIDE_MESHES = 6 };

typedef struct Side {
    MeshGroups groups;
    ModelDir model;
    ParamList params;
    BucketShards shards;
    CheckpointState state;
} Side;

extern Comm *comm;                    /* of a test program, between side_start and side_end */
extern char run_dir[FILE_PATH_BYTES]; /* one folder for all ranks */

/* Start MPI and make run_dir; false: there is no use in going on. A rank that waits for one whose
 * test failed ends the job after so many seconds. */
bool side_start(unsigned seconds);
void side_end(void);

void side_create(MeshShape shape, bool zero, Side *side);
void side_destroy(Side *side);
/* weights, ema, exp_avg, exp_avg_sq */
Tensor *buffer(CheckpointState *state, int i);
/* Progress and all values are those of the step. */
void set_step(Side *side, int64_t step);
Status save(Side *side, int keep, int64_t max_file_bytes);
/* Every element of every local tensor of all four buffers is that of `step`; and so is progress. */
void assert_values(Side *side, int64_t step);
void assert_holds(Side *side, int64_t step);
/* The newest that verifies is that of `step`, all of it. */
void load_sharded(MeshShape shape, bool zero, int64_t step);
void load_into(MeshShape shape, int64_t step);
/* The meshes that this number of ranks can form. */
int meshes(MeshShape out[SIDE_MESHES]);

/* On the folder: rank 0 acts, all wait. */
void remove_run(void);
/* Names in checkpoints/, joined by spaces. */
void assert_steps(const char *expected);
/* A file of that checkpoint; valid until the next call. */
const char *step_file(int64_t step, const char *name);

#endif
