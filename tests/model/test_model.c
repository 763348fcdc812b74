/*
 * The production model against the double-precision one: its velocity, and its hand-written
 * gradient against central differences, on one rank, over tensor ranks and over pipeline stages.
 */
#include "tests/model/double_math.h"
#include "tests/model/model_case.h"
#include "tests/model/model_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RANDOM_DIRECTIONS = 8 };

/* One layer, one clip, sizes that are multiples of nothing. */
static const CaseSpec one_layer = { .layers = 1,
                                    .heads = 3,
                                    .head_dim = 10,
                                    .ffn = 17,
                                    .channels = 5,
                                    .text_layers = 1,
                                    .text_width = 9,
                                    .max_length = 7,
                                    .batch = 1,
                                    .grid = { 2, 3, 5 },
                                    .lengths = { 4 },
                                    .seed = 1 };
/* Three layers, two clips, one with the null caption; heads and ffn can be cut in 2 and 4. */
static const CaseSpec three_layers = { .layers = 3,
                                       .heads = 4,
                                       .head_dim = 8,
                                       .ffn = 20,
                                       .channels = 3,
                                       .text_layers = 2,
                                       .text_width = 11,
                                       .max_length = 19,
                                       .batch = 2,
                                       .grid = { 3, 1, 5 },
                                       .lengths = { 19, 1 },
                                       .seed = 2 };
/* More tokens and text rows than one tile of anything, and not a multiple of a tile. */
static const CaseSpec many_tokens = { .layers = 1,
                                      .heads = 2,
                                      .head_dim = 16,
                                      .ffn = 24,
                                      .channels = 2,
                                      .text_layers = 1,
                                      .text_width = 8,
                                      .max_length = 135,
                                      .batch = 2,
                                      .grid = { 3, 7, 13 },
                                      .lengths = { 131, 77 },
                                      .seed = 3 };

/* 315 and 165 tokens, which no degree but 3 and 5 divides */
static const CaseSpec odd_grids[2] = {
    { .layers = 2,
      .heads = 12,
      .head_dim = 8,
      .ffn = 24,
      .channels = 2,
      .text_layers = 1,
      .text_width = 8,
      .max_length = 13,
      .batch = 1,
      .grid = { 5, 7, 9 },
      .lengths = { 9 },
      .seed = 4 },
    { .layers = 2,
      .heads = 12,
      .head_dim = 8,
      .ffn = 24,
      .channels = 2,
      .text_layers = 1,
      .text_width = 8,
      .max_length = 13,
      .batch = 1,
      .grid = { 3, 5, 11 },
      .lengths = { 13 },
      .seed = 5 },
};

static const MeshShape alone = { .data = 1, .tensor = 1, .pipeline = 1, .context = 1 };

static ModelRun run(const ModelCase *c, MeshShape mesh, Recompute recompute, int64_t rows)
{
    ModelRun result;

    if (model_run(c, mesh, recompute, rows, &result) != OK)
        fail_msg("tensor %d pipeline %d: %s", mesh.tensor, mesh.pipeline, status_message());
    return result;
}

static double norm(const double *x, int64_t count)
{
    double squares = 0.0;

    for (int64_t i = 0; i < count; i++) squares += x[i] * x[i];
    return sqrt(squares);
}

/* ---- forward ------------------------------------------------------------------------------- */

/* A block is about 10 sublayers in a row, each rounding its result to 2^-24 = 6e-8 and carrying
 * earlier errors on with a factor of a few: 10 * 4 * 6e-8 = 2.4e-6 a block, and as much again for
 * the embeddings and the head. Relative to the velocity's root mean square. */
static double forward_tolerance(const ModelCase *c)
{
    return 2.4e-6 * (double)(c->config.dit.num_layers + 2);
}

static void check_forward(const ModelCase *c, const ModelRun *r)
{
    const int64_t count = c->batch * c->tokens * c->patch;
    double *want = dm_new(count);
    double *difference = dm_new(count);

    model_case_velocity(c, want);
    for (int64_t i = 0; i < count; i++) difference[i] = (double)r->velocity[i] - want[i];

    const double relative = norm(difference, count) / norm(want, count);
    const double loss = model_case_loss(c, c->wide);
    if (!(relative < forward_tolerance(c))) fail_msg("velocity differs by %g", relative);
    if (!(fabs(r->loss - loss) < forward_tolerance(c) * loss))
        fail_msg("loss %.9g, expected %.9g", r->loss, loss);
    free(want);
    free(difference);
}

static void velocity_equals_the_double_model(void **state)
{
    const CaseSpec *const specs[] = { &one_layer, &three_layers, &many_tokens };

    (void)state;
    for (size_t i = 0; i < sizeof specs / sizeof specs[0]; i++) {
        ModelCase c = model_case_create(specs[i]);
        ModelRun r = run(&c, alone, RECOMPUTE_NONE, c.batch);
        check_forward(&c, &r);
        model_run_destroy(&r);
        model_case_destroy(&c);
    }
}

/* ---- gradient ------------------------------------------------------------------------------ */

