/*
 * profile: where a rank's time goes: sums op by op, and events for a timeline.
 *
 * A device and the groups of a mesh that point to a Profile record into it; NULL costs one test an
 * op. One thread records: the one that made it. Time is that of clock_seconds.
 */
#ifndef ZT_CORE_PROFILE_H
#define ZT_CORE_PROFILE_H

#include "core/base/status.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PROFILE_ROWS = 96 };

typedef struct ProfileRow {
    const char *name; /* static */
    int64_t calls;
    double seconds;
    double flops; /* of matrix products */
    double bytes; /* of other ops: each large tensor read or written, once */
} ProfileRow;

/* One call, or one slot of the pipeline. */
typedef struct ProfileEvent {
    const char *name, *lane; /* static */
    double start, end;
} ProfileEvent;

typedef struct Profile {
    ProfileRow rows[PROFILE_ROWS];
    int count;
    bool paused;
    pthread_t thread;     /* who may record; what others do beside it is not counted */
    double start;         /* of the call that is under way */
    ProfileEvent *events; /* owned; NULL: sums only */
    int64_t event_count, event_most;
    double since; /* when counting began */
} Profile;

/* events: how many of them to keep; 0: none. The rest is only summed up. ERR_MEMORY. */
Status profile_create(int64_t events, Profile *out);
void profile_destroy(Profile *profile);
/* Forgets what was counted: after the first step, which is not like the others. */
void profile_restart(Profile *profile);

/* Around a call. lane: what the timeline shows it beside: "ops", "messages", "pipeline". */
void profile_begin(Profile *profile);
void profile_end(Profile *profile, const char *lane, const char *name, double flops, double bytes);
/* The same when start and end are known; only an event. */
void profile_add(Profile *profile, const char *lane, const char *name, double start, double end);

/* What a machine could do, for shares. */
typedef struct ProfileLimits {
    double gflops, gbytes; /* a second */
} ProfileLimits;

/* A table, the longest first, of `steps` steps that took `seconds` together. */
void profile_print(const Profile *profile, int64_t steps, double seconds, ProfileLimits limits,
                   FILE *stream);
/* The events as members of Chrome's "traceEvents" array, each followed by ",\n"; pid is the rank.
 * *out is owned by the caller. ERR_MEMORY. */
Status profile_events(const Profile *profile, int rank, char **out, size_t *length);

#ifdef __cplusplus
}
#endif
#endif
