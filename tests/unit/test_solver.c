/* The sampling schedule and loop: arithmetic against values worked out by hand or in closed form.
 */
#include "core/ops.h"
#include "core/solver/denoise.h"
#include "core/solver/flow_euler.h"
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

/* Published schedules, N = 4, shift 5: linspace(1, 0.001) and linspace(0.999, 0), shifted once. */
static void shift_meets_the_published_schedules(void **state)
{
    const double diffusers[] = { 1, .9375781, .8336109, .6259361 };
    const double original[] = { .9997998, .9372654, .8330554, .6246873 };

    (void)state;
    for (int i = 0; i < 4; i++) {
        /* seven digits were published */
        assert_near(flow_shift(1 - 0.999 * i / 4, 5), diffusers[i], 6e-8);
        assert_near(flow_shift(0.999 - 0.999 * i / 4, 5), original[i], 6e-8);
    }
}

static void sigmas_fall_from_one_to_zero(void **state)
{
    float sigmas[MAX_STEPS + 1];

    (void)state;
    assert_int_equal(flow_euler_sigmas(4, 1, sigmas), OK);
    for (int i = 0; i <= 4; i++) assert_near((double)sigmas[i], 1 - i / 4.0, 0);
    /* 3 s / (1 + 2 s) at 3/4, 1/2, 1/4 */
    assert_int_equal(flow_euler_sigmas(4, 3, sigmas), OK);
    assert_near((double)sigmas[0], 1, 0);
    assert_near((double)sigmas[1], 0.9, 6e-8); /* rounding of F32 */
    assert_near((double)sigmas[2], 0.75, 6e-8);
    assert_near((double)sigmas[3], 0.5, 6e-8);
    assert_near((double)sigmas[4], 0, 0);
    assert_int_equal(flow_euler_sigmas(MAX_STEPS, 5, sigmas), OK);
    for (int i = 0; i < MAX_STEPS; i++) assert_true(sigmas[i + 1] < sigmas[i]);
}

static void steps_and_shift_out_of_range_are_refused(void **state)
{
    float sigmas[2];

    (void)state;
    assert_int_equal(flow_euler_sigmas(0, 1, sigmas), ERR_USAGE);
    assert_int_equal(flow_euler_sigmas(MAX_STEPS + 1, 1, sigmas), ERR_USAGE);
    assert_int_equal(flow_euler_sigmas(1, 0, sigmas), ERR_USAGE);
    assert_int_equal(flow_euler_sigmas(1, NAN, sigmas), ERR_USAGE);
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
    int calls, watched;
    int64_t rows;
    float data; /* what the model was "trained" on: a single point */
    float bad_at;
} Model;

/* The exact velocity when all data is one point: x = (1 - s) data + s noise, so v = noise - data =
 * (x - data) / s. Any number of Euler steps then ends exactly at the point. Unconditional rows
 * belong to the point 0. */
static Status point_velocity(void *context, Tensor v, Tensor x, float sigma)
{
    Model *model = context;
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
    const DenoiseOptions options = {
        .steps = steps, .guidance = guidance, .shift = 3, .on_step = watch, .watcher = model
    };
    const Tensor t = tensor_of(x, F32, SHAPE(SAMPLES, TOKENS, PATCH));
    Arena scratch = { 0 };
    Status s;

    TRY(arena_create(&scratch, "test", denoise_scratch(SAMPLES, TOKENS, PATCH, guidance)));
    s = denoise_noise(&device, t, 1, 10);
    if (s == OK) s = denoise_run(&device, point_velocity, model, &options, &scratch, t);
    assert_int_equal(scratch.used, 0);
    arena_destroy(&scratch);
    return s;
}

static void the_loop_reaches_the_point_that_the_flow_leads_to(void **state)
{
    for (int steps = 1; steps <= 30; steps += 29) {
        Model model = { .data = 0.7F };
        float x[COUNT];

        (void)state;
        assert_int_equal(run(&model, steps, 1, x), OK);
        assert_int_equal(model.calls, steps);
        assert_int_equal(model.watched, steps);
        assert_int_equal(model.rows, SAMPLES);
        /* each step rounds values of size up to 4 once or twice: 30 * 4 * 2^-23 */
        for (int i = 0; i < COUNT; i++) assert_near((double)x[i], 0.7, 1.5e-5);
    }
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

/* dx/ds = x/2 + 3 s / 10 from x(1) = 1 to s = 0 has x(0) = 2.8 e^(-1/2) - 1.2: Euler's error must
 * halve when the steps double. */
static Status linear_velocity(void *context, Tensor v, Tensor x, float sigma)
{
    (void)context;
    for (int64_t i = 0; i < tensor_count(x); i++) {
        tensor_f32(v)[i] = 0.5F * tensor_f32(x)[i] + 0.3F * sigma;
    }
    return OK;
}

static double euler_error(int steps)
{
    const DenoiseOptions options = { .steps = steps, .guidance = 1, .shift = 1 };
    float x[1] = { 1 };
    Arena scratch = { 0 };

    assert_int_equal(arena_create(&scratch, "test", denoise_scratch(1, 1, 1, 1)), OK);
    assert_int_equal(denoise_run(&device, linear_velocity, NULL, &options, &scratch,
                                 tensor_of(x, F32, SHAPE(1, 1, 1))),
                     OK);
    arena_destroy(&scratch);
    return fabs((double)x[0] - (2.8 * exp(-0.5) - 1.2));
}

static void euler_converges_at_first_order(void **state)
{
    (void)state;
    assert_near(euler_error(50) / euler_error(100), 2, 0.05);
    /* h/2 times x'' = x'/2 + 0.3, which is at most 0.7 */
    assert_true(euler_error(100) < 0.005 * 0.7);
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
        cmocka_unit_test(shift_meets_the_published_schedules),
        cmocka_unit_test(sigmas_fall_from_one_to_zero),
        cmocka_unit_test(steps_and_shift_out_of_range_are_refused),
        cmocka_unit_test(guidance_extrapolates_from_unconditional),
        cmocka_unit_test(the_loop_reaches_the_point_that_the_flow_leads_to),
        cmocka_unit_test(guidance_uses_the_second_half_as_unconditional),
        cmocka_unit_test(euler_converges_at_first_order),
        cmocka_unit_test(what_is_not_finite_stops_the_loop_at_once),
        cmocka_unit_test(noise_belongs_to_the_request_and_not_to_the_batch),
    };
    return cmocka_run_group_tests_name("solver", tests, open_device, NULL);
}
