/*
 * A training step's loss and gradient: those of the model at the drawn timesteps and noise, however
 * the batch is cut into micro-batches and wherever they run.
 */
#include "tests/model/double_math.h"
#include "tests/model/model_run.h"
#include "tests/model/step_run.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const CaseSpec bucket_a = { .layers = 3,
                                   .heads = 4,
                                   .head_dim = 8,
                                   .ffn = 20,
                                   .channels = 3,
                                   .text_layers = 2,
                                   .text_width = 11,
                                   .max_length = 19,
                                   .batch = 4,
                                   .grid = { 3, 1, 5 },
                                   .lengths = { 1, 1, 1, 1 },
                                   .seed = 2 };
static const char *const captions_a[] = { "a red kite", "", "rain on a window",
                                          "\xc3\xa9t\xc3\xa9" };

/* another shape, the same weights */
static const CaseSpec bucket_b = { .layers = 3,
                                   .heads = 4,
                                   .head_dim = 8,
                                   .ffn = 20,
                                   .channels = 3,
                                   .text_layers = 2,
                                   .text_width = 11,
                                   .max_length = 19,
                                   .batch = 2,
                                   .grid = { 2, 3, 2 },
                                   .lengths = { 1, 1 },
                                   .seed = 2 };
static const char *const captions_b[] = { "waves", "a dog runs" };

/* blocks for six stages, one of which has two */
static const CaseSpec bucket_deep = { .layers = 7,
                                      .heads = 2,
                                      .head_dim = 8,
                                      .ffn = 12,
                                      .channels = 2,
                                      .text_layers = 1,
                                      .text_width = 9,
                                      .max_length = 17,
                                      .batch = 4,
                                      .grid = { 2, 1, 3 },
                                      .lengths = { 1, 1, 1, 1 },
                                      .seed = 4 };
static const char *const captions_deep[] = { "fog", "", "a bridge", "snow falls" };

typedef struct Clips {
    StepClips a, b, deep;
} Clips;

static int clips_open(void **state)
{
    Clips *clips = calloc(1, sizeof *clips);

    if (!clips) return -1;
    clips->a = step_clips_create(&bucket_a, captions_a, 5);
    clips->b = step_clips_create(&bucket_b, captions_b, 40);
    clips->deep = step_clips_create(&bucket_deep, captions_deep, 60);
    *state = clips;
    return 0;
}

static int clips_close(void **state)
{
    Clips *clips = *state;

    step_clips_destroy(&clips->a);
    step_clips_destroy(&clips->b);
    step_clips_destroy(&clips->deep);
    free(clips);
    return 0;
}

/* ---- what a step must give ------------------------------------------------------------------ */

/* As derived for the model (test_model.c): 2.4e-6 a layer, and two for both ends; the way back is
 * as long as the way there. Other cuts sum the same terms in another order. */
static double tolerance(const ModelCase *c)
{
    return 2.0 * 2.4e-6 * (double)(c->config.dit.num_layers + 2);
}

static double distance(const double *x, const double *y, int64_t count)
{
    double squares = 0.0;

    for (int64_t i = 0; i < count; i++) squares += (x[i] - y[i]) * (x[i] - y[i]);
    return sqrt(squares);
}

static double norm(const double *x, int64_t count)
{
    double squares = 0.0;

    for (int64_t i = 0; i < count; i++) squares += x[i] * x[i];
    return sqrt(squares);
}

static double elements_of(const ModelCase *c)
{
    return (double)(c->batch * c->tokens * c->patch);
}

/* adds a bucket's loss sum and its gradient times its elements: model_run's are of the mean */
static void add_bucket(const ModelCase *c, StepResult *sum)
{
    ModelRun run;

    assert_int_equal(model_run(c, mesh_shape(1, 1, 1, 1), RECOMPUTE_NONE, c->batch, &run), OK);
    sum->loss_sum += model_case_loss(c, c->wide) * elements_of(c);
    for (int64_t i = 0; i < c->whole.local_elements; i++)
        sum->gradient[i] += run.gradient[i] * elements_of(c);
    model_run_destroy(&run);
}

