/*
 * What a run reserves on one rank, and how much of it is what. A plan runs the same code on a
 * counting device; nothing in this file may ask whether it does.
 */
#include "train/state.h"

#include <stdlib.h>
#include <string.h>

static Status create_model(TrainState *s)
{
    const TrainConfig *c = &s->config;
    return dit_create(&s->device, &c->model, &s->groups, (Recompute)c->parallel.recompute,
                      train_exact_chunks(c), &s->dit);
}

/* ZeRO-1 over the ranks that hold the same parameters, where there are several. */
static Status cut_into_shards(TrainState *s)
{
    const ParamList *params = &s->dit.params;
    const Group *group = s->groups.gradient;
    /* low-rank changes are small: every rank has all of theirs */
    if (s->config.parallel.zero == 0 || group->size == 1 || s->config.lora.rank > 0) return OK;
    TRY(bucket_shards_create(params->bucket_first, params->buckets, group->rank, group->size,
                             &s->shards));
    s->optimizer.shards = &s->shards;
    return OK;
}

/* What the optimizer works on: the model's own buffers, or those of low-rank changes. */
static Status allocate_trained(TrainState *s)
{
    Optimizer *o = &s->optimizer;
    const LowRankKeys *keys = &s->config.lora;
    o->params = &s->dit.params;
    o->weights = s->weights;
    o->grads = s->grads;
    if (keys->rank == 0) return OK;
    TRY(low_rank_create(&s->dit, keys, &s->low_rank));
    TRY(low_rank_metadata(&s->low_rank, &s->lora_metadata));
    o->params = &s->low_rank.params;
    const Shape flat = SHAPE(o->params->local_elements);
    TRY(device_arena(&s->device, "low-rank changes",
                     2 * ((size_t)flat.dims[0] * sizeof(float) + ARENA_ALIGN), &s->low_rank_arena));
    TRY(tensor_alloc(&s->low_rank_arena, F32, flat, "lora.weights", &o->weights));
    return tensor_alloc(&s->low_rank_arena, F32, flat, "lora.gradients", &o->grads);
}

