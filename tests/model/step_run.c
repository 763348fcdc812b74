#include "tests/model/step_run.h"

#include "tests/model/double_math.h"
#include "tests/support/group_threads.h"
#include "train/step.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const FlowOptions flow = {
    .seed = 77, .logit_normal = true, .mean = 0.3, .std = 0.9, .shift = 3.0
};

/* ---- clips --------------------------------------------------------------------------------- */

/* t of a sample, once more: shifted sigmoid of a normal number */
static float draw_timestep(int64_t sample)
{
    const Rng rng = rng_make(flow.seed, RNG_TIMESTEP, (uint64_t)sample);
    const double odds = exp(flow.mean + flow.std * (double)rng_normal(rng, 0));

    return (float)(flow.shift * odds / (1.0 + flow.shift * odds));
}

static void set_caption(ModelCase *c, int64_t clip, const char *caption)
{
    const int64_t length = c->config.text.max_length;
    int32_t *row = c->ids + clip * length;
    const int64_t n = (int64_t)strlen(caption);

    memset(row, 0, (size_t)length * sizeof *row);
    for (int64_t i = 0; i < n; i++) row[i] = 3 + (unsigned char)caption[i];
    row[n] = 1;
    c->lengths[clip] = (int32_t)n + 1;
}

StepClips step_clips_create(const CaseSpec *spec, const char *const *captions, int64_t first_sample)
{
    StepClips clips = { .c = model_case_create(spec) };
    ModelCase *c = &clips.c;
    const int64_t values = c->tokens * c->patch;

    clips.captions = calloc((size_t)c->batch, sizeof *clips.captions);
    clips.samples = calloc((size_t)c->batch, sizeof *clips.samples);
    if (!clips.captions || !clips.samples) abort();
    for (int64_t i = 0; i < c->batch; i++) {
        /* numbers as a run in its second week has them: beyond 32 bits */
        const int64_t sample = (1LL << 33) + first_sample + 3 * i;
        const Rng noise = rng_make(flow.seed, RNG_NOISE, (uint64_t)sample);
        clips.captions[i] = captions[i];
        clips.samples[i] = sample;
        c->t[i] = draw_timestep(sample);
        for (int64_t e = 0; e < values; e++)
            c->noise[i * values + e] = rng_normal(noise, (uint64_t)e);
        set_caption(c, i, captions[i]);
    }
    return clips;
}

void step_clips_destroy(StepClips *clips)
{
    model_case_destroy(&clips->c);
    free(clips->captions);
    free(clips->samples);
    *clips = (StepClips){ 0 };
}

/* ---- one rank ------------------------------------------------------------------------------ */

enum { BUCKETS_MAX = 64, LATENTS_MAX = 4096 };

/* The data group, writing down what passes through it. */
typedef struct Recorder {
    Group group;        /* what the step sees */
    Group *inner;       /* view */
    const float *grads; /* view */
    bool sharded;       /* nobody asks for whole sums */
    int64_t offsets[BUCKETS_MAX];
    int count;
} Recorder;

static Status record(Recorder *r, Tensor t)
{
    CHECK(r->count < BUCKETS_MAX, ERR_COMM, "more reductions than buckets");
    r->offsets[r->count++] = (const float *)t.data - r->grads;
    return OK;
}

static Status record_all_reduce(Group *group, Tensor t)
{
    Recorder *r = group->impl;

    CHECK(!r->sharded, ERR_COMM, "a bucket is summed on every rank instead of on its owners");
    TRY(record(r, t));
    return group_all_reduce(r->inner, t);
}

static Status record_reduce_scatter_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    Recorder *r = group->impl;

    TRY(record(r, in));
    return group_reduce_scatter_v(r->inner, out, in, counts);
}

static const GroupOps recording = { .all_reduce = record_all_reduce,
                                    .reduce_scatter_v = record_reduce_scatter_v };

typedef struct Shared {
    const StepSpec *steps;
    int count;
    bool sharded;
    StepResult *results;
    double *gradients[STEP_RUNS][STEP_RANKS]; /* owned; layout of `whole`, NAN: not this rank's */
    double losses[STEP_RUNS][STEP_RANKS];
} Shared;

typedef struct Rank {
    const Shared *shared;
    const ModelCase *c; /* configuration and weights */
    MeshGroups groups;
    Recorder recorder;
    Device dev;
    Dit dit;
    BucketShards shards;
    Arena arena;
    Tensor weights, grads;      /* (params.local_elements) */
    float latents[LATENTS_MAX]; /* of this rank's micro-batches */
    int64_t latents_used;
    TrainStep step;
} Rank;

