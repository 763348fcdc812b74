/*
 * pipeline: runs one rank's row of a schedule table over a pipeline group.
 *
 * The group's ranks are the table's, in order; with several chunks a rank holds several virtual
 * stages and the last rank's messages wrap around to the first. On each chunk a micro-batch lives
 * in activation slot micro % schedule.in_flight from its first slot of the table to its last.
 * Messages are flat F32; a gradient message has the length of the activation message that it
 * answers. Sends return at once; a buffer is written again only after its send is over. A pipeline
 * of one rank sends nothing and needs no buffers.
 */
#ifndef ZT_CORE_PARALLEL_PIPELINE_H
#define ZT_CORE_PARALLEL_PIPELINE_H

#include "core/base/arena.h"
#include "core/group.h"
#include "core/parallel/schedule_trace.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where a piece of work stands. */
typedef struct PipelineTurn {
    int micro;
    int chunk;
    int slot; /* of the chunk: in [0, in_flight) */
} PipelineTurn;

/* What a rank does. forward reads its slot's `in` and writes its `out`; backward reads `dout` (and
 * `in`, still there) and writes `din`; weights finds `in` and the slot's activations as the
 * backward left them. An error ends pipeline_run at once. */
typedef struct PipelineStage {
    void *context;
    Status (*forward)(void *context, PipelineTurn turn);
    Status (*backward)(void *context, PipelineTurn turn); /* NULL: the table has none */
    Status (*weights)(void *context, PipelineTurn turn);  /* NULL: the table has none */
    /* F32 values of this micro-batch's message; the same on every stage. */
    int64_t (*message_count)(const void *context, int micro);
    struct Profile *profile; /* view; gets this rank's slots as events; NULL: none */
    Trace *trace; /* view; filled with this rank's slots, in seconds of the clock; NULL: none */
} PipelineStage;

typedef struct PipelineSlot {
    Tensor in;  /* (longest) F32, received; absent on the first virtual stage */
    Tensor out; /* (longest) F32, to send; absent on the last virtual stage */
    Tensor
        dout;   /* (longest) F32, received gradient of out; absent as out is, or without backward */
    Tensor din; /* (longest) F32, gradient of in to send; absent as in is, or without backward */
    GroupRequest out_sent, din_sent;
} PipelineSlot;

typedef struct PipelineBuffers {
    PipelineSlot *slots; /* owned; (chunks, slots); its tensors are views into the arena */
    int chunks;
    int count; /* slots a chunk */
} PipelineBuffers;

typedef struct PipelineLayout {
    int rank, stages;
    int chunks;      /* virtual stages a rank */
    int slots;       /* a chunk: Schedule.in_flight, or the largest of those that will be run */
    int64_t longest; /* F32 values of the longest message */
    bool backward;
} PipelineLayout;

/* The messages of a turn's slot; all absent when there are no buffers. */
static inline PipelineSlot pipeline_slot(const PipelineBuffers *buffers, PipelineTurn turn)
{
    PipelineSlot none = {
        tensor_none(), tensor_none(), tensor_none(), tensor_none(), { 0 }, { 0 }
    };
    return buffers->slots ? buffers->slots[turn.chunk * buffers->count + turn.slot] : none;
}

/* Cuts the buffers from the arena (a counting one too). ERR_MEMORY. */
Status pipeline_buffers_create(Arena *arena, const PipelineLayout *layout, PipelineBuffers *out);
void pipeline_buffers_destroy(PipelineBuffers *buffers);

/* Collective over the group: every rank runs its row of the same table, which schedule_check has
 * accepted. Returns when this rank's row is done and all of its sends are over. After an error
 * sends may still be under way: the job cannot go on. */
Status pipeline_run(const Schedule *schedule, Group *group, const PipelineStage *stage,
                    PipelineBuffers *buffers);

#ifdef __cplusplus
}
#endif
#endif
