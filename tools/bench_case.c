#include "tools/bench_parts.h"

#include <string.h>

static const char *const captions[BENCH_CAPTIONS] = {
    "a white parrot turns its head",
    "a toy machine spins",
    "cars race down a dusty road",
    "a ball is thrown in the air",
    "a city at night",
    "waves on a beach",
    "a person walks by",
    "a dog on the floor",
};

/* The first two are what `zoetrope bench` runs when nobody says which. */
static const BenchCase cases[] = {
    { .name = "tiny", .t = 5, .h = 8, .w = 8, .clips = 8, .works = BENCH_TRAIN | BENCH_DENOISE },
    { .name = "small", .t = 4, .h = 32, .w = 32, .clips = 1, .works = BENCH_TRAIN | BENCH_DENOISE },
    { .name = "block",
      .preset = "wan-1.3b",
      .layers = 1,
      .frozen = true,
      .t = 4,
      .h = 64,
      .w = 64,
      .clips = 1,
      .works = BENCH_GRADIENTS },
    { .name = "wan-1.3b",
      .frozen = true,
      .t = 5,
      .h = 36,
      .w = 60,
      .clips = 1,
      .works = BENCH_DENOISE },
};

const BenchCase *bench_case(int index)
{
    return index < (int)(sizeof cases / sizeof cases[0]) ? &cases[index] : NULL;
}

int64_t bench_tokens(const BenchCase *job)
{
    return job->t * (job->h / 2) * (job->w / 2);
}

static Status configure(const BenchCase *job, ModelConfig *out)
{
    TRY(model_config_preset(job->preset ? job->preset : job->name, out));
    if (job->layers > 0) out->dit.num_layers = job->layers;
    if (job->frozen) out->text.num_layers = 0;
    return OK;
}

Status bench_check_mesh(const BenchCase *job, MeshShape wanted, int ranks)
{
    ModelConfig config;
    MeshShape mesh;
    TRY(configure(job, &config));
    const MeshLimits limits = { .heads = config.dit.num_attention_heads,
                                .ffn_dim = config.dit.ffn_dim,
                                .layers = config.dit.num_layers,
                                .batch = ranks, /* every replica has clips of its own */
                                .tokens = bench_tokens(job) };
    return mesh_resolve(wanted, ranks, &limits, &mesh);
}

static Status choose_model(Bench *b)
{
    TRY(configure(b->job, &b->config));
    return dit_create(&b->device, &b->config, &b->groups, RECOMPUTE_NONE, 0, &b->dit);
}

static DitShape shape_of(const BenchCase *job)
{
    return dit_shape(job->clips, job->t, job->h / 2, job->w / 2);
}

static Status make_inputs(Bench *b)
{
    const BenchCase *job = b->job;
    const Shape clips = SHAPE(job->clips, bench_tokens(job), dit_patch_out(&b->config.dit));
    const Shape text = SHAPE(job->clips, b->config.text.max_length, b->config.dit.text_dim);
    TRY(tensor_alloc(&b->arena, F32, clips, "latents", &b->latents));
    TRY(tensor_alloc(&b->arena, F32, clips, "velocity", &b->v));
    TRY(tensor_alloc(&b->arena, F32, SHAPE(job->clips), "times", &b->times));
    if (job->frozen) TRY(tensor_alloc(&b->arena, F32, text, "text", &b->text));
    if (b->arena.counting) return OK;
    TRY(op_normal(&b->device, b->latents, rng_make(1, RNG_TEST, 0), 0));
    if (job->frozen) TRY(op_normal(&b->device, b->text, rng_make(1, RNG_TEST, 1), 0));
    for (int i = 0; i < BENCH_CAPTIONS; i++) b->samples[i] = i;
    return op_fill(&b->device, b->times, 500.0f);
}

static Status make_arena(Bench *b)
{
    Arena counting = arena_counting("bench");
    b->arena = counting;
    TRY(make_inputs(b));
    return arena_create(&b->arena, "bench", b->arena.peak);
}

