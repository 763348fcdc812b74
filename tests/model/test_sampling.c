/*
 * Sampling over pipeline stages and over the halves of guidance: the latents of the loop that
 * empties the pipeline after each step, and those of one rank that computes everything.
 */
#include "core/model/velocity.h"
#include "core/solver/generate.h"
#include "tests/model/model_case.h"
#include "tests/support/group_threads.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PROMPTS_MAX = 5, ROWS_MAX = 2 * PROMPTS_MAX, STEPS = 4, RANKS_MAX = 8, FIRST_ID = 10 };

static const CaseSpec spec = { .layers = 3,
                               .heads = 4,
                               .head_dim = 8,
                               .ffn = 20,
                               .channels = 3,
                               .text_layers = 2,
                               .text_width = 11,
                               .max_length = 19,
                               .batch = 1,
                               .grid = { 3, 1, 5 },
                               .lengths = { 1 },
                               .seed = 2 };
static const char *const prompts[PROMPTS_MAX] = { "a red kite", "rain on a window", "waves", "snow",
                                                  "a dog" };
static const char negative[] = "dull";

/* What is sampled, and what every rank got. */
typedef struct Work {
    ModelCase model;
    int64_t count; /* prompts */
    double guidance;
    SolverKind solver;
    SigmaSchedule sigmas;
    double strength;
    bool exact;                /* kernels that sum a row in the same order in any batch */
    bool shared;               /* the ranks of the data axis share the halves of guidance */
    bool emptied;              /* the loop that waits for all rows of a step */
    bool damaged;              /* weights that are not numbers */
    int steps[RANKS_MAX];      /* as told by on_step; -1 when out of order */
    float *latents[RANKS_MAX]; /* (prompts, tokens, patch) */
} Work;

static int64_t values_of(const Work *work)
{
    return work->count * work->model.tokens * work->model.patch;
}

static DitShape grid_of(const Work *work)
{
    return dit_shape(1, work->model.grid[0], work->model.grid[1], work->model.grid[2]);
}

/* ---- one rank ------------------------------------------------------------------------------ */

typedef struct Rank {
    const MeshGroups *groups;
    Device dev;
    Dit dit;
    Velocity velocity;
    Arena weights, scratch;
    DitShape grid;
    int *steps;
} Rank;

static void on_step(void *watcher, int done)
{
    Rank *r = watcher;
    *r->steps = done == *r->steps + 1 ? done : -1;
}

static Status rank_create(Rank *r, const Work *work, Group *halves)
{
    const ModelCase *c = &work->model;
    Tensor weights;

    r->grid = grid_of(work);
    TRY(device_open(&r->dev, "cpu", NULL, 1, work->exact));
    TRY(dit_create(&r->dev, &c->config, r->groups, RECOMPUTE_NONE, 0, &r->dit));
    const int64_t n = r->dit.params.local_elements;
    TRY(arena_create(&r->weights, "weights", (size_t)n * sizeof(float)));
    TRY(tensor_alloc(&r->weights, F32, SHAPE(n), "weights", &weights));
    model_case_cut(c, &r->dit.params, &r->groups->mesh, tensor_f32(weights));
    for (int64_t i = 0; i < n && work->damaged; i++) tensor_f32(weights)[i] = NAN;
    TRY(dit_bind(&r->dit, weights, tensor_none()));
    const DenoiseOptions denoise = { .guidance = work->guidance, .solver = work->solver };
    TRY(arena_create(&r->scratch, "sampling",
                     generate_scratch(work->count, c->tokens, c->patch, &denoise)));
    return velocity_create(&r->dit, r->groups->pipeline, &r->grid, 1,
                           generate_rows(work->count, work->guidance, halves), &r->velocity);
}

static void rank_destroy(Rank *r)
{
    velocity_destroy(&r->velocity);
    arena_destroy(&r->scratch);
    arena_destroy(&r->weights);
    dit_destroy(&r->dit);
}

static Status evaluate_all(void *context, Tensor v, Tensor x, SolverPoint at)
{
    Rank *r = context;
    float t[ROWS_MAX];
    for (int i = 0; i < ROWS_MAX; i++) t[i] = at.t;
    return velocity_eval(&r->velocity, r->grid, v, x, tensor_of(t, F32, SHAPE(x.shape[0])));
}

