/*
 * The model as a function, as sampling uses it: the double-precision model's velocity for every
 * row, on one rank and over pipeline and tensor ranks; and a whole guided sampling loop.
 */
#include "core/model/velocity.h"
#include "core/solver/generate.h"
#include "tests/model/double_math.h"
#include "tests/model/model_case.h"
#include "tests/support/group_threads.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 4, CALLS = 3, RANKS = 4 };

/* Two shapes, one model: the same seed gives the same weights. */
static const CaseSpec specs[2] = {
    { .layers = 5,
      .heads = 4,
      .head_dim = 8,
      .ffn = 20,
      .channels = 3,
      .text_layers = 2,
      .text_width = 11,
      .max_length = 19,
      .batch = ROWS,
      .grid = { 3, 1, 5 },
      .lengths = { 1, 1, 1, 1 },
      .seed = 2 },
    { .layers = 5,
      .heads = 4,
      .head_dim = 8,
      .ffn = 20,
      .channels = 3,
      .text_layers = 2,
      .text_width = 11,
      .max_length = 19,
      .batch = ROWS,
      .grid = { 2, 2, 4 },
      .lengths = { 1, 1, 1, 1 },
      .seed = 2 },
};
/* no two alike, the null caption among them */
static const char *const captions[ROWS] = { "a red kite", "", "rain on a window", "waves" };

/* Evaluations of one Velocity, in turn: which shape and which of its rows. Later ones have other
 * captions in the same places: keys kept from an earlier one would show. */
typedef struct Call {
    int shape;
    int64_t first, rows;
} Call;

static const Call calls[CALLS] = { { 0, 0, ROWS }, { 1, 2, 2 }, { 0, 1, 3 } };

typedef struct Work {
    ModelCase cases[2];
    bool guided;                   /* the sampling loop instead of the calls */
    float *velocity[CALLS][RANKS]; /* owned; (rows, tokens, patch) as each rank has it */
    float *latents[RANKS];         /* owned; (2, tokens, patch) */
} Work;

static int64_t values_of(const ModelCase *c)
{
    return c->tokens * c->patch;
}

static DitShape shape_of(const ModelCase *c)
{
    return dit_shape(1, c->grid[0], c->grid[1], c->grid[2]);
}

static float *new_floats(int64_t count)
{
    float *values = calloc((size_t)count, sizeof *values);

    if (!values) abort();
    return values;
}

static void set_captions(ModelCase *c)
{
    const int64_t length = c->config.text.max_length;

    for (int64_t row = 0; row < c->batch; row++) {
        int32_t *ids = c->ids + row * length;
        const int64_t n = (int64_t)strlen(captions[row]);
        for (int64_t i = 0; i < length; i++)
            ids[i] = i < n ? 3 + (unsigned char)captions[row][i] : i == n;
        c->lengths[row] = (int32_t)n + 1;
    }
}

static int work_open(void **state)
{
    Work *work = calloc(1, sizeof *work);

    if (!work) return -1;
    for (int i = 0; i < 2; i++) {
        work->cases[i] = model_case_create(&specs[i]);
        set_captions(&work->cases[i]);
    }
    *state = work;
    return 0;
}

static int work_close(void **state)
{
    Work *work = *state;

    for (int i = 0; i < 2; i++) model_case_destroy(&work->cases[i]);
    free(work);
    return 0;
}

/* ---- one rank ------------------------------------------------------------------------------ */

typedef struct Rank {
    const MeshGroups *groups;
    Device dev;
    Dit dit;
    Velocity velocity;
    Arena weights, scratch;
} Rank;

