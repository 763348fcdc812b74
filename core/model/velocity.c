#include "core/model/velocity.h"

#include "core/text/byte_tokens.h"

#include <stdlib.h>
#include <string.h>

/* Rows of one micro-batch: a pipeline is filled with single rows, one stage takes all at once. */
static int64_t rows_of_micro(const Velocity *velocity)
{
    return velocity->pipeline->size > 1 ? 1 : velocity->rows_max;
}

static Status alloc_text(const Velocity *v, Arena *arena, Condition *condition, TextKeys *keys)
{
    TRY(dit_condition_alloc(v->dit, arena, rows_of_micro(v), condition));
    return dit_keys_alloc(v->dit, arena, v->rows_max, keys);
}

static Status alloc(Velocity *v, const PipelineLayout *layout, Arena *arena)
{
    if (layout->stages > 1) TRY(pipeline_buffers_create(arena, layout, &v->buffers));
    return alloc_text(v, arena, &v->condition, &v->keys);
}

static Status plan(Velocity *v, const DitShape *shapes, int count)
{
    const Dit *dit = v->dit;
    const int64_t batch = rows_of_micro(v);
    const int stages = v->pipeline->size;
    size_t scratch = 0;
    int64_t message = 0;
    DitShape *planned = calloc((size_t)count + 1, sizeof *planned);
    CHECK(planned, ERR_MEMORY, "no memory for %d shapes", count);
    Status s = OK;
    for (int i = 0; i < count && s == OK; i++) {
        size_t bytes = 0;
        planned[i] = shapes[i];
        planned[i].batch = batch;
        s = dit_scratch(dit, planned[i], false, &bytes);
        if (bytes > scratch) scratch = bytes;
        if (dit_stream_count(dit, planned[i]) > message)
            message = dit_stream_count(dit, planned[i]);
    }
    for (int i = 0; i < v->chunks * v->slot_count && s == OK; i++) {
        const DitSlotOptions options = { .shapes = planned,
                                         .count = count,
                                         .chunk = i / v->slot_count };
        s = dit_slot_create(dit, &options, &v->slots[i]);
    }
    free(planned);
    TRY(s);
    TRY(device_arena(dit->dev, "scratch", scratch, &v->scratch));

    const PipelineLayout layout = { .rank = v->pipeline->rank,
                                    .stages = stages,
                                    .chunks = v->chunks,
                                    .slots = v->slot_count,
                                    .longest = message };
    Arena counting = arena_counting("messages");
    TRY(alloc(v, &layout, &counting));
    pipeline_buffers_destroy(&v->buffers);
    TRY(device_arena(dit->dev, "messages", counting.peak, &v->arena));
    return alloc(v, &layout, &v->arena);
}

static Status create_schedule(Velocity *v, int micros)
{
    const ScheduleOptions options = { SCHEDULE_FORWARD, v->pipeline->size, v->chunks, micros };
    schedule_destroy(&v->schedule);
    TRY(schedule_create(&options, &v->schedule));
    return schedule_check(&v->schedule);
}

Status velocity_create(const Dit *dit, Group *pipeline, const DitShape *shapes, int count,
                       int64_t rows, Velocity *out)
{
    Velocity v = { .dit = dit,
                   .pipeline = pipeline,
                   .chunks = mesh_chunks(dit->groups.mesh.shape),
                   .rows_max = rows,
                   .beside = tensor_none() };
    Status s = OK;
    TRY_TO(failed, s, create_schedule(&v, pipeline->size > 1 ? (int)rows : 1));
    /* forwards keep one micro-batch alive a stage; two let a send go on under the next */
    v.slot_count = v.schedule.in_flight;
    v.slots = calloc((size_t)(v.chunks * v.slot_count), sizeof *v.slots);
    v.counts = calloc((size_t)dit->groups.sequence->size, sizeof *v.counts);
    CHECK_TO(failed, s, v.slots && v.counts, ERR_MEMORY, "no memory for %d activation slots",
             v.slot_count);
    TRY_TO(failed, s, plan(&v, shapes, count));
    *out = v;
    return OK;
failed:
    velocity_destroy(&v);
    return s;
}

void velocity_destroy(Velocity *v)
{
    if (!v) return;
    for (int i = 0; v->slots && i < v->chunks * v->slot_count; i++) dit_slot_destroy(&v->slots[i]);
    free(v->slots);
    free(v->counts);
    arena_destroy(&v->scratch);
    arena_destroy(&v->arena);
    pipeline_buffers_destroy(&v->buffers);
    schedule_destroy(&v->schedule);
    *v = (Velocity){ 0 };
}

