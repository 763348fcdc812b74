/* The sampling schedule and loop: arithmetic against values worked out by hand or in closed form.
 */
#include "core/ops.h"
#include "core/solver/denoise.h"
#include "core/solver/guidance.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static Device device;

static int open_device(void **state)
{
    (void)state;
    return device_open(&device, "cpu", NULL, 1, false) == OK ? 0 : -1;
}

static void assert_near(double value, double expected, double tolerance)
{
    if (!(fabs(value - expected) <= tolerance)) {
        fail_msg("%.9g is not %.9g within %g", value, expected, tolerance);
    }
}

/* ---- schedules ------------------------------------------------------------------------------- */

static void sigmas_fall_from_one_to_zero(void **state)
{
    float sigmas[MAX_STEPS + 1], t[MAX_STEPS];

    (void)state;
    assert_int_equal(sigmas_make(SOLVER_EULER, SIGMAS_OWN, 4, 1, sigmas, t), OK);
    for (int i = 0; i <= 4; i++) assert_near((double)sigmas[i], 1 - i / 4.0, 0);
    /* 3 s / (1 + 2 s) at 3/4, 1/2, 1/4 */
    assert_int_equal(sigmas_make(SOLVER_EULER, SIGMAS_OWN, 4, 3, sigmas, t), OK);
    assert_near((double)sigmas[0], 1, 0);
    assert_near((double)sigmas[1], 0.9, 6e-8); /* rounding of F32 */
    assert_near((double)sigmas[2], 0.75, 6e-8);
    assert_near((double)sigmas[3], 0.5, 6e-8);
    assert_near((double)sigmas[4], 0, 0);
    for (int i = 0; i < 4; i++) assert_near((double)t[i], (double)(1000 * sigmas[i]), 0);
    assert_int_equal(sigmas_make(SOLVER_EULER, SIGMAS_OWN, MAX_STEPS, 5, sigmas, t), OK);
    for (int i = 0; i < MAX_STEPS; i++) assert_true(sigmas[i + 1] < sigmas[i]);
}

/* Spec 16, N = 4, shift 5; seven digits are published, which timesteps have 1000 times. */
static const struct {
    SolverKind solver;
    SigmaSchedule schedule;
    double sigmas[5], timesteps[4];
} published[] = {
    { SOLVER_UNIPC,
      SIGMAS_DIFFUSERS,
      { .9999990, .9375781, .8336109, .6259361, 0 },
      { 999, 937, 833, 625 } },
    { SOLVER_UNIPC,
      SIGMAS_ORIGINAL,
      { .9997998, .9372654, .8330554, .6246873, 0 },
      { 999, 937, 833, 624 } },
    { SOLVER_EULER,
      SIGMAS_DIFFUSERS,
      { 1.0, .9097072, .7173175, .0244141, 0 },
      { 1000, 909.7072, 717.3175, 24.4141 } },
    { SOLVER_HEUN,
      SIGMAS_DIFFUSERS,
      { 1.0, .9097072, .7173175, .0244141, 0 },
      { 1000, 909.7072, 717.3175, 24.4141 } },
};

static void schedules_are_the_published_ones(void **state)
{
    float sigmas[5], t[4];

    (void)state;
    for (size_t k = 0; k < sizeof published / sizeof published[0]; k++) {
        assert_int_equal(sigmas_make(published[k].solver, published[k].schedule, 4, 5, sigmas, t),
                         OK);
        for (int i = 0; i < 5; i++) assert_near((double)sigmas[i], published[k].sigmas[i], 1.1e-7);
        for (int i = 0; i < 4; i++) assert_near((double)t[i], published[k].timesteps[i], 1.1e-4);
    }
}

