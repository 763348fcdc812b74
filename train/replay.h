/*
 * replay: in exact numerics a step that looks wrong is computed again before its update.
 *
 * Its numbers are a function of weights, clips and seed, so the second time every bit must be the
 * same. If it is, the step is what the data makes of it, and goes on as any other (a loss that is
 * not finite is skipped). If not, a machine has computed wrongly: the ranks whose own sums differ
 * are named, and the run ends before the update.
 *
 * Suspicious is a loss or a gradient norm that is not finite, and a norm of more than REPLAY_SPIKE
 * times the median of the last REPLAY_WINDOW finite ones, once there are REPLAY_LEAST; a resumed
 * run begins without any. Replicas are compared first: wrong weights would give the same bits
 * twice. So does a fault that repeats itself to the bit, which is taken for data.
 *
 * A rank's own sums are its loss and, before the data group's are added, its gradient. What tensor,
 * context and pipeline ranks compute reaches one another, so of these several are named for one.
 */
#ifndef ZT_TRAIN_REPLAY_H
#define ZT_TRAIN_REPLAY_H

#include "train/replicas.h"
#include "train/state.h"

enum { REPLAY_SPIKE = 8, REPLAY_WINDOW = 16, REPLAY_LEAST = 4 };

/* Of the whole step, over all ranks, without rounding on the way: the same bits on every mesh. */
typedef struct ExactTotals {
    double loss_sum;    /* squared errors */
    double square_norm; /* of the gradient */
} ExactTotals;

/* After train_step_run in exact numerics. Collective over the world, the same on every rank. */
Status exact_totals(const TrainState *state, ExactTotals *out);

typedef struct Replay {
    TrainState *state;           /* view */
    const Replicas *replicas;    /* view */
    double norms[REPLAY_WINDOW]; /* the last finite ones, a ring */
    int64_t count;               /* finite ones so far */
    int64_t *answers;            /* owned; a row a rank */
    int *odd;                    /* owned; (ranks) */
} Replay;

/* The views must outlive it. Not collective: agree afterwards. ERR_MEMORY. */
Status replay_create(TrainState *state, const Replicas *replicas, Replay *out);
void replay_destroy(Replay *replay);

/* Between train_step_run of step `step` (the first is 1), whose batch must still be held, and its
 * update. Gradient and loss stay what they are. Collective over the world, the same answer
 * everywhere: ERR_DEVICE when the step cannot be trusted, logged as by replicas_check. */
Status replay_check(Replay *replay, const Batch *batch, int64_t step, const ExactTotals *totals);

#endif