VelocityBytes velocity_bytes_of(const Velocity *v)
{
    VelocityBytes bytes = { .scratch = v->scratch.size };
    Arena text = arena_counting("text");
    Condition condition;
    TextKeys keys;
    (void)alloc_text(v, &text, &condition, &keys); /* counting cannot run out */
    bytes.text = text.peak;
    bytes.messages = v->arena.size - text.peak;
    for (int i = 0; i < v->chunks * v->slot_count; i++)
        bytes.activations += dit_slot_bytes(&v->slots[i]);
    return bytes;
}

size_t velocity_bytes(const Velocity *v)
{
    size_t bytes = v->scratch.size + v->arena.size;
    for (int i = 0; i < v->chunks * v->slot_count; i++) bytes += dit_slot_bytes(&v->slots[i]);
    return bytes;
}

/* Slot `index`, cut for rows from `row` on. */
static Status slot_for(Velocity *v, int index, DitShape shape, int64_t row, DitSlot **out)
{
    DitSlot *slot = &v->slots[index];
    TRY(dit_slot_shape(v->dit, slot, shape));
    slot->keys = v->keys;
    slot->row = row;
    *out = slot;
    return OK;
}

/* What rows are told: captions that the model encodes, or a condition. */
typedef struct Told {
    const char *const *captions;
    const VelocityCondition *condition;
} Told;

/* Stage 0: into the slot, rows [row, row + its batch). */
static Status tell_slot(const Velocity *v, Told told, int64_t row, DitSlot *slot)
{
    const int64_t batch = slot->shape.batch;
    if (told.captions) {
        byte_tokens_encode(told.captions + row, slot->text.ids, slot->text.lengths);
        return OK;
    }
    TRY(op_convert(v->dit->dev, slot->text.out, tensor_slice(told.condition->text, row, batch)));
    if (!slot->image.data) return OK;
    return op_convert(v->dit->dev, slot->image, tensor_slice(told.condition->image, row, batch));
}

static Status make_keys(Velocity *v, Told told, int64_t rows)
{
    CHECK(rows >= 1 && rows <= v->rows_max, ERR_DEVICE, "velocity: %lld rows, planned for %lld",
          (long long)rows, (long long)v->rows_max);
    /* these tensors do not depend on the grid: any shape will do to cut them */
    const int64_t batch = rows_of_micro(v) < rows ? rows_of_micro(v) : rows;
    const DitShape shape = { .batch = batch, .t = v->dit->groups.sequence->size, .h = 1, .w = 1 };
    Condition c = { tensor_slice(v->condition.text, 0, batch), tensor_none() };
    if (v->condition.image.data) c.image = tensor_slice(v->condition.image, 0, batch);
    for (int64_t row = 0; row < rows; row += batch) {
        DitSlot *slot;
        TRY(slot_for(v, 0, shape, row, &slot));
        if (v->dit->first) TRY(tell_slot(v, told, row, slot));
        TRY(dit_embed_condition(v->dit, slot, c, &v->scratch));
        TRY(group_broadcast(v->pipeline, c.text, 0));
        if (c.image.data) TRY(group_broadcast(v->pipeline, c.image, 0));
        TRY(dit_keys_fill(v->dit, slot, c));
    }
    return OK;
}

Status velocity_captions(Velocity *v, const char *const *captions, int64_t rows)
{
    v->beside = tensor_none();
    return make_keys(v, (Told){ .captions = captions }, rows);
}

Status velocity_condition(Velocity *v, const VelocityCondition *condition, int64_t rows)
{
    v->beside = condition->beside;
    return make_keys(v, (Told){ .condition = condition }, rows);
}

/* Columns [first, ...) of row i of a slot's input = this rank's own tokens of all (tokens, ...). */
static Status place_own(const Velocity *v, DitShape shape, DitSlot *slot, int64_t i, Tensor all,
                        int64_t first)
{
    const TokenRange own = dit_own_tokens(v->dit, shape);
    return op_place_columns(v->dit->dev, tensor_at(slot->x_t, i),
                            tensor_slice(all, own.first, own.count), first);
}

/* Stage 0: what stands beside the noise in a slot's input. */
static Status place_beside(const Velocity *v, DitShape shape, DitSlot *slot)
{
    const int64_t first = dit_patch_out(&v->dit->config.dit);
    for (int64_t i = 0; v->beside.data && i < shape.batch; i++)
        TRY(place_own(v, shape, slot, i, tensor_at(v->beside, slot->row + i), first));
    return OK;
}

Status velocity_take_own(const Velocity *velocity, DitShape shape, Tensor own, Tensor all)
{
    const Dit *dit = velocity->dit;
    const TokenRange range = dit_own_tokens(dit, shape);
    for (int64_t i = 0; i < own.shape[0]; i++)
        TRY(op_convert(dit->dev, tensor_at(own, i),
                       tensor_slice(tensor_at(all, i), range.first, range.count)));
    return OK;
}