static void what_no_schedule_can_be_is_refused(void **state)
{
    static const struct {
        SolverKind solver;
        SigmaSchedule schedule;
        int steps;
        double shift;
        const char *why;
    } rows[] = {
        { SOLVER_EULER, SIGMAS_OWN, 0, 1, "steps is 0" },
        { SOLVER_EULER, SIGMAS_OWN, MAX_STEPS + 1, 1, "steps is 1001" },
        { SOLVER_EULER, SIGMAS_OWN, 1, 0, "shift is 0" },
        { SOLVER_UNIPC, SIGMAS_DIFFUSERS, 1, NAN, "shift is nan" },
        { SOLVER_UNIPC, SIGMAS_OWN, 4, 1, "solver unipc has no schedule \"own\"" },
        { SOLVER_EULER, SIGMAS_ORIGINAL, 4, 1, "solver euler has no schedule \"original\"" },
        { SOLVER_HEUN, SIGMAS_ORIGINAL, 4, 1, "goes with unipc and dpm++" },
    };
    float sigmas[5], t[4];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(
            sigmas_make(rows[i].solver, rows[i].schedule, rows[i].steps, rows[i].shift, sigmas, t),
            ERR_USAGE);
        assert_non_null(strstr(status_message(), rows[i].why));
    }
}

static void strength_leaves_out_the_first_steps(void **state)
{
    SolverOptions o = { .kind = SOLVER_HEUN, .sigmas = SIGMAS_DIFFUSERS, .steps = 10, .shift = 1 };
    Solver solver;

    (void)state;
    o.strength = 0.35; /* 3 of 10 steps, as 10 - int(3.5) = 7 */
    assert_int_equal(solver_plan(&o, &solver), OK);
    assert_int_equal(solver.first, 7);
    assert_int_equal(solver.evaluations, 5);
    static const int steps[] = { 7, 7, 8, 8, 9 }, at[] = { 7, 8, 8, 9, 9 };
    for (int i = 0; i < 5; i++) {
        const SolverPoint p = solver_point(&solver, i);
        assert_int_equal(p.step, steps[i]);
        assert_near((double)p.sigma, (double)solver.sigmas[at[i]], 0);
        assert_near((double)p.t, (double)(1000 * solver.sigmas[at[i]]), 0);
        assert_int_equal(p.ends_step, i == 1 || i == 3 || i == 4);
    }
    o.strength = 0.09;
    assert_int_equal(solver_plan(&o, &solver), ERR_USAGE);
    o.strength = 1.01;
    assert_int_equal(solver_plan(&o, &solver), ERR_USAGE);
}

static void each_expert_has_its_guidance(void **state)
{
    DenoiseOptions o = {
        .steps = 2, .guidance = 4, .shift = 3, .boundary = 0.875, .guidance_low = 3
    };
    Solver solver;

    (void)state;
    assert_near(denoise_guidance(&o, 875), 4, 0); /* t >= 875: the expert of high noise */
    assert_near(denoise_guidance(&o, 874.5F), 3, 0);
    assert_int_equal(denoise_plan(&o, &solver), OK);
    o.guidance_low = 1;
    assert_int_equal(denoise_plan(&o, &solver), ERR_USAGE);
    o = (DenoiseOptions){ .steps = 2, .guidance = 4, .shift = 3 };
    assert_near(denoise_guidance(&o, 0), 4, 0);
}

static void guidance_extrapolates_from_unconditional(void **state)
{
    float cond[] = { 1, 2, -3 }, uncond[] = { 0, 4, -1 };
    const float expected[] = { 4, -4, -9 }; /* u + 4 (c - u) */

    (void)state;
    assert_true(guidance_is_on(4) && guidance_is_on(0) && !guidance_is_on(1));
    assert_int_equal(guidance_combine(&device, tensor_of(cond, F32, SHAPE(3)),
                                      tensor_of(uncond, F32, SHAPE(3)), 4),
                     OK);
    for (int i = 0; i < 3; i++) assert_near((double)cond[i], (double)expected[i], 1e-6);
}

/* ---- the loop -------------------------------------------------------------------------------- */

enum { SAMPLES = 2, TOKENS = 3, PATCH = 4, COUNT = SAMPLES * TOKENS * PATCH };

typedef struct Model {
    SolverKind solver;
    int calls, watched;
    int64_t rows;
    float data; /* what the model was "trained" on: a single point */
    float bad_at;
} Model;

/* The exact velocity when all data is one point: x = (1 - s) data + s noise, so v = noise - data =
 * (x - data) / s. Any number of Euler steps then ends exactly at the point. Unconditional rows
 * belong to the point 0. */
