/* trainer_parts: what trainer.c, the run, and trainer_step.c, one step of it, share. */
#ifndef ZT_TRAIN_TRAINER_PARTS_H
#define ZT_TRAIN_TRAINER_PARTS_H

#include "train/damaged_clips.h"
#include "train/metrics.h"
#include "train/replay.h"
#include "train/replicas.h"
#include "train/state.h"
#include "train/time_limit.h"

/* What the ranks tell one another once a step: one small all-reduce. Behind these, one place for
 * each rank's seconds of work: with the others' zeros the sum is a gather. */
enum {
    CONTROL_LOSS,
    CONTROL_NORM,
    CONTROL_SIGNAL,
    CONTROL_TIME, /* rank 0's clock: run.time_limit */
    CONTROL_FAILED,
    CONTROL_DAMAGED,
    CONTROL_SAVED, /* ranks that a save in flight waits for no longer */
    CONTROL_COUNT
};

typedef struct Run {
    TrainState state;
    Metrics metrics; /* rank 0 */
    DamagedClips damaged;
    Replicas replicas;
    Replay replay;
    ExactTotals totals; /* exact numerics: the step's */
    const Batch *batch; /* the next step's; without its damaged clips */
    double *control;    /* owned; (CONTROL_COUNT + ranks) */
    int64_t done;       /* updates */
    int64_t skipped;    /* of them without effect, the last ones in a row */
    double wait_s;
    double save_s;    /* by checkpoints, since the last step began */
    double longest_s; /* step, with the looks and saves after it */
    bool stop;        /* asked for, agreed on */
    KeptStatus ended;
    bool lines_wait; /* of metrics, for room on the disk */
    TimeLimit limit; /* rank 0 */
} Run;

/* The next step: gradients, what the ranks tell one another, the update. m: what it did. Collective
 * over the world, the same status on every rank: ERR_DEVICE before the update, when the step cannot
 * be trusted; others after it, of the batch that comes next. */
Status trainer_step(Run *run, StepMetrics *m);

#endif
