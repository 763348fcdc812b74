/*
 * time_limit: when a run has to commit its checkpoint and end with code 75, by one rank's clock.
 *
 * run.time_limit is "none", a duration since the start as Slurm writes it ("HH:MM:SS" or
 * "D-HH:MM:SS"), or "auto": the end of the Slurm job that this is (SLURM_JOB_END_TIME), if it is
 * one. Not collective: rank 0 asks, the ranks agree.
 */
#ifndef ZT_TRAIN_TIME_LIMIT_H
#define ZT_TRAIN_TIME_LIMIT_H

#include "train/train_config.h"

typedef struct TimeLimit {
    bool is_set;
    double stop_s; /* by clock_seconds: when the last checkpoint should begin */
} TimeLimit;

/* Begins to count, and says for how long. The margin is run.time_margin_s, but not more than half
 * of the time there is: a short job gets somewhere, too. */
TimeLimit time_limit_start(const RunKeys *run);
/* Whether work of so many seconds would not end in time. */
bool time_limit_reached(const TimeLimit *limit, double work_s);

#endif