static Status rank_create(Rank *r, const Work *work)
{
    const DitShape shapes[2] = { shape_of(&work->cases[0]), shape_of(&work->cases[1]) };
    Tensor weights;

    TRY(device_open(&r->dev, "cpu", NULL, 1, false));
    TRY(dit_create(&r->dev, &work->cases[0].config, r->groups, RECOMPUTE_NONE, 0, &r->dit));
    const int64_t n = r->dit.params.local_elements;
    TRY(arena_create(&r->weights, "weights", (size_t)n * sizeof(float)));
    TRY(tensor_alloc(&r->weights, F32, SHAPE(n), "weights", &weights));
    model_case_cut(&work->cases[0], &r->dit.params, &r->groups->mesh, tensor_f32(weights));
    TRY(dit_bind(&r->dit, weights, tensor_none()));
    return velocity_create(&r->dit, r->groups->pipeline, shapes, 2, ROWS, &r->velocity);
}

static void rank_destroy(Rank *r)
{
    velocity_destroy(&r->velocity);
    arena_destroy(&r->scratch);
    arena_destroy(&r->weights);
    dit_destroy(&r->dit);
}

/* the call's rows of its shape at x_t = (1 - t) clean + t noise */
static Status evaluate(Rank *r, const ModelCase *c, Call call, float *out)
{
    const int64_t rows = call.rows, sample = values_of(c), skipped = call.first * sample;
    const Shape shape = SHAPE(rows, c->tokens, c->patch);
    const float *times = c->t + call.first;
    float *x = new_floats(rows * sample);
    float t[ROWS];

    for (int64_t row = 0; row < rows; row++) t[row] = 1000.0f * times[row];
    for (int64_t i = 0; i < rows * sample; i++)
        x[i] = (float)((1.0 - (double)times[i / sample]) * (double)c->clean[skipped + i] +
                       (double)times[i / sample] * (double)c->noise[skipped + i]);
    Status s = velocity_captions(&r->velocity, captions + call.first, rows);
    if (s == OK)
        s = velocity_eval(&r->velocity, shape_of(c), tensor_of(out, F32, shape),
                          tensor_of(x, F32, shape), tensor_of(t, F32, SHAPE(rows)));
    free(x);
    return s;
}

/* two prompts with guidance: four rows */
static Status sample(Rank *r, const ModelCase *c, float *out)
{
    const GenerateOptions options = { .denoise = { .steps = 8, .guidance = 4.0, .shift = 3.0 },
                                      .seed = 3 };
    const size_t bytes = generate_scratch(2, c->tokens, c->patch, &options.denoise);

    const uint64_t ids[] = { 10, 11 };

    TRY(arena_create(&r->scratch, "sampling", bytes));
    return generate_latents(&r->velocity, shape_of(c), &options, captions + 2, ids, &r->scratch,
                            tensor_of(out, F32, SHAPE(2, c->tokens, c->patch)));
}

static Status rank_body(int rank, const MeshGroups *groups, void *argument)
{
    Work *work = argument;
    Rank r = { .groups = groups };
    Status s = rank_create(&r, work);

    for (int i = 0; i < CALLS && s == OK && !work->guided; i++)
        s = evaluate(&r, &work->cases[calls[i].shape], calls[i], work->velocity[i][rank]);
    if (s == OK && work->guided) s = sample(&r, &work->cases[0], work->latents[rank]);
    rank_destroy(&r);
    return s;
}

/* ---- all ranks ----------------------------------------------------------------------------- */

