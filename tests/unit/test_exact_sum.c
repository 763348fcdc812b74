/* Sums of squares are exact: any order, any cut, one answer, rounded once. */
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/exact_sum.h"
#include "core/base/rng.h"

/* Significands of 24 random bits under exponents all over the range, subnormal ones too. */
static float *wild_numbers(int64_t count, uint64_t seed)
{
    float *x = malloc((size_t)count * sizeof *x);
    assert_non_null(x);
    const Rng rng = rng_make(seed, RNG_TEST, 0);
    for (int64_t i = 0; i < count; i++)
        x[i] = ldexpf(2 * rng_uniform(rng, (uint64_t)(2 * i)) - 1,
                      (int)(274 * rng_uniform(rng, (uint64_t)(2 * i + 1))) - 146);
    return x;
}

static ExactSum squares_of(const float *x, int64_t count)
{
    ExactSum sum = { 0 };
    exact_sum_add_squares(&sum, x, count, 1);
    return sum;
}

static void assert_same(const ExactSum *a, const ExactSum *b)
{
    assert_memory_equal(a, b, sizeof *a);
}

static void any_order_and_cut_gives_one_sum(void **state)
{
    (void)state;
    enum { COUNT = 600001 };
    float *x = wild_numbers(COUNT, 1);
    const ExactSum whole = squares_of(x, COUNT);

    ExactSum threads = { 0 }, pieces = { 0 };
    exact_sum_add_squares(&threads, x, COUNT, 3);
    assert_same(&threads, &whole);
    for (int64_t first = 0, n = 1; first < COUNT; first += n, n = n * 3 + 1) {
        const ExactSum piece = squares_of(x + first, n < COUNT - first ? n : COUNT - first);
        exact_sum_merge(&pieces, &piece);
    }
    assert_same(&pieces, &whole);
    for (int64_t i = 0; i < COUNT / 2; i++) {
        const float swapped = x[i];
        x[i] = -x[COUNT - 1 - i];
        x[COUNT - 1 - i] = swapped;
    }
    const ExactSum reversed = squares_of(x, COUNT);
    assert_same(&reversed, &whole);
    free(x);
}

/* Limbs added by a group, as I64: nothing is lost however many ranks there are. */
static void limbs_of_many_ranks_add(void **state)
{
    (void)state;
    enum { RANKS = 65536 };
    float *x = wild_numbers(1000, 2);
    for (int i = 0; i < 1000; i++) x[i] = FLT_MAX; /* the largest digits */
    const ExactSum one = squares_of(x, 1000);
    ExactSum added = { 0 }, merged = { 0 };
    for (int rank = 0; rank < RANKS; rank++)
        for (int i = 0; i < EXACT_SUM_LIMBS; i++) added.limb[i] += one.limb[i];
    for (int rank = 0; rank < RANKS; rank++) exact_sum_merge(&merged, &one);
    assert_true(exact_sum_value(&added) == exact_sum_value(&one) * RANKS);
    assert_true(exact_sum_value(&merged) == exact_sum_value(&one) * RANKS);
    free(x);
}

static void values_are_exact_where_double_is(void **state)
{
    (void)state;
    const float x[] = { 3.0f, -4.0f, 0.0f, -0.0f, 12.0f };
    const float least = FLT_TRUE_MIN, most = FLT_MAX;
    ExactSum sum = squares_of(x, 5);
    assert_true(exact_sum_value(&sum) == 169.0);
    sum = squares_of(x, 0);
    assert_true(exact_sum_value(&sum) == 0.0);
    sum = squares_of(&least, 1);
    assert_true(exact_sum_value(&sum) == 0x1p-298);
    sum = squares_of(&most, 1);
    assert_true(exact_sum_value(&sum) == (double)FLT_MAX * (double)FLT_MAX);
}

