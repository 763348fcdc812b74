#include "core/parallel/pipeline.h"

#include "core/profile.h"

#include "core/base/clock.h"

#include <assert.h>
#include <stdlib.h>

static Status create_slot(Arena *arena, const PipelineLayout *layout, int chunk, PipelineSlot *slot)
{
    const bool first = layout->rank == 0 && chunk == 0;
    const bool last = layout->rank == layout->stages - 1 && chunk == layout->chunks - 1;
    const struct {
        Tensor *tensor;
        bool used;
        const char *name;
    } buffers[] = {
        { &slot->in, !first, "pipeline.in" },
        { &slot->out, !last, "pipeline.out" },
        { &slot->dout, !last && layout->backward, "pipeline.dout" },
        { &slot->din, !first && layout->backward, "pipeline.din" },
    };
    for (size_t k = 0; k < sizeof buffers / sizeof buffers[0]; k++) {
        *buffers[k].tensor = tensor_none();
        if (buffers[k].used)
            TRY(tensor_alloc(arena, F32, SHAPE(layout->longest), buffers[k].name,
                             buffers[k].tensor));
    }
    return OK;
}

Status pipeline_buffers_create(Arena *arena, const PipelineLayout *layout, PipelineBuffers *out)
{
    PipelineBuffers b = { .chunks = layout->chunks, .count = layout->slots };
    const int all = b.chunks * b.count;
    b.slots = calloc((size_t)all + 1, sizeof *b.slots);
    CHECK(b.slots, ERR_MEMORY, "no memory for %d pipeline slots", all);
    Status s = OK;
    for (int i = 0; i < all && s == OK; i++)
        s = create_slot(arena, layout, i / b.count, &b.slots[i]);
    if (s != OK) {
        pipeline_buffers_destroy(&b);
        return s;
    }
    *out = b;
    return OK;
}

void pipeline_buffers_destroy(PipelineBuffers *buffers)
{
    if (!buffers) return;
    free(buffers->slots);
    *buffers = (PipelineBuffers){ 0 };
}

/* What one row's slots share. */
typedef struct Runner {
    const Schedule *schedule;
    Group *group;
    const PipelineStage *stage;
    PipelineBuffers *buffers;
    bool alone; /* one rank: no messages, perhaps no buffers */
} Runner;

static Tensor message(const Runner *r, Tensor buffer, int micro)
{
    const int64_t count = r->stage->message_count(r->stage->context, micro);
    assert(count <= tensor_count(buffer));
    return tensor_slice(buffer, 0, count);
}

static Status run_slot(const Runner *r, Slot slot)
{
    const PipelineStage *stage = r->stage;
    const PipelineTurn turn = { slot.micro, slot.chunk, slot.micro % r->schedule->in_flight };
    const int next = schedule_next_rank(r->schedule, r->group->rank);
    const int previous = schedule_previous_rank(r->schedule, r->group->rank);
    PipelineSlot *b =
        r->alone ? NULL : &r->buffers->slots[turn.chunk * r->buffers->count + turn.slot];
    switch (slot.kind) {
    case SLOT_FORWARD:
        /* the last message that left from `out` must be over before it is written again */
        if (b) TRY(group_wait(r->group, &b->out_sent));
        return stage->forward(stage->context, turn);
    case SLOT_BACKWARD:
        if (b) TRY(group_wait(r->group, &b->din_sent));
        return stage->backward(stage->context, turn);
    case SLOT_WEIGHTS: return stage->weights(stage->context, turn);
    case SLOT_SEND_FORWARD:
        return group_send(r->group, message(r, b->out, slot.micro), next, &b->out_sent);
    case SLOT_RECEIVE_FORWARD:
        return group_receive(r->group, message(r, b->in, slot.micro), previous);
    case SLOT_SEND_BACKWARD:
        return group_send(r->group, message(r, b->din, slot.micro), previous, &b->din_sent);
    case SLOT_RECEIVE_BACKWARD:
        return group_receive(r->group, message(r, b->dout, slot.micro), next);
    default: return OK;
    }
}

static Status run_row(const Runner *r)
{
    const Slot *row = r->schedule->slots[r->group->rank];
    static const char *const slot_names[SLOT_KINDS] = {
        [SLOT_FORWARD] = "forward",
        [SLOT_BACKWARD] = "backward",
        [SLOT_WEIGHTS] = "weights",
        [SLOT_SEND_FORWARD] = "send activations",
        [SLOT_RECEIVE_FORWARD] = "receive activations",
        [SLOT_SEND_BACKWARD] = "send gradients",
        [SLOT_RECEIVE_BACKWARD] = "receive gradients",
    };
    Trace *trace = r->stage->trace;
    Profile *profile = r->stage->profile;
    for (int i = 0; i < r->schedule->counts[r->group->rank]; i++) {
        const double start = trace || profile ? clock_seconds() : 0.0;
        TRY(run_slot(r, row[i]));
        if (profile)
            profile_add(profile, "pipeline", slot_names[row[i].kind], start, clock_seconds());
        if (trace) trace_add(trace, row[i], start, clock_seconds());
    }
    return OK;
}

Status pipeline_run(const Schedule *schedule, Group *group, const PipelineStage *stage,
                    PipelineBuffers *buffers)
{
    const Runner r = { .schedule = schedule,
                       .group = group,
                       .stage = stage,
                       .buffers = buffers,
                       .alone = schedule->stages == 1 };
    assert(schedule->stages == group->size);
    assert(r.alone ||
           (schedule->in_flight <= buffers->count && schedule->chunks == buffers->chunks));
    TRY(run_row(&r));
    for (int i = 0; !r.alone && i < buffers->chunks * buffers->count; i++) {
        TRY(group_wait(group, &buffers->slots[i].out_sent));
        TRY(group_wait(group, &buffers->slots[i].din_sent));
    }
    return OK;
}