static DitShape shape_of(const StepMicro *m)
{
    const int64_t *grid = m->clips->c.grid;

    return dit_shape(m->count, grid[0], grid[1], grid[2]);
}

static Status rank_create(Rank *r)
{
    const Shared *shared = r->shared;
    TrainStepOptions options = { .flow = flow, .schedule = shared->steps[0].schedule };
    DitShape shapes[STEP_RUNS * STEP_MICROS];
    const int data = r->groups.mesh.shape.data;

    for (int s = 0; s < shared->count; s++) {
        const StepSpec *spec = &shared->steps[s];
        const int most = (spec->micro_count + data - 1) / data;
        if (most > options.micros_max) options.micros_max = most;
        for (int m = 0; m < spec->micro_count; m++)
            shapes[options.shape_count++] = shape_of(&spec->micros[m]);
    }
    options.shapes = shapes;

    TRY(device_open(&r->dev, "cpu", NULL, 1, false));
    TRY(dit_create(&r->dev, &r->c->config, &r->groups, RECOMPUTE_NONE, 0, &r->dit));
    const Shape flat = SHAPE(r->dit.params.local_elements);
    const size_t bytes = (size_t)r->dit.params.local_elements * sizeof(float) + ARENA_ALIGN;
    TRY(arena_create(&r->arena, "test", 2 * bytes));
    TRY(tensor_alloc(&r->arena, F32, flat, "weights", &r->weights));
    TRY(tensor_alloc(&r->arena, F32, flat, "grads", &r->grads));
    model_case_cut(r->c, &r->dit.params, &r->groups.mesh, tensor_f32(r->weights));
    TRY(dit_bind(&r->dit, r->weights, r->grads));

    r->recorder.grads = tensor_f32(r->grads);
    const Group *gradient = r->groups.gradient;
    if (shared->sharded) {
        TRY(bucket_shards_create(r->dit.params.bucket_first, r->dit.params.buckets, gradient->rank,
                                 gradient->size, &r->shards));
        options.shards = &r->shards;
    }
    return train_step_create(&r->dit, &r->groups, r->grads, &options, &r->step);
}

static void rank_destroy(Rank *r)
{
    train_step_destroy(&r->step);
    arena_destroy(&r->arena);
    bucket_shards_destroy(&r->shards);
    dit_destroy(&r->dit);
}

/* The rank's own tokens of the clips, in a buffer of its own for each micro-batch. */
static Tensor cut_latents(Rank *r, const StepMicro *from)
{
    const ModelCase *c = &from->clips->c;
    const TokenRange own = dit_own_tokens(&r->dit, shape_of(from));
    const int64_t values = own.count * c->patch;
    float *cut = r->latents + r->latents_used;

    r->latents_used += from->count * values;
    for (int64_t i = 0; i < from->count; i++)
        memcpy(cut + i * values, c->clean + ((from->first + i) * c->tokens + own.first) * c->patch,
               (size_t)values * sizeof *cut);
    return tensor_of(cut, F32, SHAPE(from->count, own.count, c->patch));
}

/* What the loader would hand to this rank. A stage in the middle gets no latents. */
static Batch make_batch(Rank *r, const StepSpec *spec, MicroBatch *micros)
{
    Batch batch = { .micros = micros, .global_micros = spec->micro_count };

    r->latents_used = 0;
    for (int m = 0; m < spec->micro_count; m++) {
        const StepMicro *from = &spec->micros[m];
        const ModelCase *c = &from->clips->c;
        const int64_t values = c->tokens * c->patch;
        batch.global_clips += from->count;
        batch.global_tokens += from->count * c->tokens;
        batch.global_elements += from->count * values;
        if (m % r->groups.mesh.shape.data != r->groups.mesh.dp) continue;
        MicroBatch *micro = &micros[batch.micro_count++];
        *micro = (MicroBatch){ .clips = from->count,
                               .t = c->grid[0],
                               .h = 2 * c->grid[1],
                               .w = 2 * c->grid[2],
                               .tokens = c->tokens,
                               .patch = c->patch,
                               .samples = from->clips->samples + from->first,
                               .captions = from->clips->captions + from->first };
        if (r->dit.first || r->dit.last) micro->latents = cut_latents(r, from);
    }
    return batch;
}