/* The one rounding is to the nearest, ties to even, and sees the smallest term. */
static void the_value_is_the_nearest_double(void **state)
{
    (void)state;
    /* 2^52 + 1/2 lies between 2^52 and 2^52 + 1; 2^52 + 1 + 1/2 between an odd and an even one */
    const float tie[] = { 0x1p26f, 0.5f, 0.5f }, up[] = { 0x1p26f, 0.5f, 0.5f, FLT_TRUE_MIN };
    const float odd[] = { 0x1p26f, 1.0f, 0.5f, 0.5f };
    ExactSum sum = squares_of(tie, 3);
    assert_true(exact_sum_value(&sum) == 0x1p52);
    sum = squares_of(up, 4);
    assert_true(exact_sum_value(&sum) == 0x1p52 + 1);
    sum = squares_of(odd, 4);
    assert_true(exact_sum_value(&sum) == 0x1p52 + 2);

    /* at every place of the highest bit in a digit: against long double, which is exact here */
    for (int e = -140; e < 120; e++) {
        const float x[] = { ldexpf(0x1.fffffep0f, e), ldexpf(0x1.8p0f, e - 7) };
        const long double a = (long double)x[0] * x[0], b = (long double)x[1] * x[1];
        if (a + b - a != b) continue; /* more than 64 bits */
        sum = squares_of(x, 2);
        assert_true(exact_sum_value(&sum) == (double)(a + b));
    }
}

static void errors_are_rounded_to_f32_first(void **state)
{
    (void)state;
    enum { COUNT = 4099 };
    float *a = wild_numbers(COUNT, 3), *b = wild_numbers(COUNT, 4), *d = wild_numbers(COUNT, 5);
    for (int i = 0; i < COUNT; i++) d[i] = a[i] - b[i];
    ExactSum errors = { 0 };
    exact_sum_add_squared_errors(&errors, a, b, COUNT, 2);
    const ExactSum squares = squares_of(d, COUNT);
    assert_same(&errors, &squares);
    free(a);
    free(b);
    free(d);
}

static void what_is_not_finite_shows(void **state)
{
    (void)state;
    float x[1001], y[1001];
    for (int i = 0; i < 1001; i++) x[i] = y[i] = 1;
    x[1000] = -INFINITY;
    ExactSum sum = squares_of(x, 1001), finite = squares_of(y, 1001);
    assert_true(isinf(exact_sum_value(&sum)));
    exact_sum_merge(&finite, &sum);
    assert_true(isinf(exact_sum_value(&finite)));
    y[3] = NAN;
    exact_sum_add_squares(&sum, y, 1001, 2);
    assert_true(isnan(exact_sum_value(&sum)));

    /* infinity - infinity is no number; FLT_MAX + FLT_MAX is none that f32 has */
    ExactSum errors = { 0 };
    exact_sum_add_squared_errors(&errors, x, x, 1001, 1);
    assert_true(isnan(exact_sum_value(&errors)));
    const float most = FLT_MAX, least = -FLT_MAX;
    errors = (ExactSum){ 0 };
    exact_sum_add_squared_errors(&errors, &most, &least, 1, 1);
    assert_true(isinf(exact_sum_value(&errors)));
}

static void speed_is_shown(void **state)
{
    (void)state;
    enum { COUNT = 1 << 22 };
    float *x = malloc(COUNT * sizeof *x);
    assert_non_null(x);
    const Rng rng = rng_make(7, RNG_TEST, 0);
    rng_fill_normal(rng, 0, COUNT, x);
    ExactSum sum = { 0 };
    double best_s = 1e9;
    for (int run = 0; run < 3; run++) {
        const double start_s = clock_seconds();
        exact_sum_add_squares(&sum, x, COUNT, 1);
        best_s = fmin(best_s, clock_seconds() - start_s);
    }
    print_message("%.0f million squares/s on one thread\n", COUNT / best_s * 1e-6);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_and_cut_gives_one_sum),
        cmocka_unit_test(limbs_of_many_ranks_add),
        cmocka_unit_test(values_are_exact_where_double_is),
        cmocka_unit_test(the_value_is_the_nearest_double),
        cmocka_unit_test(errors_are_rounded_to_f32_first),
        cmocka_unit_test(what_is_not_finite_shows),
        cmocka_unit_test(speed_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
