#include "train/step.h"

#include "core/codec/condition.h"
#include "core/text/byte_tokens.h"
#include "train/train_config.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Whether the model's input is more than the noise: a mask and a condition stand beside it. */
static bool reads_beside(const Dit *dit)
{
    return dit_patch_in(&dit->config.dit) > dit_patch_out(&dit->config.dit);
}

/* One chunk's activations, and the loss' tensors where its stage draws noise: the first and last.
 */
static Status slot_create(const TrainStep *step, const TrainStepOptions *options, int chunk,
                          StepSlot *slot)
{
    const Dit *dit = step->dit;
    const DitSlotOptions model = { .shapes = options->shapes,
                                   .count = options->shape_count,
                                   .chunk = chunk,
                                   .train = true,
                                   .split = step->schedule.weights };
    TRY(dit_slot_create(dit, &model, &slot->model));
    size_t largest = 0;
    for (int i = 0; i < options->shape_count; i++) {
        const DitShape s = options->shapes[i];
        const int64_t values =
            s.batch * dit_own_tokens(dit, s).count * dit_patch_out(&dit->config.dit);
        /* three tensors, each rounded up to the arena's alignment, and the times */
        const size_t bytes = 3 * ((size_t)values * sizeof(float) + ARENA_ALIGN) +
                             (size_t)s.batch * sizeof(float) + ARENA_ALIGN;
        if (bytes > largest) largest = bytes;
    }
    const bool used = dit_slot_first(dit, &slot->model) || dit_slot_last(dit, &slot->model);
    return device_arena(dit->dev, "flow", used ? largest : 0, &slot->arena);
}

static Status create_messages(TrainStep *step, const TrainStepOptions *options)
{
    const Group *pipeline = step->groups->pipeline;
    if (pipeline->size == 1) return OK;
    PipelineLayout layout = { .rank = pipeline->rank,
                              .stages = pipeline->size,
                              .chunks = step->schedule.chunks,
                              .slots = step->slot_count,
                              .backward = true };
    for (int i = 0; i < options->shape_count; i++) {
        const int64_t n = dit_message_count(step->dit, options->shapes[i]);
        if (n > layout.longest) layout.longest = n;
    }
    Arena counting = arena_counting("messages");
    PipelineBuffers counted;
    TRY(pipeline_buffers_create(&counting, &layout, &counted));
    pipeline_buffers_destroy(&counted);
    TRY(device_arena(step->dit->dev, "messages", counting.peak, &step->messages));
    return pipeline_buffers_create(&step->messages, &layout, &step->buffers);
}

/* The table for as many micro-batches as a step has. */
static Status create_schedule(TrainStep *step, int micros)
{
    const int stages = step->groups->pipeline->size;
    /* one rank has no bubble: what needs the least memory */
    const ScheduleOptions options = { .kind = stages > 1 ? step->schedule_kind : SCHEDULE_1F1B,
                                      .stages = stages,
                                      .chunks = mesh_chunks(step->groups->mesh.shape),
                                      .micros = micros };
    schedule_destroy(&step->schedule);
    TRY(schedule_create(&options, &step->schedule));
    return schedule_check(&step->schedule);
}

static Status create_slots(TrainStep *step, const TrainStepOptions *options)
{
    const int chunks = step->schedule.chunks;
    step->slot_count = step->schedule.in_flight > 1 ? step->schedule.in_flight : 1;
    step->slots = calloc((size_t)(chunks * step->slot_count), sizeof *step->slots);
    CHECK(step->slots, ERR_MEMORY, "no memory for %d activation slots", step->slot_count);
    for (int i = 0; i < chunks * step->slot_count; i++)
        TRY(slot_create(step, options, i / step->slot_count, &step->slots[i]));
    return OK;
}

