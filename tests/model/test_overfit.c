/*
 * The whole of training in small: one batch, its timesteps and noise held fixed, is learnt by
 * heart.
 */
#include "core/base/clock.h"
#include "train/optimizer.h"
#include "train/step.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { CLIPS = 4, STEPS = 300, T = 2, H = 2, W = 2, TOKENS = T * H * W };

/* 16 values a token, far below the width of 64: the head's input can tell noise from clip */
static const ModelConfig config = {
    .dit = { .num_layers = 3,
             .num_attention_heads = 4,
             .attention_head_dim = 16,
             .ffn_dim = 128,
             .in_channels = 4,
             .out_channels = 4,
             .text_dim = 32,
             .freq_dim = 64,
             .patch_size = { 1, 2, 2 },
             .rope_max_seq_len = 64,
             .eps = 1e-6 },
    .text = { .d_model = 32,
              .d_kv = 8,
              .d_ff = 64,
              .num_layers = 2,
              .num_heads = 4,
              .vocab_size = 384,
              .relative_attention_num_buckets = 32,
              .relative_attention_max_distance = 128,
              .max_length = 24,
              .layer_norm_epsilon = 1e-6 },
};

static const TrainKeys keys = { .steps = STEPS,
                                .lr = 3e-3,
                                .schedule = LR_CONSTANT,
                                .betas = { 0.9, 0.95 },
                                .eps = 1e-8,
                                .clip = 1.0 };

static const char *const captions[CLIPS] = { "a red kite", "rain on a window", "waves",
                                             "a dog runs" };
static const int64_t samples[CLIPS] = { 0, 1, 2, 3 };

typedef struct Run {
    Device dev;
    Group alone;
    MeshGroups groups;
    Dit dit;
    Arena arena;
    Optimizer optimizer;
    TrainStep step;
} Run;

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

static void run_create(Run *r)
{
    const DitShape shape = dit_shape(CLIPS, T, H, W);
    const TrainStepOptions options = {
        .flow = { .seed = 11, .logit_normal = true, .mean = 0.0, .std = 1.0, .shift = 3.0 },
        .shapes = &shape,
        .shape_count = 1,
        .micros_max = 1,
    };

    *r = (Run){ .alone = group_self() };
    r->groups = mesh_groups_alone(&r->alone);
    ok(device_open(&r->dev, "cpu", NULL, 1, false));
    ok(dit_create(&r->dev, &config, &r->groups, RECOMPUTE_NONE, 0, &r->dit));

    const Shape flat = SHAPE(r->dit.params.local_elements);
    const size_t bytes = (size_t)r->dit.params.local_elements * sizeof(float) + ARENA_ALIGN;
    Optimizer *o = &r->optimizer;
    *o = (Optimizer){ .dev = &r->dev, .params = &r->dit.params, .mesh = &r->groups.mesh };
    ok(arena_create(&r->arena, "test", 4 * bytes));
    ok(tensor_alloc(&r->arena, F32, flat, "weights", &o->weights));
    ok(tensor_alloc(&r->arena, F32, flat, "grads", &o->grads));
    ok(tensor_alloc(&r->arena, F32, flat, "exp_avg", &o->exp_avg));
    ok(tensor_alloc(&r->arena, F32, flat, "exp_avg_sq", &o->exp_avg_sq));
    ok(params_init(&r->dit.params, &r->groups.mesh, 1, o->weights));
    ok(dit_bind(&r->dit, o->weights, o->grads));
    ok(train_step_create(&r->dit, &r->groups, o->grads, &options, &r->step));
}

static void run_destroy(Run *r)
{
    train_step_destroy(&r->step);
    arena_destroy(&r->arena);
    dit_destroy(&r->dit);
}

/* one step of training; returns the loss before it */
static double train(Run *r, const Batch *batch, int64_t done)
{
    double loss_sum = 0.0, squares = 0.0;

    ok(train_step_run(&r->step, batch, &loss_sum));
    ok(optimizer_square_norm(&r->optimizer, &squares));
    const double norm = sqrt(squares);
    ok(optimizer_update(&r->optimizer, &keys, done, norm > keys.clip ? keys.clip / norm : 1.0));
    return loss_sum / (double)batch->global_elements;
}

static void one_batch_with_fixed_draws_overfits_below_two_percent(void **state)
{
    const int64_t patch = dit_patch_in(&config.dit);
    float *latents = calloc((size_t)(CLIPS * TOKENS * patch), sizeof *latents);
    const double start = clock_seconds();
    double first = 0.0, last = 0.0;
    Run r;

    (void)state;
    assert_non_null(latents);
    rng_fill_normal(rng_make(5, RNG_TEST, 0), 0, CLIPS * TOKENS * patch, latents);
    const MicroBatch micro = { .clips = CLIPS,
                               .t = T,
                               .h = 2 * H,
                               .w = 2 * W,
                               .tokens = TOKENS,
                               .patch = patch,
                               .latents = tensor_of(latents, F32, SHAPE(CLIPS, TOKENS, patch)),
                               .samples = samples,
                               .captions = captions };
    const Batch batch = { .micro_count = 1,
                          .micros = &micro,
                          .global_clips = CLIPS,
                          .global_micros = 1,
                          .global_tokens = CLIPS * TOKENS,
                          .global_elements = CLIPS * TOKENS * patch };

    run_create(&r);
    for (int64_t step = 0; step < STEPS; step++) {
        last = train(&r, &batch, step);
        if (step == 0) first = last;
    }
    print_message("note: loss %.4f at first, %.6f after %d steps: %.2f %%, %.1f s\n", first, last,
                  STEPS, 100.0 * last / first, clock_seconds() - start);
    /* the head starts at zero, so the first loss is the mean square of noise - clip: 1 + 1, give or
     * take four standard deviations sqrt(2 / 512) 2 */
    assert_true(fabs(first - 2.0) < 0.5);
    assert_true(last < 0.02 * first);
    run_destroy(&r);
    free(latents);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_batch_with_fixed_draws_overfits_below_two_percent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
