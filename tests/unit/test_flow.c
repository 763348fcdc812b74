/* Training's draws: timesteps distributed as promised, noise as a function of the sample alone. */
#include "core/model/flow.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { DRAWS = 40000, CLIPS = 3, TOKENS = 5, PATCH = 12, VALUES = TOKENS * PATCH };

/* standard normal quantiles (any table) */
static const struct {
    double share, z;
} quantiles[] = { { 0.01, -2.3263478740 }, { 0.1, -1.2815515655 },
                  { 0.25, -0.6744897502 }, { 0.5, 0.0 },
                  { 0.75, 0.6744897502 },  { 0.9, 1.2815515655 },
                  { 0.99, 2.3263478740 } };

/* The closed form: the map from the normal (or the uniform) number to t rises, so it carries
 * quantiles to quantiles. */
static double quantile(const FlowOptions *o, double share, double z)
{
    double u = share;

    if (o->logit_normal) u = 1.0 / (1.0 + exp(-(o->mean + o->std * z)));
    return o->shift * u / (1.0 + (o->shift - 1.0) * u);
}

static void check_quantiles(const FlowOptions *options)
{
    for (size_t i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        const double p = quantiles[i].share, edge = quantile(options, p, quantiles[i].z);
        int64_t below = 0;
        for (int64_t n = 0; n < DRAWS; n++) {
            const double t = flow_timestep(options, n);
            assert_true(t > 0.0 && t < 1.0);
            below += t < edge;
        }
        /* a count of independent draws: four standard deviations */
        const double tolerance = 4.0 * sqrt(p * (1.0 - p) / DRAWS);
        const double share = (double)below / DRAWS;
        if (!(fabs(share - p) < tolerance))
            fail_msg("%.4f of the draws are below %.4f, expected %.2f +- %.4f", share, edge, p,
                     tolerance);
    }
}

static void logit_normal_timesteps_have_their_quantiles(void **state)
{
    const FlowOptions options[] = {
        { .seed = 1, .logit_normal = true, .mean = 0.0, .std = 1.0, .shift = 1.0 },
        { .seed = 2, .logit_normal = true, .mean = 0.5, .std = 1.5, .shift = 5.0 },
        { .seed = 3, .logit_normal = true, .mean = -0.7, .std = 0.6, .shift = 0.5 },
    };

    (void)state;
    for (int i = 0; i < 3; i++) check_quantiles(&options[i]);
}

static void uniform_timesteps_have_their_quantiles(void **state)
{
    const FlowOptions options[] = { { .seed = 4, .shift = 1.0 }, { .seed = 5, .shift = 3.0 } };

    (void)state;
    for (int i = 0; i < 2; i++) check_quantiles(&options[i]);
}

static void a_timestep_is_a_function_of_seed_and_sample(void **state)
{
    const FlowOptions a = { .seed = 1, .logit_normal = true, .std = 1.0, .shift = 3.0 };
    FlowOptions b = a;
    const int64_t far = (int64_t)1 << 40;
    double forwards[100];
    int same = 0;

    (void)state;
    for (int64_t n = 0; n < 100; n++) forwards[n] = flow_timestep(&a, far + n);
    b.seed = 2;
    for (int64_t n = 99; n >= 0; n--) {
        assert_true(flow_timestep(&a, far + n) == forwards[n]);
        same += flow_timestep(&b, far + n) == forwards[n];
        /* numbers that agree in their low 32 bits are other samples */
        same += flow_timestep(&a, n) == forwards[n];
    }
    assert_int_equal(same, 0);
}

static void noise_rows_are_the_samples_own(void **state)
{
    const FlowOptions options = { .seed = 9 };
    const int64_t samples[CLIPS] = { 12, ((int64_t)1 << 40) + 7, 3 };
    const int64_t other[2] = { 3, 12 };
    float noise[CLIPS * VALUES], again[2 * VALUES];
    Device dev;

    (void)state;
    assert_int_equal(device_open(&dev, "cpu", NULL, 1, false), OK);
    assert_int_equal(
        flow_noise(&dev, &options, tensor_of(noise, F32, SHAPE(CLIPS, TOKENS, PATCH)), samples, 0),
        OK);
    for (int i = 0; i < CLIPS; i++) {
        const Rng rng = rng_make(9, RNG_NOISE, (uint64_t)samples[i]);
        for (int e = 0; e < VALUES; e++)
            assert_true(noise[i * VALUES + e] == rng_normal(rng, (uint64_t)e));
    }
    /* in another batch, in another order: the same rows */
    assert_int_equal(
        flow_noise(&dev, &options, tensor_of(again, F32, SHAPE(2, TOKENS, PATCH)), other, 0), OK);
    assert_memory_equal(again, noise + 2 * VALUES, VALUES * sizeof(float));
    assert_memory_equal(again + VALUES, noise, VALUES * sizeof(float));
}

/* Noise, its timestep and its caption's fate must not come from the same random words. */
static void noise_and_timestep_do_not_go_together(void **state)
{
    const FlowOptions options = { .seed = 1, .logit_normal = true, .std = 1.0, .shift = 1.0 };
    double product = 0.0;

    (void)state;
    for (int64_t n = 0; n < DRAWS; n++) {
        const double t = flow_timestep(&options, n);
        product +=
            log(t / (1.0 - t)) * (double)rng_normal(rng_make(1, RNG_NOISE, (uint64_t)n), 0) / DRAWS;
    }
    /* the mean of products of independent standard normals: four standard deviations */
    assert_true(fabs(product) < 4.0 / sqrt(DRAWS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logit_normal_timesteps_have_their_quantiles),
        cmocka_unit_test(uniform_timesteps_have_their_quantiles),
        cmocka_unit_test(a_timestep_is_a_function_of_seed_and_sample),
        cmocka_unit_test(noise_rows_are_the_samples_own),
        cmocka_unit_test(noise_and_timestep_do_not_go_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
