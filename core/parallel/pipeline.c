#include "core/parallel/pipeline.h"

#include <assert.h>
#include <stdlib.h>

Status pipeline_buffers_create(Arena *arena, const PipelineLayout *layout, PipelineBuffers *out)
{
    PipelineBuffers b = { .count = layout->slots };
    b.slots = calloc((size_t)layout->slots + 1, sizeof *b.slots);
    CHECK(b.slots, ERR_MEMORY, "no memory for %d pipeline slots", layout->slots);
    const bool first = layout->stage == 0, last = layout->stage == layout->stages - 1;
    Status s = OK;
    for (int i = 0; i < b.count && s == OK; i++) {
        PipelineSlot *slot = &b.slots[i];
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
        for (size_t k = 0; k < sizeof buffers / sizeof buffers[0] && s == OK; k++) {
            *buffers[k].tensor = tensor_none();
            if (buffers[k].used)
                s = tensor_alloc(arena, F32, SHAPE(layout->longest), buffers[k].name,
                                 buffers[k].tensor);
        }
    }
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

typedef struct Runner {
    Group *group;
    const PipelineStage *stage;
    PipelineBuffers *buffers;
    int in_flight;
    bool alone; /* one stage: no messages, perhaps no buffers */
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
    const int place = slot.micro % r->in_flight;
    const int next = r->group->rank + 1, previous = r->group->rank - 1;
    PipelineSlot *b = r->alone ? NULL : &r->buffers->slots[place];
    switch (slot.kind) {
    case SLOT_FORWARD:
        /* the last message that left from `out` must be over before it is written again */
        if (b) TRY(group_wait(r->group, &b->out_sent));
        return stage->forward(stage->context, slot.micro, place);
    case SLOT_BACKWARD:
        if (b) TRY(group_wait(r->group, &b->din_sent));
        return stage->backward(stage->context, slot.micro, place);
    case SLOT_SEND_FORWARD:
        return group_send(r->group, message(r, b->out, slot.micro), next, &b->out_sent);
    case SLOT_RECEIVE_FORWARD:
        return group_receive(r->group, message(r, b->in, slot.micro), previous);
    case SLOT_SEND_BACKWARD:
        return group_send(r->group, message(r, b->din, slot.micro), previous, &b->din_sent);
    case SLOT_RECEIVE_BACKWARD:
        return group_receive(r->group, message(r, b->dout, slot.micro), next);
    }
    return OK;
}

Status pipeline_run(const Schedule *schedule, Group *group, const PipelineStage *stage,
                    PipelineBuffers *buffers)
{
    const Runner r = { .group = group,
                       .stage = stage,
                       .buffers = buffers,
                       .in_flight = schedule->in_flight,
                       .alone = schedule->stages == 1 };
    assert(schedule->stages == group->size);
    assert(r.alone || schedule->in_flight <= buffers->count);
    for (int i = 0; i < schedule->counts[group->rank]; i++)
        TRY(run_slot(&r, schedule->slots[group->rank][i]));
    for (int i = 0; !r.alone && i < schedule->in_flight; i++) {
        TRY(group_wait(group, &buffers->slots[i].out_sent));
        TRY(group_wait(group, &buffers->slots[i].din_sent));
    }
    return OK;
}
