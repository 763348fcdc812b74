#include "core/model/velocity.h"

#include "core/text/byte_tokens.h"

#include <stdlib.h>
#include <string.h>

/* Rows of one micro-batch: a pipeline is filled with single rows, one stage takes all at once. */
static int64_t rows_of_micro(const Velocity *velocity)
{
    return velocity->pipeline->size > 1 ? 1 : velocity->rows_max;
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
        if (dit_message_count(dit, planned[i]) > message)
            message = dit_message_count(dit, planned[i]);
    }
    for (int i = 0; i < v->slot_count && s == OK; i++)
        s = dit_slot_create(dit, planned, count, false, &v->slots[i]);
    free(planned);
    TRY(s);
    TRY(device_arena(dit->dev, "scratch", scratch, &v->scratch));

    const PipelineLayout layout = { .rank = v->pipeline->rank,
                                    .stages = stages,
                                    .chunks = 1,
                                    .slots = v->slot_count,
                                    .longest = message };
    const TextConfig *text = &dit->config.text;
    const Shape kept = SHAPE(v->rows_max, text->max_length, text->d_model);
    Arena counting = arena_counting("messages");
    PipelineBuffers counted;
    if (stages > 1) {
        TRY(pipeline_buffers_create(&counting, &layout, &counted));
        pipeline_buffers_destroy(&counted);
    }
    if (dit->first) TRY(tensor_alloc(&counting, F32, kept, "text", &v->text));
    TRY(device_arena(dit->dev, "messages", counting.peak, &v->arena));
    if (stages > 1) TRY(pipeline_buffers_create(&v->arena, &layout, &v->buffers));
    return dit->first ? tensor_alloc(&v->arena, F32, kept, "text", &v->text) : OK;
}

Status velocity_create(const Dit *dit, Group *pipeline, const DitShape *shapes, int count,
                       int64_t rows, Velocity *out)
{
    Velocity v = { .dit = dit, .pipeline = pipeline, .rows_max = rows, .text = tensor_none() };
    Status s = OK;
    const ScheduleOptions table = { SCHEDULE_FORWARD, pipeline->size, 1, 1 };
    TRY_TO(failed, s, schedule_create(&table, &v.schedule));
    /* forwards keep one micro-batch alive a stage; two let a send go on under the next */
    v.slot_count = pipeline->size > 1 ? 2 : 1;
    v.slots = calloc((size_t)v.slot_count, sizeof *v.slots);
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
    for (int i = 0; v->slots && i < v->slot_count; i++) dit_slot_destroy(&v->slots[i]);
    free(v->slots);
    free(v->counts);
    arena_destroy(&v->scratch);
    arena_destroy(&v->arena);
    pipeline_buffers_destroy(&v->buffers);
    schedule_destroy(&v->schedule);
    *v = (Velocity){ 0 };
}

size_t velocity_bytes(const Velocity *v)
{
    size_t bytes = v->scratch.size + v->arena.size;
    for (int i = 0; i < v->slot_count; i++) bytes += v->slots[i].arena.size;
    return bytes;
}

Status velocity_captions(Velocity *v, const char *const *captions, int64_t rows)
{
    CHECK(rows >= 1 && rows <= v->rows_max, ERR_DEVICE, "velocity: %lld rows, planned for %lld",
          (long long)rows, (long long)v->rows_max);
    if (!v->dit->first) return OK;
    /* the text's tensors do not depend on the grid: any shape will do to cut them */
    const int64_t batch = rows_of_micro(v);
    DitSlot *slot = &v->slots[0];
    const DitShape shape = { batch, v->dit->groups.sequence->size, 1, 1 };
    TRY(dit_slot_shape(v->dit, slot, shape));
    for (int64_t first = 0; first < rows; first += batch) {
        const int64_t n = rows - first < batch ? rows - first : batch;
        /* rows beyond the last repeat it; nobody reads them */
        const char *padded[64];
        CHECK(batch <= 64, ERR_DEVICE, "velocity: %lld rows at once; at most 64", (long long)batch);
        for (int64_t i = 0; i < batch; i++) padded[i] = captions[first + (i < n ? i : n - 1)];
        byte_tokens_encode(padded, slot->text.ids, slot->text.lengths);
        TRY(dit_encode_text(v->dit, slot, &v->scratch));
        TRY(op_convert(v->dit->dev, tensor_slice(v->text, first, n),
                       tensor_slice(slot->text.out, 0, n)));
    }
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
    return dit_message_count(e->velocity->dit, e->shape);
}

/* This rank's own tokens of the rows from `first` on. */
static Status take_own_tokens(const Evaluation *e, Tensor own, int64_t first)
{
    const Dit *dit = e->velocity->dit;
    const TokenRange range = dit_own_tokens(dit, e->shape);
    for (int64_t i = 0; i < own.shape[0]; i++)
        TRY(op_convert(dit->dev, tensor_at(own, i),
                       tensor_slice(tensor_at(e->x, first + i), range.first, range.count)));
    return OK;
}

/* All tokens of the rows from `first` on. Collective over the sequence group. */
static Status gather_tokens(const Evaluation *e, int64_t first, Tensor own)
{
    const Dit *dit = e->velocity->dit;
    const int parts = dit->groups.sequence->size;
    for (int i = 0; i < parts; i++)
        e->velocity->counts[i] =
            token_part(dit_tokens(e->shape), parts, i).count * tensor_width(own);
    for (int64_t i = 0; i < own.shape[0]; i++)
        TRY(group_all_gather_v(dit->groups.sequence, tensor_at(e->v, first + i), tensor_at(own, i),
                               e->velocity->counts));
    return OK;
}

static Status evaluation_forward(void *context, PipelineTurn turn)
{
    const Evaluation *e = context;
    Velocity *velocity = e->velocity;
    const Dit *dit = velocity->dit;
    const int64_t n = e->shape.batch, first = turn.micro * n;
    DitSlot *slot = &velocity->slots[turn.slot];
    const PipelineSlot messages = pipeline_slot(&velocity->buffers, turn);
    TRY(dit_slot_shape(dit, slot, e->shape));
    if (dit->first) {
        TRY(take_own_tokens(e, slot->x_t, first));
        TRY(op_convert(dit->dev, slot->t, tensor_slice(e->t, first, n)));
        TRY(op_convert(dit->dev, slot->text.out, tensor_slice(velocity->text, first, n)));
    }
    TRY(dit_forward(dit, slot, messages.in, messages.out, &velocity->scratch));
    return dit->last ? gather_tokens(e, first, slot->v) : OK;
}

Status velocity_eval(Velocity *velocity, DitShape shape, Tensor v, Tensor x, Tensor t)
{
    const int64_t rows = x.shape[0];
    const int stages = velocity->pipeline->size;
    const int micros = stages > 1 ? (int)rows : 1;
    shape.batch = rows / micros;
    if (velocity->schedule.micros != micros) {
        schedule_destroy(&velocity->schedule);
        const ScheduleOptions table = { SCHEDULE_FORWARD, stages, 1, micros };
        TRY(schedule_create(&table, &velocity->schedule));
    }
    Evaluation e = { velocity, shape, v, x, t };
    const PipelineStage stage = { .context = &e,
                                  .forward = evaluation_forward,
                                  .message_count = evaluation_message };
    TRY(pipeline_run(&velocity->schedule, velocity->pipeline, &stage, &velocity->buffers));
    return group_broadcast(velocity->pipeline, v, stages - 1);
}