static Status allocate_moments(TrainState *s)
{
    Optimizer *o = &s->optimizer;
    const bool ema = s->config.train.ema > 0;
    const Shape own = SHAPE(optimizer_elements(o->params, o->shards));
    const size_t own_bytes =
        ((size_t)own.dims[0] * sizeof(float) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    TRY(device_arena(&s->device, "optimizer", (ema ? 3 : 2) * own_bytes, &s->optimizer_arena));
    TRY(tensor_alloc(&s->optimizer_arena, F32, own, "exp_avg", &o->exp_avg));
    TRY(tensor_alloc(&s->optimizer_arena, F32, own, "exp_avg_sq", &o->exp_avg_sq));
    return ema ? tensor_alloc(&s->optimizer_arena, F32, own, "ema", &o->ema) : OK;
}

static Status allocate(TrainState *s)
{
    const Device *dev = &s->device;
    const Shape flat = SHAPE(s->dit.params.local_elements);
    const size_t bytes = (size_t)flat.dims[0] * sizeof(float);
    s->optimizer = (Optimizer){ .dev = dev, .mesh = &s->groups.mesh, .ema = tensor_none() };
    TRY(cut_into_shards(s));
    TRY(device_arena(dev, "weights", bytes, &s->weights_arena));
    TRY(device_arena(dev, "gradients", bytes, &s->grads_arena));
    TRY(tensor_alloc(&s->weights_arena, F32, flat, "weights", &s->weights));
    TRY(tensor_alloc(&s->grads_arena, F32, flat, "gradients", &s->grads));
    TRY(allocate_trained(s));
    TRY(allocate_moments(s));
    if (s->config.numerics == 0) return dit_bind(&s->dit, s->weights, s->grads);
    TRY(exact_grads_create(&s->dit, &s->exact));
    return dit_bind(&s->dit, s->weights, exact_grads_flat(&s->exact));
}

static SamplerOptions sampler_options(const TrainConfig *c)
{
    return (SamplerOptions){ .seed = (uint64_t)c->run.seed,
                             .batch = c->data.batch,
                             .micro_batch = train_clips_of_pass(c),
                             .chunks = train_exact_chunks(c),
                             .caption_drop = (float)c->train.caption_drop };
}

/* Embeddings of captions are stage 0's. */
static bool reads_text(const TrainState *s)
{
    return s->config.text_encoder == TEXT_KEY_UMT5 && s->dit.first;
}

/* The condition is stage 0's, too; what the model reads of it, and no more. */
static ConditionKind read_condition(const TrainState *s)
{
    const DitConfig *dit = &s->config.model.dit;
    return s->dit.first && dit->in_channels > dit->out_channels ? s->condition : CONDITION_NONE;
}

LoaderOptions train_state_loader_options(const TrainState *s, int64_t step)
{
    return (LoaderOptions){ .sampler = sampler_options(&s->config),
                            .rank = s->groups.mesh.dp,
                            .size = s->groups.mesh.shape.data,
                            .first_step = step,
                            .metadata_only = !s->dit.first && !s->dit.last,
                            .text_rows = reads_text(s) ? s->config.model.text.max_length : 0,
                            .text_width = reads_text(s) ? s->config.model.dit.text_dim : 0,
                            .condition = read_condition(s),
                            .image_rows = s->dit.first ? s->config.model.dit.image_rows : 0,
                            .image_width = s->dit.first ? s->config.model.dit.image_dim : 0,
                            .part = s->groups.sequence->rank,
                            .parts = s->groups.sequence->size };
}

static Status count_loader(TrainState *s)
{
    const LoaderOptions options = train_state_loader_options(s, 0);
    return loader_sizes(&options, s->train_sizes, &s->loader_sizes);
}

static FlowOptions flow_options(const TrainConfig *c)
{
    return (FlowOptions){ .seed = (uint64_t)c->run.seed,
                          .logit_normal = c->train.timestep.sampler == TIMESTEP_LOGIT_NORMAL,
                          .mean = c->train.timestep.mean,
                          .std = c->train.timestep.std,
                          .shift = c->train.timestep.shift,
                          .low = c->expert == 1 ? c->base.boundary : 0,
                          .high = c->expert == 2 ? c->base.boundary : 1 };
}

/* The clips' sizes as the largest micro-batches. The caller frees *shapes. */
static Status step_shapes(const TrainState *s, DitShape **shapes, int *count)
{
    TRY(heldout_shapes(s->train_sizes, &s->config.model.dit, shapes, count));
    for (int i = 0; i < *count; i++) (*shapes)[i].batch = train_clips_of_pass(&s->config);
    return OK;
}

/* The step's activations, messages and scratch. The reducer is collective. */
static Status create_step(TrainState *s)
{
    DitShape *shapes = NULL;
    int count = 0;
    TRY(step_shapes(s, &shapes, &count));
    const TrainStepOptions options = { .flow = flow_options(&s->config),
                                       .shapes = shapes,
                                       .shape_count = count,
                                       .micros_max = (int)s->loader_sizes.max_micros,
                                       .shards = s->optimizer.shards,
                                       .exact = s->config.numerics ? &s->exact : NULL,
                                       .condition = s->condition,
                                       .schedule = (ScheduleKind)s->config.parallel.schedule,
                                       .reduce = s->reduce };
    const Status status = train_step_create(&s->dit, &s->groups, s->grads, &options, &s->step);
    free(shapes);
    s->optimizer.reducer = s->step.reducer;
    s->optimizer.bucket_order = s->step.bucket_order;
    return status;
}

static Status create_heldout(TrainState *s)
{
    DitShape *shapes = NULL;
    int count = 0;
    if (s->heldout_sizes.count == 0) return OK;
    TRY(heldout_shapes(s->heldout_sizes, &s->config.model.dit, &shapes, &count));
    const Status status =
        velocity_create(&s->dit, s->groups.pipeline, shapes, count, 1, &s->velocity);
    free(shapes);
    TRY(status);
    return heldout_space_create(&s->dit, s->heldout_sizes, HELDOUT_BINS, &s->heldout_space);
}

static Status create_sampling(TrainState *s)
{
    if (s->config.train.sample_every == 0) return OK;
    return sampling_create(&s->dit, &s->groups, &s->codec, &s->train_sizes.items[0], &s->sampling);
}

/* What checkpoints say: a model of its own, or one made from another, to which it refers. */
static Status describe_model(TrainState *s)
{
    const TrainConfig *c = &s->config;
    s->model = (ModelDir){ .config = c->model, .shift = c->train.timestep.shift };
    if (!c->from[0] || c->base.text == TEXT_BYTES) return OK;
    s->model = c->base;
    s->model.trained = c->expert == 2;
    s->model.low_rank = c->lora.rank > 0;
    /* a run's paths are those of the folder it was started in */
    char *base = realpath(c->from, NULL);
    CHECK(base && strlen(base) < sizeof s->model.base, ERR_IO, "model.from %s: no such path",
          c->from);
    strcpy(s->model.base, base);
    free(base);
    return OK;
}

/* What a rank's files pass through: all of them when training goes on meanwhile, or what there is
 * room for. */
static Status reserve_saving(TrainState *s)
{
    const int64_t most = s->config.checkpoint.async ? s->config.checkpoint.buffer_mib << 20
                                                    : CHECKPOINT_BUFFER_BYTES;
    TRY(describe_model(s));
    const CheckpointState state = train_state_checkpoint(s);
    const CheckpointOptions options = train_state_checkpoint_options(s);
    int64_t bytes;
    TRY(checkpoint_saver_bytes(&state, &options, s->groups.mesh.rank, s->groups.mesh.size, &bytes));
    if (bytes > most) bytes = most;
    if (bytes == 0) bytes = 1; /* a rank without a file */
    return device_arena(&s->device, "saving", (size_t)bytes, &s->saving_arena);
}

Status train_state_reserve(TrainState *s)
{
    TRY(create_model(s));
    TRY(allocate(s));
    TRY(count_loader(s));
    TRY(create_step(s));
    TRY(create_heldout(s));
    TRY(reserve_saving(s));
    return create_sampling(s);
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void add_activation(void *context, const char *name, size_t bytes)
{
    RankMemory *memory = context;
    memory->bytes[memory_row_of(name)] += (int64_t)bytes;
}

/* One slot of each chunk: those of a chunk are cut alike. */
static Status watch_chunks(const TrainState *s, const ArenaWatcher *watcher)
{
    DitShape *shapes = NULL;
    int count = 0;
    Status status = OK;
    TRY(step_shapes(s, &shapes, &count));
    for (int chunk = 0; chunk < mesh_chunks(s->groups.mesh.shape) && status == OK; chunk++) {
        const DitSlotOptions options = {
            .shapes = shapes, .count = count, .chunk = chunk, .train = true
        };
        status = dit_slot_watch(&s->dit, &options, watcher);
    }
    free(shapes);
    return status;
}

static int64_t queue_bytes(const TrainStep *step)
{
    int64_t bytes = 0;
    for (int i = 0; i < step->slot_count * step->schedule.chunks; i++)
        bytes += (int64_t)step->slots[i].model.later.arena.size;
    return bytes;
}

/* What has no row of its own is the ends'. */
static Status count_activations(const TrainState *s, RankMemory *out)
{
    RankMemory slot = { { 0 } };
    const ArenaWatcher watcher = { &slot, add_activation };
    TRY(watch_chunks(s, &watcher));
    out->bytes[MEMORY_QUEUE] = queue_bytes(&s->step);
    out->bytes[MEMORY_ENDS] =
        (int64_t)train_step_activation_bytes(&s->step) - out->bytes[MEMORY_QUEUE];
    static const MemoryRow classes[] = { MEMORY_ATTENTION, MEMORY_FFN, MEMORY_STREAM, MEMORY_TEXT };
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        out->bytes[classes[i]] = s->step.slot_count * slot.bytes[classes[i]];
        out->bytes[MEMORY_ENDS] -= out->bytes[classes[i]];
    }
    return OK;
}

Status train_state_memory(const TrainState *s, RankMemory *out)
{
    const int64_t moments = (int64_t)s->optimizer_arena.size;
    const bool ema = s->config.train.ema > 0;
    RankMemory m = { { 0 } };
    m.bytes[MEMORY_WEIGHTS] = (int64_t)(s->weights_arena.size + s->low_rank.arena.size);
    m.bytes[MEMORY_GRADIENTS] = (int64_t)(s->grads_arena.size + s->low_rank_arena.size);
    m.bytes[MEMORY_EXACT] = (int64_t)s->exact.arena.size;
    m.bytes[MEMORY_EXP_AVG] = moments / (ema ? 3 : 2);
    m.bytes[MEMORY_EMA] = ema ? moments / 3 : 0;
    m.bytes[MEMORY_EXP_AVG_SQ] = moments - m.bytes[MEMORY_EXP_AVG] - m.bytes[MEMORY_EMA];
    TRY(count_activations(s, &m));
    m.bytes[MEMORY_SCRATCH] = (int64_t)s->step.scratch.size;
    m.bytes[MEMORY_MESSAGES] = (int64_t)s->step.messages.size;
    m.bytes[MEMORY_COLLECTIVES] = (int64_t)comm_mesh_bytes(&s->groups);
    m.bytes[MEMORY_LOADER] =
        (int64_t)(s->loader ? loader_buffer_bytes(s->loader) : s->loader_sizes.bytes);
    m.bytes[MEMORY_SAVING] = (int64_t)s->saving_arena.size;
    m.bytes[MEMORY_HELDOUT] = (int64_t)(velocity_bytes(&s->velocity) + s->heldout_space.arena.size);
    m.bytes[MEMORY_SAMPLES] = (int64_t)sampling_bytes(&s->sampling);
    if (s->codec.wan) m.bytes[MEMORY_SAMPLES] += (int64_t)wan_vae_bytes(s->codec.wan);
    *out = m;
    return OK;
}
