/*
 * Every op's backward against central differences, in double, of the double-precision forward: at
 * the first, the last and some elements of each input, and along one random direction through all
 * of them. '+' gradients must add to what was there, '=' must write over it.
 */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/ops/trial.h"

/* Differences err by h^2 and 1e-16 / h: nothing beside F32. The kernels' own sums are of up to 520
 * terms: 2^-24 * 23 * 8 = 1.1e-5 of the largest, for two roundings more than the forward. */
static const double tolerance = 1.1e-5, h = 1e-5;
/* BF16 rounds at 2^-9, both factors of each of the three products in a row */
static const double tolerance_bf16 = 1e-2;

enum { PROBES_SMALL = 24, PROBES_LARGE = 4, SEEDS = 3 };

/* One derivative of the loss, wanted and how to read it from a gradient. */
typedef struct Probe {
    int input;
    int64_t element; /* or -1: along the direction */
    double want;
} Probe;

static Rng direction_of(int input)
{
    return rng_make(77, RNG_TEST, (uint64_t)input);
}

static double direction(Rng rng, int64_t i)
{
    return (double)(2 * rng_uniform(rng, (uint64_t)i) - 1);
}

static void shift(Trial *t, Probe p, double by)
{
    if (p.element >= 0) {
        t->in[p.input][p.element] += by;
        return;
    }
    const Rng rng = direction_of(p.input);
    for (int64_t i = 0; i < tensor_count(t->call.in[p.input]); i++)
        t->in[p.input][i] += by * direction(rng, i);
}

static double central_difference(Trial *t, Probe p)
{
    shift(t, p, h);
    const double above = trial_loss(t);
    shift(t, p, -2 * h);
    const double below = trial_loss(t);
    shift(t, p, h);
    return (above - below) / (2 * h);
}

static double gradient(const Trial *t, int input, int64_t i)
{
    const double got = (double)tensor_f32(t->call.din[input])[i];
    const bool adds = t->row->gradients[input] == '+';
    return adds ? got - (double)tensor_f32(t->prior[input])[i] : got;
}

/* What the kernel says, and what an error is a share of. */
static double read_gradient(const Trial *t, Probe p, double *scale)
{
    const int64_t count = tensor_count(t->call.in[p.input]);
    const Rng rng = direction_of(p.input);
    double along = 0, length = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const double g = gradient(t, p.input, i);
        along += g * direction(rng, i);
        length += fabs(g * direction(rng, i));
        largest = fmax(largest, fabs(g));
    }
    /* adding to numbers below 1 costs a rounding of 1 */
    *scale = fmax(p.element >= 0 ? largest : length, 0.1);
    return p.element >= 0 ? gradient(t, p.input, p.element) : along;
}

static int check_probes(Trial *t, const Device *dev, const Probe *probes, int count)
{
    if (trial_run(t, dev) != OK) {
        print_error("%s: %s\n", t->row->name, status_message());
        return 1;
    }
    for (int i = 0; i < count; i++) {
        double scale;
        const double got = read_gradient(t, probes[i], &scale);
        if (fabs(got - probes[i].want) <= (dev->bf16 ? tolerance_bf16 : tolerance) * scale)
            continue;
        print_error("%s on %s: input %d element %d has gradient %g, differences give %g\n",
                    t->row->name, dev->name, probes[i].input, (int)probes[i].element, got,
                    probes[i].want);
        return 1;
    }
    return 0;
}

static int choose_probes(Trial *t, uint64_t seed, int each, Probe *probes)
{
    const Rng rng = rng_make(seed, RNG_TEST, 300);
    int n = 0;
    for (int input = 0; input < t->inputs; input++) {
        if (t->row->gradients[input] == '.') continue;
        const int64_t count = tensor_count(t->call.in[input]);
        probes[n++] = (Probe){ .input = input, .element = -1 };
        for (int i = 0; i < each && i < count; i++) {
            const int64_t random = (int64_t)(rng_u32(rng, (uint64_t)n) % (uint64_t)count);
            probes[n++] = (Probe){ .input = input,
                                   .element = i == 0   ? 0
                                              : i == 1 ? count - 1
                                                       : random };
        }
    }
    for (int i = 0; i < n; i++) probes[i].want = central_difference(t, probes[i]);
    return n;
}

static int check_row(const Case *row, const int64_t *sizes, uint64_t seed, int each)
{
    Trial t;
    Probe probes[CASE_TENSORS * (PROBES_SMALL + 1)];
    int bad = 0;
    trial_create(&t, row, sizes, seed);
    const int count = choose_probes(&t, seed, each, probes);
    for (int i = 0; i < ALL_COUNT; i++) {
        Device dev;
        if (open_isa(&dev, isa_names[i], 2)) bad += check_probes(&t, &dev, probes, count);
    }
    trial_destroy(&t);
    return bad;
}

static void small_backward_matches_differences(void **state)
{
    (void)state;
    int bad = 0;
    for (int64_t i = 0; i < op_case_count; i++)
        for (uint64_t seed = 1; op_cases[i].backward && seed <= SEEDS; seed++)
            bad += check_row(&op_cases[i], op_cases[i].small, seed, PROBES_SMALL);
    assert_int_equal(bad, 0);
}

static void large_backward_matches_differences(void **state)
{
    (void)state;
    int bad = 0;
    for (int64_t i = 0; i < op_case_count; i++)
        if (op_cases[i].backward)
            bad += check_row(&op_cases[i], op_cases[i].large, 9, PROBES_LARGE);
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_backward_matches_differences),
        cmocka_unit_test(large_backward_matches_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