Status train_step_create(const Dit *dit, const MeshGroups *groups, Tensor grads,
                         const TrainStepOptions *options, TrainStep *out)
{
    TrainStep step = { .dit = dit,
                       .groups = groups,
                       .grads = grads,
                       .flow = options->flow,
                       .shards = options->shards,
                       .exact = options->exact,
                       .condition = options->condition,
                       .schedule_kind = options->schedule };
    size_t scratch = 0;
    Status s = OK;
    step.bucket_order = calloc((size_t)dit->params.buckets + 1, sizeof *step.bucket_order);
    CHECK_TO(failed, s, step.bucket_order, ERR_MEMORY, "no memory for the order of buckets");
    dit_bucket_order(dit, step.bucket_order);
    /* fewer micro-batches need no more slots */
    TRY_TO(failed, s, create_schedule(&step, options->micros_max));
    TRY_TO(failed, s, create_slots(&step, options));
    for (int i = 0; i < options->shape_count; i++) {
        size_t bytes = 0;
        TRY_TO(failed, s, dit_scratch(dit, options->shapes[i], true, &bytes));
        if (bytes > scratch) scratch = bytes;
    }
    TRY_TO(failed, s, device_arena(dit->dev, "scratch", scratch, &step.scratch));
    TRY_TO(failed, s, create_messages(&step, options));
    if (groups->gradient->size > 1 && !dit->dev->counting)
        TRY_TO(failed, s, reducer_create(groups->gradient, options->reduce, &step.reducer));
    *out = step;
    return OK;
failed:
    train_step_destroy(&step);
    return s;
}

/* Over all chunks. */
static int count_slots(const TrainStep *step)
{
    return step->slot_count * mesh_chunks(step->groups->mesh.shape);
}

void train_step_destroy(TrainStep *step)
{
    if (!step) return;
    reducer_destroy(step->reducer);
    for (int i = 0; step->slots && i < count_slots(step); i++) {
        dit_slot_destroy(&step->slots[i].model);
        arena_destroy(&step->slots[i].arena);
    }
    free(step->slots);
    free(step->bucket_order);
    arena_destroy(&step->scratch);
    arena_destroy(&step->messages);
    pipeline_buffers_destroy(&step->buffers);
    schedule_destroy(&step->schedule);
    *step = (TrainStep){ 0 };
}

size_t train_step_activation_bytes(const TrainStep *step)
{
    size_t bytes = 0;
    for (int i = 0; i < count_slots(step); i++)
        bytes += dit_slot_bytes(&step->slots[i].model) + step->slots[i].arena.size;
    return bytes;
}

static DitShape shape_of(const Dit *dit, const MicroBatch *micro)
{
    const int64_t *patch = dit->config.dit.patch_size;
    return dit_shape(micro->clips, micro->t / patch[0], micro->h / patch[1], micro->w / patch[2]);
}

static int64_t step_message_count(const void *context, int micro)
{
    const TrainStep *step = context;
    return dit_message_count(step->dit, shape_of(step->dit, &step->batch->micros[micro]));
}

/* Stage 0: x_t = [ mixture | mask | condition ], of this rank's own tokens. */
static Status place_beside(const TrainStep *step, const MicroBatch *micro, StepSlot *slot)
{
    const Dit *dit = step->dit;
    const DitShape shape = shape_of(dit, micro);
    const ConditionPart part = { .known = condition_known(step->condition),
                                 .t = micro->t,
                                 .frame_tokens = shape.h * shape.w,
                                 .first = dit_own_tokens(dit, shape).first };
    for (int64_t i = 0; i < micro->clips; i++) {
        const Tensor x_t = tensor_at(slot->model.x_t, i);
        TRY(op_place_columns(dit->dev, x_t, tensor_at(slot->x_t, i), 0));
        TRY(condition_place(dit->dev, x_t, micro->patch, tensor_at(micro->condition, i), &part));
    }
    return OK;
}

/* Noise, mixture and target of this rank's own tokens; the caption's bytes or rows, and the image
 * tokens. First and last stage draw alike. */