/* All rows of a step, then all of the next. */
static Status sample_emptied(Rank *r, const GenerateOptions *options, const Work *work, Tensor x)
{
    const char *captions[ROWS_MAX];
    const int64_t rows = generate_rows(work->count, work->guidance, NULL);
    for (int64_t i = 0; i < rows; i++) captions[i] = i < work->count ? prompts[i] : negative;
    TRY(velocity_captions(&r->velocity, captions, rows));
    TRY(denoise_noise(&r->dev, x, options->seed, FIRST_ID));
    return denoise_run(&r->dev, evaluate_all, r, &options->denoise, &r->scratch, x);
}

static Status rank_body(int rank, const MeshGroups *groups, void *argument)
{
    Work *work = argument;
    Group *halves = work->shared ? groups->data : NULL;
    Rank r = { .groups = groups, .steps = &work->steps[rank] };
    const GenerateOptions options = { .denoise = { .steps = STEPS,
                                                   .guidance = work->guidance,
                                                   .shift = 3.0,
                                                   .solver = work->solver,
                                                   .sigmas = work->sigmas,
                                                   .strength = work->strength,
                                                   .on_step = on_step,
                                                   .watcher = &r },
                                      .seed = 3,
                                      .negative = negative,
                                      .halves = halves };
    const Tensor x = tensor_of(work->latents[rank], F32,
                               SHAPE(work->count, work->model.tokens, work->model.patch));
    uint64_t ids[PROMPTS_MAX];
    Status s = rank_create(&r, work, halves);

    for (int i = 0; i < PROMPTS_MAX; i++) ids[i] = FIRST_ID + (uint64_t)i;

    if (s == OK)
        s = work->emptied
                ? sample_emptied(&r, &options, work, x)
                : generate_latents(&r.velocity, r.grid, &options, prompts, ids, &r.scratch, x);
    rank_destroy(&r);
    return s;
}

/* ---- all ranks ----------------------------------------------------------------------------- */

/* The latents (prompts, tokens, patch), the same on every rank; owned by the caller. */
static float *sample(Work *work, MeshShape mesh)
{
    const int ranks = (int)mesh_ranks(mesh);
    const size_t bytes = (size_t)values_of(work) * sizeof(float);

    for (int rank = 0; rank < ranks; rank++) {
        work->latents[rank] = malloc(bytes);
        work->steps[rank] = 0;
        if (!work->latents[rank]) abort();
    }
    if (threads_run(mesh, rank_body, work) != OK) fail_msg("%s", status_message());
    for (int rank = 0; rank < ranks; rank++) {
        assert_int_equal(work->steps[rank],
                         (int)(STEPS * (work->strength > 0 ? work->strength : 1)));
        assert_memory_equal(work->latents[rank], work->latents[0], bytes);
        if (rank > 0) free(work->latents[rank]);
    }
    for (int64_t i = 0; i < values_of(work); i++) assert_true(isfinite(work->latents[0][i]));
    return work->latents[0];
}

static double relative(const Work *work, const float *got, const float *want)
{
    double squares = 0.0, size = 0.0;
    for (int64_t i = 0; i < values_of(work); i++) {
        const double off = (double)got[i] - (double)want[i];
        squares += off * off;
        size += (double)want[i] * (double)want[i];
    }
    return sqrt(squares / size);
}

static Work work_of(int64_t count, double guidance)
{
    return (Work){ .model = model_case_create(&spec), .count = count, .guidance = guidance };
}

static void compare_filled(Work *work, MeshShape mesh)
{
    float *filled = sample(work, mesh);
    work->emptied = true;
    float *emptied = sample(work, mesh);
    assert_memory_equal(filled, emptied, (size_t)values_of(work) * sizeof(float));
    free(filled);
    free(emptied);
    model_case_destroy(&work->model);
}

static void check_filled(MeshShape mesh, int64_t count, double guidance)
{
    Work work = work_of(count, guidance);
    compare_filled(&work, mesh);
}