static Status check_order(const Rank *r)
{
    const Recorder *seen = &r->recorder;
    const ParamList *params = &r->dit.params;
    int order[BUCKETS_MAX];

    if (r->groups.gradient->size == 1) return OK;
    CHECK(seen->count == params->buckets && params->buckets <= BUCKETS_MAX, ERR_COMM,
          "%d reductions of %d buckets", seen->count, params->buckets);
    dit_bucket_order(&r->dit, order);
    for (int i = 0; i < seen->count; i++)
        CHECK(seen->offsets[i] == params->bucket_first[order[i]], ERR_COMM,
              "reduction %d is of element %lld, bucket %d starts at %lld", i,
              (long long)seen->offsets[i], order[i], (long long)params->bucket_first[order[i]]);
    return OK;
}

/* What is another rank's to say is NAN from here on. */
static void forget_others_shards(Rank *r)
{
    float *grads = tensor_f32(r->grads);

    for (int b = 0; b < r->shards.buckets; b++) {
        const Range own = bucket_shards_range(&r->shards, b);
        for (int64_t e = r->shards.first[b]; e < r->shards.first[b + 1]; e++)
            if (e < own.first || e >= own.first + own.count) grads[e] = NAN;
    }
}

static Status rank_work(Rank *r, Shared *shared)
{
    const Mesh *mesh = &r->groups.mesh;

    TRY(rank_create(r));
    for (int s = 0; s < shared->count; s++) {
        MicroBatch micros[STEP_MICROS];
        const Batch batch = make_batch(r, &shared->steps[s], micros);
        double *loss = &shared->losses[s][mesh->rank];
        r->recorder.count = 0;
        TRY(train_step_run(&r->step, &batch, loss));
        TRY(check_order(r));
        const bool reports = r->dit.last && batch.micro_count > 0; /* each of its own tokens */
        CHECK(reports == (*loss != 0.0), ERR_COMM, "reports a loss sum of %g", *loss);
        if (shared->sharded) forget_others_shards(r);
        model_case_join(r->c, &r->dit.params, mesh, tensor_f32(r->grads),
                        shared->gradients[s][mesh->rank]);
    }
    return OK;
}

static Status rank_body(int rank, const MeshGroups *groups, void *argument)
{
    Shared *shared = argument;
    Rank r = { .shared = shared, .c = &shared->steps[0].micros[0].clips->c, .groups = *groups };

    (void)rank;
    r.recorder = (Recorder){ .inner = groups->gradient,
                             .sharded = shared->sharded,
                             .group = { groups->gradient->rank, groups->gradient->size, &recording,
                                        &r.recorder } };
    r.groups.gradient = &r.recorder.group;
    const Status s = rank_work(&r, shared);
    rank_destroy(&r);
    return s;
}

/* ---- all ranks ----------------------------------------------------------------------------- */

static Status merge(const ModelCase *c, double *const *gradients, int ranks, double *out)
{
    for (int64_t i = 0; i < c->whole.count; i++) {
        const Param *p = model_case_backward_order(c, i);
        for (int64_t e = p->offset; e < p->offset + model_case_elements(p); e++) {
            double value = NAN;
            for (int rank = 0; rank < ranks; rank++) {
                const double mine = gradients[rank][e];
                if (isnan(mine)) continue;
                CHECK(isnan(value) || value == mine, ERR_COMM, "%s: ranks hold %.9g and %.9g",
                      p->name, value, mine);
                value = mine;
            }
            CHECK(!isnan(value), ERR_COMM, "%s: no rank has a gradient for it", p->name);
            out[e] = value;
        }
    }
    return OK;
}

Status step_run(const StepSpec *steps, int count, MeshShape mesh, bool sharded, StepResult *results)
{
    const ModelCase *c = &steps[0].micros[0].clips->c;
    const int ranks = (int)mesh_ranks(mesh);
    const int64_t n = c->whole.local_elements;
    Shared shared = { .steps = steps, .count = count, .sharded = sharded, .results = results };

    if (ranks > STEP_RANKS || count > STEP_RUNS) abort();
    for (int s = 0; s < count; s++) {
        results[s] = (StepResult){ .gradient = dm_new(n) };
        for (int rank = 0; rank < ranks; rank++) {
            shared.gradients[s][rank] = dm_new(n);
            for (int64_t e = 0; e < n; e++) shared.gradients[s][rank][e] = NAN;
        }
    }
    Status status = threads_run(mesh, rank_body, &shared);
    for (int s = 0; s < count; s++) {
        if (status == OK) status = merge(c, shared.gradients[s], ranks, results[s].gradient);
        for (int rank = 0; rank < ranks; rank++) {
            results[s].loss_sum += shared.losses[s][rank];
            free(shared.gradients[s][rank]);
        }
    }
    return status;
}

void step_result_destroy(StepResult *result)
{
    free(result->gradient);
    *result = (StepResult){ 0 };
}