static Status prepare(TrainStep *step, const MicroBatch *micro, StepSlot *slot)
{
    const Dit *dit = step->dit;
    const Device *dev = dit->dev;
    const bool first = dit_slot_first(dit, &slot->model), beside = reads_beside(dit);
    if (!first && !dit_slot_last(dit, &slot->model)) return OK;
    const TokenRange own = dit_own_tokens(dit, shape_of(dit, micro));
    const Shape shape = SHAPE(micro->clips, own.count, micro->patch);
    Tensor t; /* (clips) in (0, 1) */
    arena_release(&slot->arena, 0);
    TRY(tensor_alloc(&slot->arena, F32, shape, "flow.noise", &slot->noise));
    TRY(tensor_alloc(&slot->arena, F32, shape, "flow.target", &slot->target));
    slot->x_t = slot->model.x_t;
    if (!first || beside) TRY(tensor_alloc(&slot->arena, F32, shape, "flow.x_t", &slot->x_t));
    TRY(tensor_alloc(&slot->arena, F32, SHAPE(micro->clips), "flow.t", &t));
    for (int64_t i = 0; i < micro->clips; i++)
        tensor_f32(t)[i] = (float)flow_timestep(&step->flow, micro->samples[i]);
    TRY(flow_noise(dev, &step->flow, slot->noise, micro->samples, own.first * micro->patch));
    TRY(op_flow_mix(dev, slot->x_t, slot->target, micro->latents, slot->noise, t));
    if (!first) return OK;
    if (beside) TRY(place_beside(step, micro, slot));
    if (slot->model.image.data) TRY(op_convert(dev, slot->model.image, micro->image));
    for (int64_t i = 0; i < micro->clips; i++)
        tensor_f32(slot->model.t)[i] = 1000.0f * tensor_f32(t)[i];
    if (micro->text.data) return op_convert(dev, slot->model.text.out, micro->text);
    byte_tokens_encode(micro->captions, slot->model.text.ids, slot->model.text.lengths);
    return OK;
}

/* A clip that is out of the step has what the model says as its target: no error, no gradient. It
 * is computed all the same, so that the step's schedule and shapes are what was planned. */
static void leave_out_damaged(const MicroBatch *micro, const StepSlot *slot)
{
    for (int64_t i = 0; micro->damaged && i < micro->clips; i++) {
        if (!micro->damaged[i]) continue;
        const Tensor target = tensor_at(slot->target, i);
        memcpy(target.data, tensor_at(slot->model.v, i).data, tensor_bytes(target));
    }
}

/* sums (clips): what a step that looks wrong is asked for. */
static void note_worst(TrainStep *step, const MicroBatch *micro, const double *sums,
                       int64_t elements)
{
    for (int64_t i = 0; elements > 0 && i < micro->clips; i++) {
        const double loss = isfinite(sums[i]) ? sums[i] / (double)elements : INFINITY;
        if (step->worst_sample >= 0 && loss <= step->worst_loss) continue;
        step->worst_sample = micro->samples[i];
        step->worst_loss = loss;
    }
}

/* Loss of this micro-batch, and its gradient with respect to the velocity into slot->noise. */
static Status measure(TrainStep *step, const MicroBatch *micro, StepSlot *slot)
{
    const Device *dev = step->dit->dev;
    double sums[STEP_CLIPS_MAX];
    assert(micro->clips <= STEP_CLIPS_MAX);
    leave_out_damaged(micro, slot);
    TRY(op_squared_error(dev, tensor_of(sums, F64, SHAPE(micro->clips)), slot->model.v,
                         slot->target));
    for (int64_t i = 0; i < micro->clips; i++) step->loss_sum += sums[i];
    note_worst(step, micro, sums, tensor_count(slot->target) / micro->clips);
    if (step->exact)
        exact_sum_add_squared_errors(&step->exact_loss, tensor_f32(slot->model.v),
                                     tensor_f32(slot->target), tensor_count(slot->target),
                                     dev->threads);
    const int64_t elements = step->batch->global_elements; /* 0: every clip is damaged */
    const float scale = elements > 0 ? (float)(1.0 / (double)elements) : 0.0f;
    return op_squared_error_backward(dev, slot->noise, slot->model.v, slot->target, scale);
}

static StepSlot *slot_of(const TrainStep *step, PipelineTurn turn)
{
    return &step->slots[turn.chunk * step->slot_count + turn.slot];
}

static Status step_forward(void *context, PipelineTurn turn)
{
    TrainStep *step = context;
    const MicroBatch *micro = &step->batch->micros[turn.micro];
    StepSlot *slot = slot_of(step, turn);
    const PipelineSlot messages = pipeline_slot(&step->buffers, turn);
    TRY(dit_slot_shape(step->dit, &slot->model, shape_of(step->dit, micro)));
    TRY(prepare(step, micro, slot));
    TRY(dit_encode_text(step->dit, &slot->model, &step->scratch));
    TRY(dit_forward(step->dit, &slot->model, messages.in, messages.out, &step->scratch));
    return dit_slot_last(step->dit, &slot->model) ? measure(step, micro, slot) : OK;
}

