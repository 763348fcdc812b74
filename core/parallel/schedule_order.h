/*
 * schedule_order: the order in which a rank computes, without its messages.
 *
 * Each schedule is one rule for this order; schedule.c adds the messages, the same way for all.
 */
#ifndef ZT_CORE_PARALLEL_SCHEDULE_ORDER_H
#define ZT_CORE_PARALLEL_SCHEDULE_ORDER_H

#include "core/parallel/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Most computing slots a micro-batch has on one chunk: forward, backward, weights. */
enum { SCHEDULE_WORK_MAX = 3 };

/* Fills `out` (micros * chunks * SCHEDULE_WORK_MAX at most) with the row of a rank; returns how
 * many. */
int schedule_order(const ScheduleOptions *options, int rank, Slot *out);

#ifdef __cplusplus
}
#endif
#endif
