/* Timesteps of an expert's part: all in it, and distributed as the whole is there. */
#include "core/model/flow.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { DRAWS = 40000 };

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Draws of the whole that fall into [low, high), however many of DRAWS; the same number drawn
 * there. Kolmogorov and Smirnov: at n and m draws the largest distance of the two distributions is
 * above 1.95 sqrt((n + m) / (n m)) once in a thousand times. */
static void compare(FlowOptions options, double low, double high)
{
    double *inside = malloc(DRAWS * sizeof *inside), *drawn = malloc(DRAWS * sizeof *drawn);
    int64_t n = 0;
    for (int64_t i = 0; i < DRAWS; i++) {
        const double t = flow_timestep(&options, i);
        if (t >= low && t < high) inside[n++] = t;
    }
    options.low = low;
    options.high = high;
    options.seed++;
    for (int64_t i = 0; i < DRAWS; i++) {
        drawn[i] = flow_timestep(&options, i);
        assert_true(drawn[i] >= low - 1e-12 && drawn[i] <= high + 1e-12);
    }
    assert_true(n > 500);
    qsort(inside, (size_t)n, sizeof *inside, by_value);
    qsort(drawn, DRAWS, sizeof *drawn, by_value);
    double worst = 0.0;
    for (int64_t i = 0, k = 0; i < n; i++) {
        while (k < DRAWS && drawn[k] < inside[i]) k++;
        worst = fmax(worst, fabs((double)i / (double)n - (double)k / DRAWS));
    }
    const double limit = 1.95 * sqrt((double)(n + DRAWS) / ((double)n * DRAWS)) + 1.0 / (double)n;
    print_message("[%g, %g): %lld inside, distance %.4f of %.4f\n", low, high, (long long)n, worst,
                  limit);
    assert_true(worst < limit);
    free(inside);
    free(drawn);
}

static void an_experts_timesteps_are_the_wholes_in_its_part(void **state)
{
    (void)state;
    const FlowOptions normal = { .seed = 5, .logit_normal = true, .std = 1, .shift = 1 };
    const FlowOptions moved = {
        .seed = 6, .logit_normal = true, .mean = 0.3, .std = 1.5, .shift = 3
    };
    const FlowOptions uniform = { .seed = 7, .shift = 5 };
    compare(normal, 0.875, 1.0);
    compare(normal, 0.0, 0.875);
    compare(moved, 0.9, 1.0);
    compare(moved, 0.0, 0.9);
    compare(uniform, 0.9, 1.0);
    compare(uniform, 0.0, 0.9);
}

/* What was drawn before there were parts. */
static void the_whole_is_as_it_was(void **state)
{
    (void)state;
    const FlowOptions all = { .seed = 5, .logit_normal = true, .std = 1, .shift = 3 };
    FlowOptions zero_to_one = all;
    zero_to_one.high = 1.0;
    for (int64_t i = 0; i < 100; i++)
        assert_true(flow_timestep(&all, i) == flow_timestep(&zero_to_one, i));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_experts_timesteps_are_the_wholes_in_its_part),
        cmocka_unit_test(the_whole_is_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
