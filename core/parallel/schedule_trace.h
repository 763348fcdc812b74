/*
 * schedule_trace: when each slot of a table ran, measured or computed, and what was lost to
 * waiting.
 *
 * The interpreter records a row's trace with clock seconds; schedule_simulate computes all rows for
 * given times of work: a slot starts when its rank is free and its message has been sent; messages
 * take no time. Bubble = 1 - work / (ranks x time from the first start to the last end). On p ranks
 * with m micro-batches it is idle / (m (F + B + W) + idle), where F, B and W are the times of the
 * forward, of the input's gradient and of the weights' gradients, W no longer than F or B, and
 *
 *   gpipe, 1f1b    idle = (p - 1) (F + B + W)
 *   interleaved    idle = (p - 1) (F + B + W) / v        v chunks a rank, m a multiple of p
 *   zero_bubble    idle = (p - 1) (F + B) - (min(m, p) - 1) W
 *                       = (p - 1) (F + B - W)            from m = p on; a third when F = B = W
 */
#ifndef ZT_CORE_PARALLEL_SCHEDULE_TRACE_H
#define ZT_CORE_PARALLEL_SCHEDULE_TRACE_H

#include "core/parallel/schedule.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TraceEvent {
    Slot slot;
    double start, end; /* seconds, or what the given times are in; a receive ends when it has its
                          message */
} TraceEvent;

/* Of one rank. */
typedef struct Trace {
    TraceEvent *events; /* owned */
    int count, most;
} Trace;

/* Work on one micro-batch by a whole rank; a chunk takes its share, 1 / chunks. */
typedef struct ScheduleTimes {
    double forward, backward, weights; /* backward without what the weight slots do */
} ScheduleTimes;

/* Room for `most` events. ERR_MEMORY. */
Status trace_create(int most, Trace *out);
void trace_destroy(Trace *trace);
/* Does nothing when the trace is full. */
void trace_add(Trace *trace, Slot slot, double start, double end);

/* traces (stages): owned by the caller, each with one event a slot. A table without weight slots
 * does their work in the backward. The table must have passed schedule_check. ERR_MEMORY. */
Status schedule_simulate(const Schedule *schedule, const ScheduleTimes *times, Trace *traces);
void traces_destroy(Trace *traces, int count);

/* From the first start of work to the last end, over all ranks. */
double trace_span(const Trace *traces, int count);
/* Time spent computing, over all ranks: messages and waiting are none. */
double trace_work(const Trace *traces, int count);
/* 0 when nothing ran. */
double trace_bubble(const Trace *traces, int count);

#ifdef __cplusplus
}
#endif
#endif