/* The way back is as long as the way there. Central differences are good to 1e-8. */
static double gradient_tolerance(const ModelCase *c)
{
    return 2.0 * forward_tolerance(c);
}

/* Errors are spread evenly over the elements: along a unit vector in n dimensions they are seen
 * against |g| / sqrt(n). only: the one tensor the direction moves, or NULL. */
static void check_slope(const ModelCase *c, const ModelRun *r, const Param *only, double slope,
                        const double *direction)
{
    const int64_t first = only ? only->offset : 0;
    const int64_t span = only ? model_case_elements(only) : c->whole.local_elements;
    const double size = norm(r->gradient + first, span) / sqrt((double)span);
    double along = 0.0;

    for (int64_t i = first; i < first + span; i++) along += r->gradient[i] * direction[i];
    if (!(fabs(along - slope) <= gradient_tolerance(c) * fmax(size, fabs(slope))))
        fail_msg("%s: gradient along a direction is %.9g, central differences say %.9g",
                 only ? only->name : "all parameters", along, slope);
}

/* one direction inside each parameter tensor, from the last to the first as the backward goes: the
 * first that is wrong is the one nearest to the bug */
static void check_every_tensor(const ModelCase *c, const ModelRun *r)
{
    double *direction = dm_new(c->whole.local_elements);

    for (int64_t i = 0; i < c->whole.count; i++) {
        const Param *p = model_case_backward_order(c, i);
        model_case_direction(c, p, 100, direction);
        check_slope(c, r, p, model_case_slope(c, direction), direction);
    }
    free(direction);
}

static void check_random_directions(const ModelCase *c, const ModelRun *r)
{
    double *direction = dm_new(c->whole.local_elements);

    for (int i = 0; i < RANDOM_DIRECTIONS; i++) {
        model_case_direction(c, NULL, 200 + (uint64_t)i, direction);
        check_slope(c, r, NULL, model_case_slope(c, direction), direction);
    }
    free(direction);
}

static void check_gradient(const CaseSpec *spec)
{
    ModelCase c = model_case_create(spec);
    ModelRun r = run(&c, alone, RECOMPUTE_NONE, c.batch);

    check_every_tensor(&c, &r);
    check_random_directions(&c, &r);
    model_run_destroy(&r);
    model_case_destroy(&c);
}

static void gradient_of_one_layer(void **state)
{
    (void)state;
    check_gradient(&one_layer);
}

static void gradient_of_three_layers_and_two_captions(void **state)
{
    (void)state;
    check_gradient(&three_layers);
}

static void gradient_over_many_tokens(void **state)
{
    ModelCase c = model_case_create(&many_tokens);
    ModelRun r = run(&c, alone, RECOMPUTE_NONE, c.batch);
    double *direction = dm_new(c.whole.local_elements);

    (void)state;
    /* the double model takes its time over these: one direction of all parameters together */
    model_case_direction(&c, NULL, 300, direction);
    check_slope(&c, &r, NULL, model_case_slope(&c, direction), direction);
    free(direction);
    model_run_destroy(&r);
    model_case_destroy(&c);
}

/* ---- meshes -------------------------------------------------------------------------------- */

/* the same formulas, summed in another order */
static void check_same_gradient(const ModelCase *c, const ModelRun *got, const ModelRun *want)
{
    double *difference = dm_new(c->whole.local_elements);

    for (int64_t i = 0; i < c->whole.count; i++) {
        const Param *p = model_case_backward_order(c, i);
        const int64_t count = model_case_elements(p);
        for (int64_t e = 0; e < count; e++)
            difference[e] = got->gradient[p->offset + e] - want->gradient[p->offset + e];
        const double relative = norm(difference, count) / norm(want->gradient + p->offset, count);
        if (!(relative < gradient_tolerance(c)))
            fail_msg("%s: gradient differs by %g", p->name, relative);
    }
    free(difference);
}

static void check_recompute(MeshShape mesh, Recompute recompute, int64_t rows)
{
    ModelCase c = model_case_create(&three_layers);
    ModelRun want = run(&c, alone, RECOMPUTE_NONE, c.batch);
    ModelRun got = run(&c, mesh, recompute, rows);

    check_forward(&c, &got);
    check_same_gradient(&c, &got, &want);
    check_random_directions(&c, &got);
    model_run_destroy(&got);
    model_run_destroy(&want);
    model_case_destroy(&c);
}

static void check_mesh(MeshShape mesh, int64_t rows)
{
    check_recompute(mesh, RECOMPUTE_NONE, rows);
}

static void two_tensor_ranks_compute_the_same(void **state)
{
    (void)state;
    check_mesh(mesh_shape(1, 2, 1, 1), 2);
}

static void four_tensor_ranks_compute_the_same(void **state)
{
    (void)state;
    check_mesh(mesh_shape(1, 4, 1, 1), 2);
}

static void two_stages_compute_the_same(void **state)
{
    (void)state;
    check_mesh(mesh_shape(1, 1, 2, 1), 2);
}

static void three_stages_of_two_tensor_ranks_compute_the_same(void **state)
{
    (void)state;
    check_mesh(mesh_shape(1, 2, 3, 1), 2);
}