static void a_pipeline_that_is_never_emptied_gives_the_same_bits(void **state)
{
    static const int64_t counts[] = { 1, 2, 5 };
    (void)state;
    for (int i = 0; i < 3; i++) {
        for (int stages = 2; stages <= 3; stages++) {
            check_filled(mesh_shape(1, 1, stages, 1), counts[i], 4.0);
            check_filled(mesh_shape(1, 1, stages, 1), counts[i], 1.0);
        }
    }
}

static void so_it_does_with_tokens_and_heads_cut(void **state)
{
    (void)state;
    check_filled(mesh_shape(1, 2, 2, 1), 2, 4.0);
    check_filled(mesh_shape(1, 1, 2, 2), 3, 4.0);
    check_filled(mesh_shape(1, 2, 2, 2), 2, 1.0);
}

/* What a solver remembers lies with the last stage, each sample's own tokens. */
static void so_it_does_with_solvers_that_remember(void **state)
{
    static const SolverKind kinds[] = { SOLVER_UNIPC, SOLVER_DPM, SOLVER_HEUN };
    (void)state;
    for (int i = 0; i < 3; i++) {
        for (int cut = 0; cut < 2; cut++) {
            Work work = work_of(3, 4.0);
            work.solver = kinds[i];
            work.sigmas = SIGMAS_DIFFUSERS;
            work.strength = cut ? 0.75 : 0.0;
            compare_filled(&work, mesh_shape(1, cut ? 2 : 1, 2, 1));
        }
    }
}

/* The halves on two replicas against both on one rank. Fast kernels sum in an order that may depend
 * on the rows of a batch. */
static void check_halves(MeshShape mesh, int64_t count, bool exact, double tolerance)
{
    Work work = work_of(count, 4.0);
    work.exact = exact;
    float *alone = sample(&work, mesh_shape(1, 1, 1, 1));
    work.shared = true;
    float *halves = sample(&work, mesh);
    const double differs = relative(&work, halves, alone);
    print_message("%s, pipeline %d, %d prompts: halves differ by %.1e\n", exact ? "exact" : "fast",
                  mesh.pipeline, (int)count, differs);
    if (exact) assert_memory_equal(halves, alone, (size_t)values_of(&work) * sizeof(float));
    assert_true(differs <= tolerance);
    free(alone);
    free(halves);
    model_case_destroy(&work.model);
}

static void halves_of_guidance_on_two_replicas_give_the_same_bits(void **state)
{
    (void)state;
    check_halves(mesh_shape(2, 1, 1, 1), 1, true, 0.0);
    check_halves(mesh_shape(2, 1, 1, 1), 3, true, 0.0);
    check_halves(mesh_shape(2, 1, 2, 1), 3, true, 0.0);
    /* as derived in test_velocity.c for guidance 4 */
    check_halves(mesh_shape(2, 1, 1, 1), 3, false, 1e-4);
    check_halves(mesh_shape(2, 2, 2, 1), 2, false, 1e-4);
}

/* Every rank learns of it after the loop, none waits for one that left. */
static void latents_that_are_not_finite_end_all_stages(void **state)
{
    const MeshShape mesh = mesh_shape(1, 1, 3, 1);
    Work work = work_of(2, 4.0);
    (void)state;
    work.damaged = true;
    for (int rank = 0; rank < 3; rank++)
        work.latents[rank] = calloc((size_t)values_of(&work), sizeof(float));
    assert_int_equal(threads_run(mesh, rank_body, &work), ERR_DEVICE);
    assert_non_null(strstr(status_message(), "not finite after sampling step 1 "));
    for (int rank = 0; rank < 3; rank++) free(work.latents[rank]);
    model_case_destroy(&work.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipeline_that_is_never_emptied_gives_the_same_bits),
        cmocka_unit_test(so_it_does_with_tokens_and_heads_cut),
        cmocka_unit_test(so_it_does_with_solvers_that_remember),
        cmocka_unit_test(halves_of_guidance_on_two_replicas_give_the_same_bits),
        cmocka_unit_test(latents_that_are_not_finite_end_all_stages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