static Status point_velocity(void *context, Tensor v, Tensor x, SolverPoint at)
{
    Model *model = context;
    const float sigma = at.sigma;
    const int64_t half = tensor_count(x) / 2;

    model->calls++;
    model->rows = x.shape[0];
    for (int64_t i = 0; i < tensor_count(x); i++) {
        const float data = model->rows == 2 * SAMPLES && i >= half ? 0 : model->data;
        tensor_f32(v)[i] = (tensor_f32(x)[i] - data) / sigma;
    }
    if (sigma <= model->bad_at) tensor_f32(v)[5] = NAN;
    return OK;
}

static void watch(void *watcher, int done)
{
    ((Model *)watcher)->watched = done;
}

static Status run(Model *model, int steps, double guidance, float *x)
{
    const DenoiseOptions options = { .steps = steps,
                                     .guidance = guidance,
                                     .shift = 3,
                                     .on_step = watch,
                                     .watcher = model,
                                     .solver = model->solver,
                                     .sigmas = model->solver ? SIGMAS_DIFFUSERS : SIGMAS_OWN };
    const Tensor t = tensor_of(x, F32, SHAPE(SAMPLES, TOKENS, PATCH));
    Arena scratch = { 0 };
    Status s;

    TRY(arena_create(&scratch, "test", denoise_scratch(SAMPLES, TOKENS, PATCH, &options)));
    s = denoise_noise(&device, t, 1, 10);
    if (s == OK) s = denoise_run(&device, point_velocity, model, &options, &scratch, t);
    assert_int_equal(scratch.used, 0);
    arena_destroy(&scratch);
    return s;
}

static void check_reaches_the_point(SolverKind solver)
{
    for (int steps = 1; steps <= 30; steps += 29) {
        Model model = { .solver = solver, .data = 0.7F };
        float x[COUNT];

        assert_int_equal(run(&model, steps, 1, x), OK);
        assert_int_equal(model.calls, solver == SOLVER_HEUN ? 2 * steps - 1 : steps);
        assert_int_equal(model.watched, steps);
        assert_int_equal(model.rows, SAMPLES);
        /* each step rounds values of size up to 4 once or twice: 30 * 4 * 2^-23 */
        for (int i = 0; i < COUNT; i++) assert_near((double)x[i], 0.7, 1.5e-5);
    }
}

static void every_solver_reaches_the_point_that_the_flow_leads_to(void **state)
{
    (void)state;
    for (int kind = SOLVER_EULER; kind <= SOLVER_HEUN; kind++)
        check_reaches_the_point((SolverKind)kind);
}

/* v = u + g (c - u) with c, u as above leads to the point g * data. */
static void guidance_uses_the_second_half_as_unconditional(void **state)
{
    Model model = { .data = 0.5F };
    float x[COUNT];

    (void)state;
    assert_int_equal(run(&model, 10, 4, x), OK);
    assert_int_equal(model.rows, 2 * SAMPLES);
    for (int i = 0; i < COUNT; i++) assert_near((double)x[i], 2.0, 1e-4);
}

/* dx/ds = x/2 + 3 s / 10 from x(1) = 1 to s = 0 has x(0) = 2.8 e^(-1/2) - 1.2 */
static Status linear_velocity(void *context, Tensor v, Tensor x, SolverPoint at)
{
    float *trajectory = context; /* x of each evaluation, or NULL */

    for (int64_t i = 0; i < tensor_count(x); i++)
        tensor_f32(v)[i] = 0.5F * tensor_f32(x)[i] + 0.3F * at.sigma;
    if (trajectory) trajectory[at.step] = *tensor_f32(x);
    return OK;
}

static float linear_run(const DenoiseOptions *options, float *trajectory)
{
    float x[1] = { 1 };
    Arena scratch = { 0 };

    assert_int_equal(arena_create(&scratch, "test", denoise_scratch(1, 1, 1, options)), OK);
    assert_int_equal(denoise_run(&device, linear_velocity, trajectory, options, &scratch,
                                 tensor_of(x, F32, SHAPE(1, 1, 1))),
                     OK);
    arena_destroy(&scratch);
    return x[0];
}

