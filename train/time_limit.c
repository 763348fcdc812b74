#include "train/time_limit.h"

#include "core/base/clock.h"
#include "core/base/log.h"

#include <stdlib.h>
#include <time.h>

/* Seconds until the Slurm job ends; negative: not in a job, or Slurm is too old to say. */
static double slurm_left_s(void)
{
    const char *text = getenv("SLURM_JOB_END_TIME");
    char *end = NULL;
    if (!text) return -1.0;
    const long long at = strtoll(text, &end, 10);
    if (end == text || *end != 0 || at <= 0) return -1.0;
    const double left_s = difftime((time_t)at, time(NULL));
    return left_s > 0.0 ? left_s : 0.0;
}

TimeLimit time_limit_start(const RunKeys *run)
{
    TimeLimit limit = { .is_set = false };
    double left_s = -1.0;
    if (train_time_limit_parse(run->time_limit, &left_s) != OK) return limit; /* checked before */
    const bool by_slurm = left_s < 0.0;
    if (by_slurm) left_s = slurm_left_s();
    if (left_s < 0.0 || (!by_slurm && left_s == 0.0)) return limit;
    const double margin_s = run->time_margin_s < left_s / 2.0 ? run->time_margin_s : left_s / 2.0;
    limit = (TimeLimit){ .is_set = true, .stop_s = clock_seconds() + left_s - margin_s };
    log_info("time limit in %.0f s%s: the last checkpoint begins %.0f s before", left_s,
             by_slurm ? ", the Slurm job's" : "", margin_s);
    return limit;
}

bool time_limit_reached(const TimeLimit *limit, double work_s)
{
    return limit->is_set && clock_seconds() + work_s >= limit->stop_s;
}
