/* Every op's forward against the plainest double-precision code. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/ops/trial.h"

/* F32 rounds at 2^-24 = 6e-8. Sums of up to 520 random terms round like their root, 23 of them; the
 * few steps around a sum add as much again: 2^-24 * 23 * 4 = 5.5e-6 of the largest output. */
static const double tolerance = 5.5e-6;
/* BF16 rounds at 2^-9; of two factors, and of attention's probabilities, too: 2^-9 * 2 = 4e-3 of a
 * product, and sums of random terms are the products' size times a root. */
static const double tolerance_bf16 = 1e-2;

/* The largest difference, as a share of the largest reference. */
static double worst(Tensor got, const double *want)
{
    double difference = 0, largest = 1e-3;
    for (int64_t i = 0; i < tensor_count(got); i++) {
        const double x = (double)tensor_f32(got)[i];
        if (isinf(want[i]) && x == want[i]) continue;
        if (isnan(x)) return INFINITY;
        difference = fmax(difference, fabs(x - want[i]));
        largest = fmax(largest, fabs(want[i]));
    }
    return difference / largest;
}

static int check_row(const Device *dev, const Case *row, const int64_t *sizes, uint64_t seed)
{
    Trial t;
    int bad = 0;
    trial_create(&t, row, sizes, seed);
    const Status s = trial_run(&t, dev);
    if (s != OK) {
        print_error("%s: %s\n", row->name, status_message());
        bad = 1;
    }
    trial_reference(&t);
    for (int i = 0; s == OK && i < t.outputs; i++) {
        const double error = worst(t.call.out[i], t.out[i]);
        if (error <= (dev->bf16 ? tolerance_bf16 : tolerance)) continue;
        print_error("%s on %s, seed %d, output %d: off by %g of the largest\n", row->name,
                    dev->name, (int)seed, i, error);
        bad = 1;
    }
    trial_destroy(&t);
    return bad;
}

static void check_all(const char *isa)
{
    Device dev;
    if (!open_isa(&dev, isa, 2)) {
        print_message("this machine has no %s\n", isa);
        return;
    }
    int bad = 0;
    for (int64_t i = 0; i < op_case_count; i++) {
        for (uint64_t seed = 1; seed <= 3; seed++)
            bad += check_row(&dev, &op_cases[i], op_cases[i].small, seed);
        bad += check_row(&dev, &op_cases[i], op_cases[i].large, 4);
    }
    assert_int_equal(bad, 0);
}

static void x86_64_matches_double(void **state)
{
    (void)state;
    check_all("x86-64");
}

static void avx2_matches_double(void **state)
{
    (void)state;
    check_all("avx2");
}

static void avx512_matches_double(void **state)
{
    (void)state;
    check_all("avx512");
}

static void avx512_bf16_matches_double(void **state)
{
    (void)state;
    check_all("avx512_bf16");
}

static void amx_matches_double(void **state)
{
    (void)state;
    check_all("amx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(x86_64_matches_double), cmocka_unit_test(avx2_matches_double),
        cmocka_unit_test(avx512_matches_double), cmocka_unit_test(avx512_bf16_matches_double),
        cmocka_unit_test(amx_matches_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