/* of a step of all clips of these buckets; b may be NULL */
static StepResult expected(const ModelCase *a, const ModelCase *b)
{
    StepResult sum = { .gradient = dm_new(a->whole.local_elements) };
    double elements = elements_of(a);

    add_bucket(a, &sum);
    if (b) {
        add_bucket(b, &sum);
        elements += elements_of(b);
    }
    for (int64_t i = 0; i < a->whole.local_elements; i++) sum.gradient[i] /= elements;
    return sum;
}

static void check(const ModelCase *c, const StepResult *got, const StepResult *want,
                  const char *what)
{
    double worst = 0.0;

    for (int64_t i = 0; i < c->whole.count; i++) {
        const Param *p = model_case_backward_order(c, i);
        const int64_t count = model_case_elements(p);
        const double *g = want->gradient + p->offset;
        const double relative = distance(got->gradient + p->offset, g, count) / norm(g, count);
        worst = fmax(worst, relative);
        if (!(relative < tolerance(c)))
            fail_msg("%s: gradient of %s differs by %g", what, p->name, relative);
    }
    const double loss = fabs(got->loss_sum - want->loss_sum) / want->loss_sum;
    if (!(loss < tolerance(c)))
        fail_msg("%s: loss sum %.9g, expected %.9g", what, got->loss_sum, want->loss_sum);
    print_message("%-28s loss differs by %.1e, gradient by %.1e of %.1e\n", what, loss, worst,
                  tolerance(c));
}

/* ---- cuts and meshes ------------------------------------------------------------------------ */

/* sizes end at 0 */
static StepSpec cut(const StepClips *clips, const int *sizes)
{
    StepSpec spec = { 0 };

    for (int64_t first = 0; *sizes > 0; first += *sizes++)
        spec.micros[spec.micro_count++] = (StepMicro){ clips, first, *sizes };
    return spec;
}

static void check_step(const StepSpec *spec, MeshShape mesh, const ModelCase *c,
                       const StepResult *want, const char *cut_name)
{
    static const char *const schedules[] = { "", " gpipe", " interleaved", " zero bubble" };
    char what[64];
    StepResult got;

    snprintf(what, sizeof what, "%s on %dx%dx%dx%d%s %.0d", cut_name, mesh.data, mesh.tensor,
             mesh.pipeline, mesh.context, schedules[spec->schedule], mesh.chunks);
    if (step_run(spec, 1, mesh, false, &got) != OK) fail_msg("%s: %s", what, status_message());
    check(c, &got, want, what);
    step_result_destroy(&got);
}

static const struct {
    const char *name;
    int sizes[STEP_MICROS];
} cuts[] = {
    { "4", { 4 } }, { "2+2", { 2, 2 } }, { "1+1+1+1", { 1, 1, 1, 1 } }, { "3+1", { 3, 1 } }
};

/* data, tensor, pipeline, context, ulysses; with one micro-batch a second replica has nothing to do
 */
static const MeshShape meshes[] = { { 1, 1, 1, 1, 0, 0 }, { 2, 1, 1, 1, 0, 0 },
                                    { 1, 2, 1, 1, 0, 0 }, { 1, 1, 2, 1, 0, 0 },
                                    { 1, 1, 3, 1, 0, 0 }, { 2, 2, 2, 1, 0, 0 },
                                    { 1, 1, 1, 4, 2, 0 }, { 2, 1, 1, 2, 1, 0 },
                                    { 1, 2, 2, 2, 0, 0 } };

static void any_cut_on_any_mesh_gives_the_same_step(void **state)
{
    const Clips *clips = *state;
    const ModelCase *c = &clips->a.c;
    StepResult want = expected(c, NULL);

    for (size_t m = 0; m < sizeof meshes / sizeof meshes[0]; m++) {
        for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
            const StepSpec spec = cut(&clips->a, cuts[i].sizes);
            check_step(&spec, meshes[m], c, &want, cuts[i].name);
        }
    }
    step_result_destroy(&want);
}

static void micro_batches_of_two_shapes_share_a_step(void **state)
{
    const Clips *clips = *state;
    StepResult want = expected(&clips->a.c, &clips->b.c);
    const StepSpec spec = {
        4,
        { { &clips->a, 0, 3 }, { &clips->b, 0, 1 }, { &clips->a, 3, 1 }, { &clips->b, 1, 1 } },
        SCHEDULE_1F1B,
    };

    for (size_t m = 0; m < sizeof meshes / sizeof meshes[0]; m++)
        check_step(&spec, meshes[m], &clips->a.c, &want, "a3 b1 a1 b1");
    step_result_destroy(&want);
}

