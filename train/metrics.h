/*
 * metrics: what a step did, as one JSON line in the run's metrics.jsonl and one line for people.
 *
 * Rank 0 writes. A resumed run first drops the lines of steps it is going to do again. A line that
 * the disk has no room for waits and is written with the next one: a checkpoint may be committed
 * meanwhile, and its steps would be missing for ever.
 */
#ifndef ZT_TRAIN_METRICS_H
#define ZT_TRAIN_METRICS_H

#include "core/base/file.h"
#include "core/base/json_writer.h"
#include "core/base/log.h"
#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
    char path[FILE_PATH_BYTES];
    int fd;          /* owned; open when there is a path */
    JsonWriter line; /* owned: its memory serves every step */
    char *waiting;   /* owned; lines, or the rest of one, that the file has not taken yet */
    size_t waiting_bytes, capacity;
    Progress progress;
    int64_t steps; /* of the whole run */
} Metrics;

/* Opens RUN/metrics.jsonl, keeping the lines of steps up to `done`. Not collective: rank 0. */
Status metrics_open(Metrics *metrics, const char *run_dir, int64_t done, int64_t steps);
/* ERR_IO names the file; the line waits. */
Status metrics_write(Metrics *metrics, const StepMetrics *m);
/* What waits, and then all of it is on the disk: before a checkpoint says that its steps are done.
 */
Status metrics_flush(Metrics *metrics);
/* The line on the terminal: a bar there, a line a step elsewhere. */
void metrics_show(Metrics *metrics, const StepMetrics *m);
void metrics_close(Metrics *metrics);

#endif
