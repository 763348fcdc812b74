/* The learning rate of a step. */
#include "train/lr_schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const TrainKeys cosine = {
    .steps = 110, .lr = 2e-3, .warmup = 10, .schedule = LR_COSINE, .decay_floor = 0.1
};

/* a handful of roundings in double */
static void assert_lr(const TrainKeys *keys, int64_t step, double want)
{
    const double got = lr_at_step(keys, step);

    if (!(fabs(got - want) <= 1e-15 * keys->lr * 8))
        fail_msg("step %lld: %.17g, expected %.17g", (long long)step, got, want);
}

static void warm_up_rises_in_a_line_to_the_peak(void **state)
{
    (void)state;
    for (int64_t step = 0; step < 10; step++)
        assert_lr(&cosine, step, 2e-3 * (double)(step + 1) / 10);
}

static void cosine_falls_from_the_peak_to_the_floor(void **state)
{
    (void)state;
    assert_lr(&cosine, 10, 2e-3);
    /* a quarter of the way: (1 + cos(pi / 4)) / 2 */
    assert_lr(&cosine, 35, 2e-3 * (0.1 + 0.9 * (0.5 + 0.25 * sqrt(2.0))));
    assert_lr(&cosine, 60, 2e-3 * (0.1 + 0.9 * 0.5));
    assert_lr(&cosine, 110, 2e-4);
    for (int64_t step = 10; step < 109; step++)
        assert_true(lr_at_step(&cosine, step + 1) < lr_at_step(&cosine, step));
    /* the last step is one short of the floor: 1 - cos(pi / 100) of the way */
    assert_true(lr_at_step(&cosine, 109) < 2e-4 * 1.0025);
}

static void beyond_the_end_the_floor_stays(void **state)
{
    (void)state;
    assert_lr(&cosine, 111, 2e-4);
    assert_lr(&cosine, 1000000000000, 2e-4);
}

static void constant_stays_at_the_peak_after_warm_up(void **state)
{
    TrainKeys keys = cosine;

    (void)state;
    keys.schedule = LR_CONSTANT;
    assert_lr(&keys, 0, 2e-4);
    for (int64_t step = 9; step < 120; step++) assert_lr(&keys, step, 2e-3);
}

static void warm_up_may_be_nothing_or_everything(void **state)
{
    TrainKeys keys = cosine;

    (void)state;
    keys.warmup = 0;
    assert_lr(&keys, 0, 2e-3);
    keys.warmup = keys.steps;
    assert_lr(&keys, 109, 2e-3);
    assert_lr(&keys, 110, 2e-4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(warm_up_rises_in_a_line_to_the_peak),
        cmocka_unit_test(cosine_falls_from_the_peak_to_the_floor),
        cmocka_unit_test(beyond_the_end_the_floor_stays),
        cmocka_unit_test(constant_stays_at_the_peak_after_warm_up),
        cmocka_unit_test(warm_up_may_be_nothing_or_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
