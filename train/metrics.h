/*
 * metrics: what a step did, as one JSON line in the run's metrics.jsonl and one line for people.
 *
 * Rank 0 writes. A resumed run first drops the lines of steps it is going to do again.
 */
#ifndef ZT_TRAIN_METRICS_H
#define ZT_TRAIN_METRICS_H

#include "core/base/log.h"
#include "core/base/json_writer.h"
#include "core/base/status.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct StepMetrics {
    int64_t step; /* updates done, this one included: the first line says 1 */
    double loss, grad_norm, lr;
    int64_t clips, tokens; /* of the whole step */
    int64_t bad_clips;     /* damaged ones, not among these */
    double step_s, wait_s; /* wall time; of which waiting for data */
    double save_s;         /* before it, by checkpoints: the time for which training stood still */
    double tokens_per_s, mfu;
    double heldout; /* held-out loss measured after this step; NAN: not measured */
    bool skipped;   /* the gradient was not finite: no update */
    /* the rank that worked longest before the step's control all-reduce, its waiting for other
     * ranks not counted; told when there are several ranks */
    int ranks, slowest_rank;
    double slowest_s;
} StepMetrics;

typedef struct Metrics {
    FILE *file;      /* owned */
    JsonWriter line; /* owned: its memory serves every step */
    Progress progress;
    int64_t steps; /* of the whole run */
} Metrics;

/* Opens RUN/metrics.jsonl, keeping the lines of steps up to `done`. Not collective: rank 0. */
Status metrics_open(Metrics *metrics, const char *run_dir, int64_t done, int64_t steps);
/* ERR_IO names the file. */
Status metrics_write(Metrics *metrics, const StepMetrics *m);
/* The line on the terminal: a bar there, a line a step elsewhere. */
void metrics_show(Metrics *metrics, const StepMetrics *m);
void metrics_close(Metrics *metrics);

#endif
