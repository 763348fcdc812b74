/*
 * log: what people read on standard error.
 *
 * log_info speaks once for the whole job (rank 0). Lines are lower case, values after their names,
 * units given. Standard output is for programs only.
 * A progress bar is drawn in place when standard error is a terminal; otherwise a line now and
 * then.
 */
#ifndef ZT_CORE_BASE_LOG_H
#define ZT_CORE_BASE_LOG_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Call once at start: this process' rank in the job. Until then rank 0 of 1. */
void log_set_rank(int rank, int size);
/* --quiet: log_info and progress say nothing; errors and warnings still speak. */
void log_set_quiet(bool quiet);

void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));  /* rank 0 only */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2))); /* every rank */
/* The message of a failure, as the one error line of the job: rank 0 speaks, and once however often
 * it is called. Nothing for OK. */
void log_failure(Status status);

typedef struct Progress {
    const char *what; /* "ingest", "train": first word of the line */
    const char *unit; /* "clips", "steps" */
    int64_t total, done;
    double start_s, shown_s;
    bool terminal;
} Progress;

/* Rank 0 draws; other ranks may call too and nothing happens. `note`, if any, ends the line. */
void progress_begin(Progress *progress, const char *what, const char *unit, int64_t total);
void progress_update(Progress *progress, int64_t done, const char *note);
void progress_end(Progress *progress);

#ifdef __cplusplus
}
#endif
#endif
