/*
 * schedule: the pipeline's schedule as a table, one row of slots a stage.
 *
 * A generator writes it, a checker proves it complete, ordered and free of deadlock, and one
 * interpreter (core/parallel/pipeline.h) runs it. Sends never block; a receive waits for its send.
 */
#ifndef ZT_CORE_PARALLEL_SCHEDULE_H
#define ZT_CORE_PARALLEL_SCHEDULE_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum SlotKind {
    SLOT_FORWARD,
    SLOT_BACKWARD,
    SLOT_SEND_FORWARD,     /* activations to stage + 1 */
    SLOT_RECEIVE_FORWARD,  /* activations from stage - 1 */
    SLOT_SEND_BACKWARD,    /* gradients to stage - 1 */
    SLOT_RECEIVE_BACKWARD, /* gradients from stage + 1 */
} SlotKind;

typedef struct Slot {
    SlotKind kind;
    int micro; /* micro-batch */
} Slot;

typedef enum ScheduleKind {
    SCHEDULE_1F1B,
    SCHEDULE_FORWARD, /* sampling: forwards only */
} ScheduleKind;

typedef struct Schedule {
    int stages, micros;
    int *counts;   /* owned; slots of each stage */
    Slot **slots;  /* owned; slots[stage][i] */
    int in_flight; /* most micro-batches alive on any one stage: activation slots to plan */
} Schedule;

/* micros may be 0: an idle replica. ERR_MEMORY. */
Status schedule_create(ScheduleKind kind, int stages, int micros, Schedule *out);
void schedule_destroy(Schedule *schedule);
/* ERR_CONFIG says which stage and slot breaks which rule. backward: whether backwards must be
 * there. */
Status schedule_check(const Schedule *schedule, int backward);

#ifdef __cplusplus
}
#endif
#endif