/* |got - want| / |want| */
static double relative(const float *got, const double *want, int64_t count)
{
    double squares = 0.0, size = 0.0;

    for (int64_t i = 0; i < count; i++) {
        squares += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    return sqrt(squares / size);
}

static void check_mesh(Work *work, MeshShape mesh)
{
    const int ranks = mesh.tensor * mesh.pipeline;
    double worst = 0.0;

    work->guided = false;
    for (int i = 0; i < CALLS; i++)
        for (int rank = 0; rank < ranks; rank++)
            work->velocity[i][rank] =
                new_floats(calls[i].rows * values_of(&work->cases[calls[i].shape]));
    if (threads_run(mesh, rank_body, work) != OK) fail_msg("%s", status_message());

    for (int i = 0; i < CALLS; i++) {
        const ModelCase *c = &work->cases[calls[i].shape];
        const int64_t sample = values_of(c);
        double *want = dm_new(ROWS * sample);
        model_case_velocity(c, want);
        /* row by row: a row of another caption or timestep would drown in the others */
        for (int64_t row = 0; row < calls[i].rows; row++)
            worst = fmax(worst, relative(work->velocity[i][0] + row * sample,
                                         want + (calls[i].first + row) * sample, sample));
        for (int rank = 1; rank < ranks; rank++)
            assert_memory_equal(work->velocity[i][rank], work->velocity[i][0],
                                (size_t)(calls[i].rows * sample) * sizeof(float));
        free(want);
    }
    for (int i = 0; i < CALLS; i++)
        for (int rank = 0; rank < ranks; rank++) free(work->velocity[i][rank]);

    /* as derived for the model (test_model.c): 2.4e-6 a layer, and two for both ends; a single row
     * may lie above the mean of all: twice that */
    const double tolerance = 2.0 * 2.4e-6 * (double)(work->cases[0].config.dit.num_layers + 2);
    print_message("tensor %d pipeline %d chunks %d: velocity differs by %.1e of %.1e\n",
                  mesh.tensor, mesh.pipeline, mesh_chunks(mesh), worst, tolerance);
    assert_true(worst < tolerance);
}

static void rows_are_the_double_models_on_one_rank(void **state)
{
    check_mesh(*state, mesh_shape(1, 1, 1, 1));
}

static void rows_are_the_double_models_over_stages(void **state)
{
    check_mesh(*state, mesh_shape(1, 1, 2, 1));
    check_mesh(*state, mesh_shape(1, 1, 3, 1));
}

static void rows_are_the_double_models_over_chunks(void **state)
{
    check_mesh(*state, (MeshShape){ 1, 1, 2, 1, 0, 2 });
    check_mesh(*state, (MeshShape){ 1, 2, 2, 1, 0, 2 });
}

static void rows_are_the_double_models_over_tensor_ranks(void **state)
{
    check_mesh(*state, mesh_shape(1, 2, 1, 1));
    check_mesh(*state, mesh_shape(1, 4, 1, 1));
    check_mesh(*state, mesh_shape(1, 2, 2, 1));
}

static float *sample_on(Work *work, MeshShape mesh)
{
    const int ranks = mesh.tensor * mesh.pipeline;
    const int64_t count = 2 * values_of(&work->cases[0]);

    work->guided = true;
    for (int rank = 0; rank < ranks; rank++) work->latents[rank] = new_floats(count);
    if (threads_run(mesh, rank_body, work) != OK) fail_msg("%s", status_message());
    for (int rank = 1; rank < ranks; rank++) {
        assert_memory_equal(work->latents[rank], work->latents[0], (size_t)count * sizeof(float));
        free(work->latents[rank]);
    }
    return work->latents[0];
}

static void guided_sampling_is_the_same_over_stages_and_tensor_ranks(void **state)
{
    Work *work = *state;
    const int64_t count = 2 * values_of(&work->cases[0]);
    double *want = dm_new(count);
    float *alone = sample_on(work, mesh_shape(1, 1, 1, 1));
    float *spread = sample_on(work, mesh_shape(1, 2, 2, 1));

    for (int64_t i = 0; i < count; i++) {
        assert_true(isfinite(alone[i]));
        want[i] = (double)alone[i];
    }
    const double differs = relative(spread, want, count);
    print_message("note: 8 guided steps: latents differ by %.1e\n", differs);
    /* guidance 4 takes 4 times one velocity from 3 times another: 7 times 1.2e-5 at most, and the
     * steps' lengths add up to one */
    assert_true(differs < 1e-4);
    free(alone);
    free(spread);
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_the_double_models_on_one_rank),
        cmocka_unit_test(rows_are_the_double_models_over_stages),
        cmocka_unit_test(rows_are_the_double_models_over_chunks),
        cmocka_unit_test(rows_are_the_double_models_over_tensor_ranks),
        cmocka_unit_test(guided_sampling_is_the_same_over_stages_and_tensor_ranks),
    };
    return cmocka_run_group_tests(tests, work_open, work_close);
}
