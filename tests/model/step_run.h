/*
 * step_run: training steps of train/step over a mesh of threads, and what they must give.
 *
 * Clips are those of a ModelCase whose captions, timesteps and noise are set to what training draws
 * for their sample numbers, so that the case's own loss and gradient are the step's.
 */
#ifndef ZT_TESTS_MODEL_STEP_RUN_H
#define ZT_TESTS_MODEL_STEP_RUN_H

#include "core/parallel/mesh.h"
#include "core/parallel/schedule.h"
#include "tests/model/model_case.h"

enum { STEP_MICROS = 8, STEP_RUNS = 4, STEP_RANKS = 8 };

/* Clips of one bucket. */
typedef struct StepClips {
    ModelCase c;           /* owned; noise, t, ids and lengths are the step's draws */
    const char **captions; /* owned list of views; one a clip */
    int64_t *samples;      /* owned; global sample numbers */
} StepClips;

/* Ends the program when there is no memory. Sample numbers count from first_sample. */
StepClips step_clips_create(const CaseSpec *spec, const char *const *captions,
                            int64_t first_sample);
void step_clips_destroy(StepClips *clips);

/* A step: micro m, clips [first, first + count), belongs to data rank m % data. */
typedef struct StepMicro {
    const StepClips *clips;
    int64_t first, count;
} StepMicro;

typedef struct StepSpec {
    int micro_count;
    StepMicro micros[STEP_MICROS];
    ScheduleKind schedule; /* of a run's first step: that of all */
} StepSpec;

typedef struct StepResult {
    double loss_sum;  /* over all ranks */
    double *gradient; /* owned; layout of the case's `whole` */
} StepResult;

/* One TrainStep on each rank runs the steps in turn; sharded: each rank of the gradient group gets
 * its shards of the sum, which are then put together. ERR_COMM: ranks that hold the same element
 * differ in a bit, a rank reports a loss that is not its to report, or buckets are reduced in
 * another order than dit_bucket_order's. */
Status step_run(const StepSpec *steps, int count, MeshShape mesh, bool sharded,
                StepResult *results);
void step_result_destroy(StepResult *result);

#endif