/* ---- schedules ------------------------------------------------------------------------------ */

static const struct {
    ScheduleKind kind;
    MeshShape mesh;
} schedules[] = {
    { SCHEDULE_1F1B, { 1, 1, 2, 1, 0, 0 } },        { SCHEDULE_GPIPE, { 1, 1, 2, 1, 0, 0 } },
    { SCHEDULE_GPIPE, { 2, 1, 3, 1, 0, 0 } },       { SCHEDULE_INTERLEAVED, { 1, 1, 2, 1, 0, 2 } },
    { SCHEDULE_INTERLEAVED, { 1, 1, 2, 1, 0, 3 } }, { SCHEDULE_INTERLEAVED, { 2, 1, 3, 1, 0, 2 } },
    { SCHEDULE_INTERLEAVED, { 1, 2, 2, 1, 0, 2 } }, { SCHEDULE_ZERO_BUBBLE, { 1, 1, 2, 1, 0, 0 } },
    { SCHEDULE_ZERO_BUBBLE, { 1, 1, 4, 1, 0, 0 } }, { SCHEDULE_ZERO_BUBBLE, { 2, 2, 2, 1, 0, 0 } },
};

/* Three micro-batches are no multiple of two or four stages; two replicas have two and one. */
static void any_schedule_gives_the_same_step(void **state)
{
    static const int three[] = { 2, 1, 1, 0 };
    const Clips *clips = *state;
    const ModelCase *c = &clips->deep.c;
    StepResult want = expected(c, NULL);

    for (size_t k = 0; k < sizeof schedules / sizeof schedules[0]; k++) {
        StepSpec spec = cut(&clips->deep, cuts[2].sizes);
        spec.schedule = schedules[k].kind;
        check_step(&spec, schedules[k].mesh, c, &want, cuts[2].name);
        spec = cut(&clips->deep, three);
        spec.schedule = schedules[k].kind;
        check_step(&spec, schedules[k].mesh, c, &want, "2+1+1");
    }
    step_result_destroy(&want);
}

/* What is late is late only: the same sums in the same order. */
static void schedules_of_one_mesh_give_the_same_bits(void **state)
{
    static const int sizes[] = { 1, 2, 1, 0 };
    static const ScheduleKind others[] = { SCHEDULE_GPIPE, SCHEDULE_ZERO_BUBBLE };
    const Clips *clips = *state;
    const int64_t n = clips->deep.c.whole.local_elements;
    const MeshShape mesh = mesh_shape(2, 1, 3, 1);
    StepSpec spec = cut(&clips->deep, sizes);
    StepResult plain, other;

    if (step_run(&spec, 1, mesh, false, &plain) != OK) fail_msg("%s", status_message());
    for (size_t k = 0; k < sizeof others / sizeof others[0]; k++) {
        spec.schedule = others[k];
        if (step_run(&spec, 1, mesh, false, &other) != OK) fail_msg("%s", status_message());
        assert_memory_equal(&other.loss_sum, &plain.loss_sum, sizeof(double));
        assert_memory_equal(other.gradient, plain.gradient, (size_t)n * sizeof(double));
        step_result_destroy(&other);
    }
    step_result_destroy(&plain);
}

/* Shapes and numbers of micro-batches change from step to step, for late gradients too. */
static void schedules_leave_nothing_behind(void **state)
{
    const Clips *clips = *state;
    const int64_t n = clips->deep.c.whole.local_elements;

    for (size_t k = 1; k < sizeof schedules / sizeof schedules[0]; k++) {
        const StepSpec steps[] = {
            { 2, { { &clips->deep, 0, 2 }, { &clips->deep, 2, 1 } }, schedules[k].kind },
            { 4,
              { { &clips->deep, 0, 1 },
                { &clips->deep, 1, 1 },
                { &clips->deep, 2, 1 },
                { &clips->deep, 3, 1 } },
              schedules[k].kind },
            { 2, { { &clips->deep, 0, 2 }, { &clips->deep, 2, 1 } }, schedules[k].kind },
        };
        StepResult row[3];
        if (step_run(steps, 3, schedules[k].mesh, false, row) != OK)
            fail_msg("%s", status_message());
        assert_memory_equal(row[2].gradient, row[0].gradient, (size_t)n * sizeof(double));
        for (int s = 0; s < 3; s++) step_result_destroy(&row[s]);
    }
}