/* Weights that are trained, in F32. */
static Status make_trained(Bench *b)
{
    const int64_t n = b->dit.params.local_elements;
    Optimizer *o = &b->optimizer;
    *o = (Optimizer){
        .dev = &b->device, .params = &b->dit.params, .mesh = &b->groups.mesh, .ema = tensor_none()
    };
    Tensor *const flat[] = { &o->weights, &o->grads, &o->exp_avg, &o->exp_avg_sq };
    const int count = (b->job->works & BENCH_TRAIN) ? 4 : 2;
    TRY(arena_create(&b->trained, "trained",
                     (size_t)count * ((size_t)n * sizeof(float) + ARENA_ALIGN)));
    for (int i = 0; i < count; i++) TRY(tensor_alloc(&b->trained, F32, SHAPE(n), "bench", flat[i]));
    TRY(params_init(&b->dit.params, &b->groups.mesh, 1, o->weights));
    TRY(dit_bind(&b->dit, o->weights, o->grads));
    const DitShape shape = shape_of(b->job);
    const TrainStepOptions options = {
        .flow = { .seed = 1, .logit_normal = true, .std = 1, .shift = 1 },
        .shapes = &shape,
        .shape_count = 1,
        .micros_max = b->micros,
        .schedule = b->schedule,
        .reduce = b->reduce
    };
    return train_step_create(&b->dit, &b->groups, o->grads, &options, &b->step);
}

/* Weights as sampling has them: values of no meaning, of the size that weights have. */
static Status make_sampled(Bench *b)
{
    TRY(weight_store_create(&b->device, &b->dit.params, b->device.bf16 ? BF16 : F32, &b->store));
    const Rng rng = rng_make(1, RNG_TEST, 2);
    for (int64_t i = 0; i < b->dit.params.count; i++) {
        const Tensor w = b->store.views[i];
        for (int64_t k = 0; w.data && k < tensor_count(w); k++) {
            const float value = (rng_uniform(rng, (uint64_t)k) - 0.5f) * 0.05f;
            if (w.dtype == F32)
                tensor_f32(w)[k] = value;
            else
                ((uint16_t *)w.data)[k] = bf16_of_float(value);
        }
    }
    return dit_bind_store(&b->dit, &b->store);
}

int64_t bench_clips(const Bench *b)
{
    return b->job->clips * b->micros * b->groups.data->size;
}

/* Called once the model and its inputs are there. */
static void make_batch(Bench *b)
{
    const BenchCase *job = b->job;
    const int64_t tokens = bench_tokens(job), patch = dit_patch_out(&b->config.dit);
    const TokenRange own = token_part(tokens, b->groups.sequence->size, b->groups.sequence->rank);
    const MicroBatch micro = { .clips = job->clips,
                               .t = job->t,
                               .h = job->h,
                               .w = job->w,
                               .tokens = tokens,
                               .patch = patch,
                               .range = own,
                               .latents = tensor_of(b->latents.data, F32,
                                                    SHAPE(job->clips, own.count, patch)),
                               .text = b->text,
                               .samples = b->samples,
                               .clip_ids = b->samples,
                               .captions = captions };
    for (int i = 0; i < b->micros; i++) b->batch[i] = micro;
}

Status bench_create(Bench *b)
{
    const DitShape shape = shape_of(b->job);
    TRY(choose_model(b));
    TRY(make_arena(b));
    TRY(make_inputs(b));
    make_batch(b);
    TRY(b->job->works == BENCH_DENOISE ? make_sampled(b) : make_trained(b));
    if (!(b->job->works & BENCH_DENOISE)) return OK;
    return velocity_create(&b->dit, b->groups.pipeline, &shape, 1, b->job->clips, &b->velocity);
}

void bench_destroy(Bench *b)
{
    velocity_destroy(&b->velocity);
    train_step_destroy(&b->step);
    weight_store_destroy(&b->store);
    arena_destroy(&b->trained);
    arena_destroy(&b->arena);
    dit_destroy(&b->dit);
}

Status bench_gradients_once(Bench *b)
{
    const int64_t clips = bench_clips(b), elements = b->batch[0].tokens * b->batch[0].patch;
    const Batch batch = { .micro_count = b->micros,
                          .micros = b->batch,
                          .global_clips = clips,
                          .global_elements = clips * elements };
    double loss = 0.0;
    return train_step_run(&b->step, &batch, &loss);
}

Status bench_train_once(Bench *b)
{
    static const TrainKeys keys = {
        .steps = 1, .lr = 1e-6, .schedule = LR_CONSTANT, .betas = { 0.9, 0.95 }, .eps = 1e-8
    };
    double norm = 0.0;
    TRY(bench_gradients_once(b));
    TRY(optimizer_square_norm(&b->optimizer, &norm));
    return optimizer_update(&b->optimizer, &keys, 0, 1.0);
}

Status bench_prompt(Bench *b)
{
    const VelocityCondition told = { .text = b->text };
    return b->job->frozen ? velocity_condition(&b->velocity, &told, b->job->clips)
                          : velocity_captions(&b->velocity, captions, b->job->clips);
}

Status bench_denoise_once(Bench *b)
{
    return velocity_eval(&b->velocity, shape_of(b->job), b->v, b->latents, b->times);
}