Status velocity_gather(const Velocity *velocity, DitShape shape, Tensor all, Tensor own)
{
    Group *sequence = velocity->dit->groups.sequence;
    for (int i = 0; i < sequence->size; i++)
        velocity->counts[i] =
            token_part(dit_tokens(shape), sequence->size, i).count * tensor_width(own);
    for (int64_t i = 0; i < own.shape[0]; i++)
        TRY(group_all_gather_v(sequence, tensor_at(all, i), tensor_at(own, i), velocity->counts));
    return OK;
}

/* What the pipeline's callbacks need of one evaluation. */
typedef struct Evaluation {
    Velocity *velocity;
    DitShape shape; /* of one micro-batch */
    Tensor v, x, t;
} Evaluation;

static int64_t evaluation_message(const void *context, int micro)
{
    const Evaluation *e = context;
    (void)micro;
    return dit_stream_count(e->velocity->dit, e->shape);
}

static Status evaluation_forward(void *context, PipelineTurn turn)
{
    const Evaluation *e = context;
    Velocity *velocity = e->velocity;
    const Dit *dit = velocity->dit;
    const int64_t n = e->shape.batch, first = turn.micro * n;
    const PipelineSlot messages = pipeline_slot(&velocity->buffers, turn);
    DitSlot *slot;
    TRY(slot_for(velocity, turn.chunk * velocity->slot_count + turn.slot, e->shape, first, &slot));
    if (dit_slot_first(dit, slot)) {
        for (int64_t i = 0; i < n; i++)
            TRY(place_own(velocity, e->shape, slot, i, tensor_at(e->x, first + i), 0));
        TRY(place_beside(velocity, e->shape, slot));
        TRY(op_convert(dit->dev, slot->t, tensor_slice(e->t, first, n)));
    }
    TRY(dit_forward(dit, slot, messages.in, messages.out, &velocity->scratch));
    if (!dit_slot_last(dit, slot)) return OK;
    return velocity_gather(velocity, e->shape, tensor_slice(e->v, first, n), slot->v);
}

Status velocity_eval(Velocity *velocity, DitShape shape, Tensor v, Tensor x, Tensor t)
{
    const int64_t rows = x.shape[0];
    const int stages = velocity->pipeline->size;
    const int micros = stages > 1 ? (int)rows : 1;
    shape.batch = rows / micros;
    if (velocity->schedule.micros != micros) TRY(create_schedule(velocity, micros));
    Evaluation e = { velocity, shape, v, x, t };
    const PipelineStage stage = { .context = &e,
                                  .forward = evaluation_forward,
                                  .message_count = evaluation_message };
    TRY(pipeline_run(&velocity->schedule, velocity->pipeline, &stage, &velocity->buffers));
    return group_broadcast(velocity->pipeline, v, stages - 1);
}

Status velocity_pass(Velocity *velocity, DitShape shape, VelocityTurn turn, Tensor v, Tensor x,
                     float t)
{
    const Dit *dit = velocity->dit;
    Group *pipeline = velocity->pipeline;
    const int index = (int)(turn.number % velocity->slot_count);
    PipelineSlot *messages = &velocity->buffers.slots[index];
    const int64_t count = dit_stream_count(dit, shape);
    const Tensor in = dit->first ? tensor_none() : tensor_slice(messages->in, 0, count);
    const Tensor out = dit->last ? tensor_none() : tensor_slice(messages->out, 0, count);
    DitSlot *slot;
    TRY(slot_for(velocity, index, shape, turn.row, &slot));
    if (dit->first) {
        TRY(op_place_columns(dit->dev, tensor_at(slot->x_t, 0), x, 0));
        TRY(place_beside(velocity, shape, slot));
        TRY(op_fill(dit->dev, slot->t, t));
    } else {
        TRY(group_receive(pipeline, in, pipeline->rank - 1));
    }
    /* the last message that left from `out` must be over before it is written again */
    TRY(group_wait(pipeline, &messages->out_sent));
    TRY(dit_forward(dit, slot, in, out, &velocity->scratch));
    if (dit->last) return op_convert(dit->dev, v, tensor_at(slot->v, 0));
    return group_send(pipeline, out, pipeline->rank + 1, &messages->out_sent);
}

Status velocity_pass_end(Velocity *velocity)
{
    for (int i = 0; i < velocity->slot_count; i++)
        TRY(group_wait(velocity->pipeline, &velocity->buffers.slots[i].out_sent));
    return OK;
}