/* ---- one step after the other --------------------------------------------------------------- */

static void steps_leave_nothing_behind(void **state)
{
    const Clips *clips = *state;
    const StepSpec steps[] = {
        { 2, { { &clips->a, 0, 2 }, { &clips->a, 2, 2 } }, SCHEDULE_1F1B },
        { 1, { { &clips->b, 0, 2 } }, SCHEDULE_1F1B },
        { 4,
          { { &clips->a, 0, 1 }, { &clips->a, 1, 1 }, { &clips->b, 0, 1 }, { &clips->a, 2, 1 } },
          SCHEDULE_1F1B },
        { 2, { { &clips->a, 0, 2 }, { &clips->a, 2, 2 } }, SCHEDULE_1F1B }
    };
    const int count = sizeof steps / sizeof steps[0];
    const int64_t n = clips->a.c.whole.local_elements;

    for (size_t m = 0; m < sizeof meshes / sizeof meshes[0]; m++) {
        StepResult row[STEP_RUNS];
        if (step_run(steps, count, meshes[m], false, row) != OK) fail_msg("%s", status_message());
        for (int s = 0; s < count; s++) {
            StepResult fresh;
            if (step_run(&steps[s], 1, meshes[m], false, &fresh) != OK)
                fail_msg("%s", status_message());
            /* the same sums in the same order: the same bits */
            assert_memory_equal(&row[s].loss_sum, &fresh.loss_sum, sizeof(double));
            assert_memory_equal(row[s].gradient, fresh.gradient, (size_t)n * sizeof(double));
            step_result_destroy(&fresh);
        }
        for (int s = 0; s < count; s++) step_result_destroy(&row[s]);
    }
}

/* ---- shards ---------------------------------------------------------------------------------- */

/* The last step leaves a replica without work; it takes part in every reduction all the same. */
static void shards_hold_the_bits_of_the_whole_sum(void **state)
{
    static const MeshShape replicated[] = { { 2, 1, 1, 1, 0, 0 }, { 3, 1, 1, 1, 0, 0 },
                                            { 4, 1, 1, 1, 0, 0 }, { 2, 2, 1, 1, 0, 0 },
                                            { 2, 1, 2, 1, 0, 0 }, { 2, 2, 2, 1, 0, 0 } };
    const Clips *clips = *state;
    const StepSpec steps[] = { cut(&clips->a, cuts[2].sizes), cut(&clips->a, cuts[0].sizes) };
    const int64_t n = clips->a.c.whole.local_elements;

    for (size_t m = 0; m < sizeof replicated / sizeof replicated[0]; m++) {
        StepResult whole[2], shards[2];
        if (step_run(steps, 2, replicated[m], false, whole) != OK) fail_msg("%s", status_message());
        if (step_run(steps, 2, replicated[m], true, shards) != OK) fail_msg("%s", status_message());
        for (int s = 0; s < 2; s++) {
            assert_memory_equal(&shards[s].loss_sum, &whole[s].loss_sum, sizeof(double));
            assert_memory_equal(shards[s].gradient, whole[s].gradient, (size_t)n * sizeof(double));
            step_result_destroy(&whole[s]);
            step_result_destroy(&shards[s]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_on_any_mesh_gives_the_same_step),
        cmocka_unit_test(micro_batches_of_two_shapes_share_a_step),
        cmocka_unit_test(any_schedule_gives_the_same_step),
        cmocka_unit_test(schedules_of_one_mesh_give_the_same_bits),
        cmocka_unit_test(schedules_leave_nothing_behind),
        cmocka_unit_test(steps_leave_nothing_behind),
        cmocka_unit_test(shards_hold_the_bits_of_the_whole_sum),
    };
    return cmocka_run_group_tests(tests, clips_open, clips_close);
}