static double linear_error(SolverKind solver, SigmaSchedule sigmas, int steps)
{
    const DenoiseOptions options = {
        .steps = steps, .guidance = 1, .shift = 1, .solver = solver, .sigmas = sigmas
    };
    return fabs((double)linear_run(&options, NULL) - (2.8 * exp(-0.5) - 1.2));
}

/* The error halves when the steps of a method of first order double, and quarters at second order.
 * (Of the multistep methods the first and the last step are of first order: their errors fall as
 * those of the second, for these are short steps in lambda or end where sigma is.) */
static void euler_converges_at_first_order_and_heun_at_second(void **state)
{
    (void)state;
    assert_near(linear_error(SOLVER_EULER, SIGMAS_OWN, 50) /
                    linear_error(SOLVER_EULER, SIGMAS_OWN, 100),
                2, 0.05);
    /* h/2 times x'' = x'/2 + 0.3, which is at most 0.7 */
    assert_true(linear_error(SOLVER_EULER, SIGMAS_OWN, 100) < 0.005 * 0.7);
    assert_near(linear_error(SOLVER_HEUN, SIGMAS_DIFFUSERS, 5) /
                    linear_error(SOLVER_HEUN, SIGMAS_DIFFUSERS, 9),
                4, 0.4);
}

/* Spec 16: x = 1, N = 5, shift 3; nine digits are published. Each x is the sum of a few terms below
 * 2, rounded to F32, of at most 5 steps: 5 * 4 * 2^-24 ~ 1.2e-6 */
static void unipc_follows_the_published_trajectories(void **state)
{
    static const double trajectories[2][5] = {
        { .938533357, .862312390, .767377867, .645249486, .451170140 },
        { .938451884, .862378417, .767054491, .644728093, .451647455 },
    };

    (void)state;
    for (int original = 0; original < 2; original++) {
        const DenoiseOptions options = { .steps = 5,
                                         .guidance = 1,
                                         .shift = 3,
                                         .solver = SOLVER_UNIPC,
                                         .sigmas = original ? SIGMAS_ORIGINAL : SIGMAS_DIFFUSERS };
        float x[6];

        x[5] = linear_run(&options, x);
        for (int i = 0; i < 5; i++)
            assert_near((double)x[i + 1], trajectories[original][i], 1.2e-6);
    }
}

static void what_is_not_finite_stops_the_loop_at_once(void **state)
{
    Model model = { .data = 1, .bad_at = 0.8F };
    float x[COUNT];

    (void)state;
    assert_int_equal(run(&model, 30, 1, x), ERR_DEVICE);
    assert_non_null(strstr(status_message(), "not finite"));
    assert_true(model.calls < 30);
}

static void noise_belongs_to_the_request_and_not_to_the_batch(void **state)
{
    float together[COUNT], alone[COUNT / SAMPLES];

    (void)state;
    assert_int_equal(
        denoise_noise(&device, tensor_of(together, F32, SHAPE(SAMPLES, TOKENS, PATCH)), 5, 7), OK);
    assert_int_equal(denoise_noise(&device, tensor_of(alone, F32, SHAPE(1, TOKENS, PATCH)), 5, 8),
                     OK);
    assert_memory_equal(alone, together + COUNT / SAMPLES, sizeof(alone));
    assert_memory_not_equal(alone, together, sizeof(alone));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sigmas_fall_from_one_to_zero),
        cmocka_unit_test(schedules_are_the_published_ones),
        cmocka_unit_test(what_no_schedule_can_be_is_refused),
        cmocka_unit_test(strength_leaves_out_the_first_steps),
        cmocka_unit_test(each_expert_has_its_guidance),
        cmocka_unit_test(guidance_extrapolates_from_unconditional),
        cmocka_unit_test(every_solver_reaches_the_point_that_the_flow_leads_to),
        cmocka_unit_test(guidance_uses_the_second_half_as_unconditional),
        cmocka_unit_test(euler_converges_at_first_order_and_heun_at_second),
        cmocka_unit_test(unipc_follows_the_published_trajectories),
        cmocka_unit_test(what_is_not_finite_stops_the_loop_at_once),
        cmocka_unit_test(noise_belongs_to_the_request_and_not_to_the_batch),
    };
    return cmocka_run_group_tests_name("solver", tests, open_device, NULL);
}