/* Exact: clips of a chunk add up in order; then the chunk is counted, and after the last the step.
 */
static Status finish_exact(TrainStep *step, int bucket, ExactPart part)
{
    const MicroBatch *micros = step->batch->micros;
    const bool last = step->micro == step->schedule.micros - 1;
    const int chunk = micros[step->micro].chunk;
    if (last || micros[step->micro + 1].chunk != chunk)
        TRY(exact_grads_chunk_done(step->exact, bucket, part, chunk));
    return last && part != EXACT_EARLY ? exact_grads_finish(step->exact, bucket, step->grads) : OK;
}

/* A bucket is whole on this rank: what tensor ranks share is joined, then its reduction starts. */
static Status finish_fast(TrainStep *step, int bucket)
{
    const int64_t first = step->dit->params.bucket_first[bucket];
    const int64_t end = step->dit->params.bucket_first[bucket + 1];
    const Tensor grads = tensor_slice(step->grads, first, end - first);
    TRY(dit_join(step->dit, step->grads, first, end));
    if (!step->reducer) return OK;
    if (!step->shards) return reducer_submit(step->reducer, grads);
    return reducer_submit_scatter(step->reducer, grads, bucket_shards_counts(step->shards, bucket));
}

static Status leave(TrainStep *step, int bucket, ExactPart part)
{
    if (step->exact) return finish_exact(step, bucket, part);
    const bool whole = part != EXACT_EARLY && step->micro == step->schedule.micros - 1;
    return whole ? finish_fast(step, bucket) : OK;
}

/* The micro-batch at hand has left a bucket; a split backward still owes its products. */
static Status leave_bucket(void *context, int bucket)
{
    TrainStep *step = context;
    return leave(step, bucket, step->schedule.weights ? EXACT_EARLY : EXACT_ALL);
}

static Status step_backward(void *context, PipelineTurn turn)
{
    TrainStep *step = context;
    StepSlot *slot = slot_of(step, turn);
    const PipelineSlot messages = pipeline_slot(&step->buffers, turn);
    const DitWatcher watcher = { step, leave_bucket };
    step->micro = turn.micro;
    return dit_backward(step->dit, &slot->model, messages.in, slot->noise, messages.dout,
                        messages.din, &watcher, &step->scratch);
}

/* What a split backward has left: only now are its buckets whole. */
static Status step_weights(void *context, PipelineTurn turn)
{
    TrainStep *step = context;
    step->micro = turn.micro;
    TRY(dit_weights(step->dit, &slot_of(step, turn)->model));
    for (int i = 0; i < step->dit->params.buckets; i++)
        TRY(leave(step, step->bucket_order[i], EXACT_LATE));
    return OK;
}

Status train_step_run(TrainStep *step, const Batch *batch, double *loss_sum)
{
    const int micros = (int)batch->micro_count;
    step->batch = batch;
    step->loss_sum = step->worst_loss = 0.0;
    step->worst_sample = -1;
    if (step->schedule.micros != micros) TRY(create_schedule(step, micros));
    step->exact_loss = (ExactSum){ 0 };
    TRY(step->exact ? exact_grads_begin(step->exact) : op_fill(step->dit->dev, step->grads, 0.0f));
    const PipelineStage stage = { .context = step,
                                  .forward = step_forward,
                                  .backward = step_backward,
                                  .weights = step_weights,
                                  .message_count = step_message_count,
                                  .profile = step->dit->dev->profile };
    TRY(pipeline_run(&step->schedule, step->groups->pipeline, &stage, &step->buffers));
    /* a replica without work in this step still takes part in every reduction */
    for (int i = 0; micros == 0 && i < step->dit->params.buckets; i++)
        TRY(step->exact ? exact_grads_finish(step->exact, step->bucket_order[i], step->grads)
                        : finish_fast(step, step->bucket_order[i]));
    if (step->reducer) TRY(reducer_wait(step->reducer));
    *loss_sum = step->loss_sum;
    return OK;
}
