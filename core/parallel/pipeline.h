/*
 * pipeline: runs one stage's row of a schedule table over a pipeline group.
 *
 * The group's ranks are the stages, in order. A micro-batch lives in activation slot
 * micro % schedule.in_flight from its first slot of the table to its last. Messages are flat F32;
 * a stage's gradient message has the length of the activation message that it answers. Sends
 * return at once; a buffer is written again only after its send is over. A pipeline of one stage
 * sends nothing and needs no buffers.
 */
#ifndef ZT_CORE_PARALLEL_PIPELINE_H
#define ZT_CORE_PARALLEL_PIPELINE_H

#include "core/base/arena.h"
#include "core/group.h"
#include "core/parallel/schedule.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a stage does. forward reads slot `slot`'s `in` and writes its `out`; backward reads `dout`
 * (and `in`, still there) and writes `din`. An error ends pipeline_run at once. */
typedef struct PipelineStage {
    void *context;
    Status (*forward)(void *context, int micro, int slot);
    Status (*backward)(void *context, int micro, int slot); /* NULL: the table has no backwards */
    /* F32 values of this micro-batch's message; the same on every stage. */
    int64_t (*message_count)(const void *context, int micro);
} PipelineStage;

typedef struct PipelineSlot {
    Tensor in;  /* (longest) F32, received; absent on stage 0 */
    Tensor out; /* (longest) F32, to send; absent on the last stage */
    Tensor
        dout;   /* (longest) F32, received gradient of out; absent as out is, or without backward */
    Tensor din; /* (longest) F32, gradient of in to send; absent as in is, or without backward */
    GroupRequest out_sent, din_sent;
} PipelineSlot;

typedef struct PipelineBuffers {
    PipelineSlot *slots; /* owned; its tensors are views into the arena */
    int count;
} PipelineBuffers;

typedef struct PipelineLayout {
    int stage, stages;
    int slots;       /* Schedule.in_flight, or the largest of those that will be run */
    int64_t longest; /* F32 values of the longest message */
    bool backward;
} PipelineLayout;

/* Cuts the buffers from the arena (a counting one too). ERR_MEMORY. */
Status pipeline_buffers_create(Arena *arena, const PipelineLayout *layout, PipelineBuffers *out);
void pipeline_buffers_destroy(PipelineBuffers *buffers);

/* Collective over the group: every rank runs its row of the same table, which schedule_check has
 * accepted. Returns when this stage's row is done and all of its sends are over. After an error
 * sends may still be under way: the job cannot go on. */
Status pipeline_run(const Schedule *schedule, Group *group, const PipelineStage *stage,
                    PipelineBuffers *buffers);

#ifdef __cplusplus
}
#endif
#endif
