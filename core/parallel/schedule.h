/*
 * schedule: the pipeline's schedule as a table, one row of slots a rank.
 *
 * A generator writes it, a checker proves it complete, ordered and free of deadlock, and one
 * interpreter (core/parallel/pipeline.h) runs it. The model is cut into stages * chunks virtual
 * stages; chunk c of rank r is virtual stage c * stages + r, so that the last rank's messages wrap
 * around to the first. On every chunk of every rank backwards run in ascending order of
 * micro-batches, whatever the schedule: gradients are the same sums in the same order. Sends never
 * block; a receive waits for its send.
 */
#ifndef ZT_CORE_PARALLEL_SCHEDULE_H
#define ZT_CORE_PARALLEL_SCHEDULE_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum SlotKind {
    SLOT_FORWARD,
    SLOT_BACKWARD,         /* all of it, or the input's gradient only where weights have a slot */
    SLOT_WEIGHTS,          /* the weights' gradients */
    SLOT_SEND_FORWARD,     /* activations to the next virtual stage */
    SLOT_RECEIVE_FORWARD,  /* activations from the previous virtual stage */
    SLOT_SEND_BACKWARD,    /* gradients to the previous virtual stage */
    SLOT_RECEIVE_BACKWARD, /* gradients from the next virtual stage */
    SLOT_KINDS,
} SlotKind;

typedef struct Slot {
    SlotKind kind;
    int micro; /* micro-batch */
    int chunk; /* of the rank whose row this is */
} Slot;

/* In the order of parallel.schedule's words. */
typedef enum ScheduleKind {
    SCHEDULE_1F1B,
    SCHEDULE_GPIPE,       /* all forwards, then all backwards */
    SCHEDULE_INTERLEAVED, /* 1F1B over several chunks a rank */
    SCHEDULE_ZERO_BUBBLE, /* 1F1B whose weight gradients fill the bubble (ZB-H1) */
    SCHEDULE_FORWARD,     /* sampling: forwards only, over one chunk or several */
} ScheduleKind;

typedef struct ScheduleOptions {
    ScheduleKind kind;
    int stages; /* ranks of the pipeline */
    int chunks; /* virtual stages a rank; 0: 1. More than one: interleaved or forward, on two or
                   more ranks */
    int micros; /* may be 0: an idle replica */
} ScheduleOptions;

typedef struct Schedule {
    int stages, chunks, micros;
    bool backward; /* there are backward slots */
    bool weights;  /* there are weight slots: backwards leave the weights' gradients to them */
    int *counts;   /* owned; slots of each rank */
    Slot **slots;  /* owned; slots[rank][i] */
    int in_flight; /* activation slots that each chunk needs: micro-batch m lives in slot m %
                      in_flight. Grows with micros, as far as it does */
} Schedule;

/* ERR_MEMORY. */
Status schedule_create(const ScheduleOptions *options, Schedule *out);
void schedule_destroy(Schedule *schedule);

/* The activation slots a chunk needs, without keeping the table. ERR_MEMORY. */
Status schedule_in_flight(const ScheduleOptions *options, int *slots);

/* ERR_CONFIG says which rank and slot breaks which rule. */
Status schedule_check(const Schedule *schedule);

static inline int schedule_virtual_stage(const Schedule *s, int rank, int chunk)
{
    return chunk * s->stages + rank;
}

/* The first virtual stage receives no activations, the last sends none. */
static inline bool schedule_is_first(const Schedule *s, int rank, int chunk)
{
    return schedule_virtual_stage(s, rank, chunk) == 0;
}

static inline bool schedule_is_last(const Schedule *s, int rank, int chunk)
{
    return schedule_virtual_stage(s, rank, chunk) == s->stages * s->chunks - 1;
}

/* The ranks that hold the next and the previous virtual stage. */
static inline int schedule_next_rank(const Schedule *s, int rank)
{
    return (rank + 1) % s->stages;
}

static inline int schedule_previous_rank(const Schedule *s, int rank)
{
    return (rank + s->stages - 1) % s->stages;
}

#ifdef __cplusplus
}
#endif
#endif