/* 15 tokens over 2, 3 and 4 context ranks, as Ulysses, as a ring, and both */
static void context_ranks_compute_the_same(void **state)
{
    (void)state;
    static const MeshShape meshes[] = {
        { 1, 1, 1, 2, 2, 0 }, { 1, 1, 1, 2, 1, 0 }, { 1, 1, 1, 3, 1, 0 },
        { 1, 1, 1, 4, 4, 0 }, { 1, 1, 1, 4, 2, 0 }, { 1, 1, 1, 4, 1, 0 },
    };
    for (size_t i = 0; i < sizeof meshes / sizeof meshes[0]; i++) check_mesh(meshes[i], 2);
}

static void context_joins_tensor_and_pipeline(void **state)
{
    (void)state;
    static const MeshShape meshes[] = {
        { 1, 2, 1, 2, 2, 0 },
        { 1, 2, 1, 2, 1, 0 },
        { 1, 1, 2, 2, 2, 0 },
        { 1, 2, 2, 2, 1, 0 },
    };
    for (size_t i = 0; i < sizeof meshes / sizeof meshes[0]; i++) check_mesh(meshes[i], 1);
}

/* Tokens that do not divide are split by exact counts: velocity and gradient are those of one rank.
 */
static void odd_grids_over_context_and_tensor_compute_the_same(void **state)
{
    (void)state;
    static const MeshShape meshes[] = {
        { 1, 1, 1, 2, 2, 0 }, { 1, 1, 1, 2, 1, 0 }, { 1, 1, 1, 3, 3, 0 }, { 1, 1, 1, 3, 1, 0 },
        { 1, 1, 1, 4, 4, 0 }, { 1, 1, 1, 4, 2, 0 }, { 1, 2, 1, 2, 2, 0 }, { 1, 2, 1, 2, 1, 0 },
    };
    for (int g = 0; g < 2; g++) {
        ModelCase c = model_case_create(&odd_grids[g]);
        ModelRun want = run(&c, alone, RECOMPUTE_NONE, 1);
        const int64_t values = c.tokens * c.patch;
        double worst = 0.0;
        for (size_t i = 0; i < sizeof meshes / sizeof meshes[0]; i++) {
            ModelRun got = run(&c, meshes[i], RECOMPUTE_NONE, 1);
            double squares = 0.0, size = 0.0;
            for (int64_t v = 0; v < values; v++) {
                const double d = (double)got.velocity[v] - (double)want.velocity[v];
                squares += d * d;
                size += (double)want.velocity[v] * (double)want.velocity[v];
            }
            worst = fmax(worst, sqrt(squares / size));
            check_same_gradient(&c, &got, &want);
            model_run_destroy(&got);
        }
        print_message("note: %lldx%lldx%lld tokens over context 2, 3, 4 and tensor x context 2x2: "
                      "velocity differs by %.1e of %.1e\n",
                      (long long)c.grid[0], (long long)c.grid[1], (long long)c.grid[2], worst,
                      forward_tolerance(&c));
        assert_true(worst < forward_tolerance(&c));
        model_run_destroy(&want);
        model_case_destroy(&c);
    }
}

/* to the bit: the same ops on the same numbers */
static void recomputation_changes_no_bit(void **state)
{
    (void)state;
    static const MeshShape meshes[] = { { 1, 1, 1, 1, 0, 0 }, { 1, 2, 1, 2, 2, 0 } };
    ModelCase c = model_case_create(&three_layers);
    for (size_t i = 0; i < sizeof meshes / sizeof meshes[0]; i++) {
        ModelRun want = run(&c, meshes[i], RECOMPUTE_NONE, 2);
        for (Recompute r = RECOMPUTE_ELEMENTWISE; r <= RECOMPUTE_BLOCK; r++) {
            ModelRun got = run(&c, meshes[i], r, 2);
            assert_memory_equal(got.gradient, want.gradient,
                                (size_t)c.whole.local_elements * sizeof(double));
            model_run_destroy(&got);
        }
        model_run_destroy(&want);
    }
    model_case_destroy(&c);
}

static void micro_batches_add_up(void **state)
{
    (void)state;
    check_mesh(alone, 1);
    check_mesh(mesh_shape(1, 2, 2, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(velocity_equals_the_double_model),
        cmocka_unit_test(gradient_of_one_layer),
        cmocka_unit_test(gradient_of_three_layers_and_two_captions),
        cmocka_unit_test(gradient_over_many_tokens),
        cmocka_unit_test(two_tensor_ranks_compute_the_same),
        cmocka_unit_test(four_tensor_ranks_compute_the_same),
        cmocka_unit_test(two_stages_compute_the_same),
        cmocka_unit_test(three_stages_of_two_tensor_ranks_compute_the_same),
        cmocka_unit_test(context_ranks_compute_the_same),
        cmocka_unit_test(context_joins_tensor_and_pipeline),
        cmocka_unit_test(odd_grids_over_context_and_tensor_compute_the_same),
        cmocka_unit_test(recomputation_changes_no_bit),
        cmocka_unit_test(micro_batches_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
