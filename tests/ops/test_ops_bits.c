/* The same call gives the same bits, on one thread or several; instruction sets agree to rounding.
 */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/trial.h"

/* The tensors a trial produced: outputs, then gradients. */
static Tensor product(const Trial *t, int i)
{
    return i < t->outputs ? t->call.out[i] : t->call.din[i - t->outputs];
}

static int products(const Trial *t)
{
    return t->outputs + (t->row->backward ? t->inputs : 0);
}

static int compare_bits(const Trial *a, const Trial *b, const char *what)
{
    for (int i = 0; i < products(a); i++) {
        const Tensor x = product(a, i), y = product(b, i);
        if (memcmp(x.data, y.data, tensor_bytes(x)) == 0) continue;
        print_error("%s, %s: product %d has other bits\n", a->row->name, what, i);
        return 1;
    }
    return 0;
}

static int run_twice(const Case *row, const char *isa, int threads_a, int threads_b,
                     const char *what)
{
    Device a, b;
    Trial first, second;
    if (!open_isa(&a, isa, threads_a) || !open_isa(&b, isa, threads_b)) return 0;
    trial_create(&first, row, row->large, 5);
    trial_create(&second, row, row->large, 5);
    int bad = trial_run(&first, &a) != OK || trial_run(&second, &b) != OK;
    if (!bad) bad = compare_bits(&first, &second, what);
    trial_destroy(&second);
    trial_destroy(&first);
    return bad;
}

static void bits_repeat(void **state)
{
    (void)state;
    int bad = 0;
    for (int64_t i = 0; i < op_case_count; i++)
        bad += run_twice(&op_cases[i], NULL, 2, 2, "run twice");
    assert_int_equal(bad, 0);
}

static void bits_do_not_depend_on_threads(void **state)
{
    (void)state;
    int bad = 0;
    for (int isa = 0; isa < ALL_COUNT; isa++)
        for (int64_t i = 0; i < op_case_count; i++)
            bad += run_twice(&op_cases[i], isa_names[isa], 1, 3, "1 and 3 threads");
    assert_int_equal(bad, 0);
}

/* ---- queries in other company --------------------------------------------------------------- */

enum { QUERIES = 139, KEYS = 300, HEADS = 2, WIDEST = 64 };

typedef struct Attended {
    float out[QUERIES * HEADS * WIDEST], lse[HEADS * QUERIES], dq[QUERIES * HEADS * WIDEST];
    float dkv[2 * KEYS * HEADS * WIDEST];
} Attended;

static float numbers[4 * KEYS * HEADS * WIDEST]; /* q, k, v, dout */

/* Queries [first, first + count) alone. */
static Status attend(const Device *dev, int64_t dim, int64_t first, int64_t count, Attended *to)
{
    const int64_t row = HEADS * dim, part = KEYS * HEADS * WIDEST;
    const Shape q_shape = SHAPE(1, count, HEADS, dim), k_shape = SHAPE(1, KEYS, HEADS, dim);
    const Tensor q = tensor_of(numbers + first * row, F32, q_shape);
    const Tensor k = tensor_of(numbers + part, F32, k_shape);
    const Tensor v = tensor_of(numbers + 2 * part, F32, k_shape);
    const Tensor dout = tensor_of(numbers + 3 * part + first * row, F32, q_shape);
    const Tensor out = tensor_of(to->out, F32, q_shape), dq = tensor_of(to->dq, F32, q_shape);
    const Tensor lse = tensor_of(to->lse, F32, SHAPE(1, HEADS, count));
    const AttentionOptions options = { .scale = 0.37f };
    Arena scratch;
    TRY(arena_create(&scratch, "scratch", op_attention_scratch(dev, 1, HEADS, count, KEYS, dim)));
    Status s = op_attention(dev, out, lse, q, k, v, &options, &scratch);
    if (s == OK)
        s = op_attention_backward(dev, dq, tensor_of(to->dkv, F32, k_shape),
                                  tensor_of(to->dkv + part, F32, k_shape), tensor_none(), dout, q,
                                  k, v, out, lse, &options, &scratch);
    arena_destroy(&scratch);
    return s;
}

static int compare_queries(const Attended *all, const Attended *few, int64_t dim, int64_t first,
                           int64_t count)
{
    const int64_t row = HEADS * dim;
    const size_t bytes = (size_t)(count * row) * sizeof(float);
    int bad = memcmp(all->out + first * row, few->out, bytes) != 0 ||
              memcmp(all->dq + first * row, few->dq, bytes) != 0;
    for (int64_t h = 0; h < HEADS; h++)
        bad |= memcmp(all->lse + h * QUERIES + first, few->lse + h * count,
                      (size_t)count * sizeof(float)) != 0;
    return bad;
}

/* Exact numerics over a context axis stand on it: a rank sees some of the queries. */
static void a_query_has_its_bits_in_any_company(void **state)
{
    (void)state;
    static const int64_t dims[] = { 3, 20, 37, 64 };
    static const int64_t cuts[][2] = { { 0, 1 }, { 1, 2 }, { 3, 70 }, { 64, 75 }, { 66, 73 } };
    static Attended all, few;
    const Rng rng = rng_make(8, RNG_TEST, 0);
    for (uint64_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        numbers[i] = 2 * rng_uniform(rng, i) - 1;
    int bad = 0;
    for (int isa = 0; isa < ISA_COUNT; isa++)
        for (int d = 0; d < 4; d++) {
            Device dev;
            if (!open_isa(&dev, isa_names[isa], 1)) continue;
            assert_int_equal(attend(&dev, dims[d], 0, QUERIES, &all), OK);
            for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
                assert_int_equal(attend(&dev, dims[d], cuts[i][0], cuts[i][1], &few), OK);
                if (compare_queries(&all, &few, dims[d], cuts[i][0], cuts[i][1]) == 0) continue;
                print_error("%s, head_dim %d: queries from %d on have other bits\n", isa_names[isa],
                            (int)dims[d], (int)cuts[i][0]);
                bad++;
            }
        }
    assert_int_equal(bad, 0);
}

/* Two roundings of sums of up to 520 terms: twice the tolerance of the backward's test. */
static const double tolerance = 2.2e-5;

static int compare_values(const Trial *a, const Trial *b, const char *isa)
{
    for (int i = 0; i < products(a); i++) {
        const float *x = tensor_f32(product(a, i)), *y = tensor_f32(product(b, i));
        double difference = 0, largest = 1;
        for (int64_t e = 0; e < tensor_count(product(a, i)); e++) {
            if (memcmp(&x[e], &y[e], sizeof *x) == 0) continue;
            if (isnan(x[e]) != isnan(y[e])) difference = INFINITY;
            difference = fmax(difference, fabs((double)x[e] - (double)y[e]));
            largest = fmax(largest, fabs((double)x[e]));
        }
        if (difference <= tolerance * largest) continue;
        print_error("%s: product %d on %s is off by %g\n", a->row->name, i, isa, difference);
        return 1;
    }
    return 0;
}

static void instruction_sets_agree(void **state)
{
    (void)state;
    int bad = 0;
    for (int64_t i = 0; i < op_case_count; i++)
        for (int isa = 1; isa < ISA_COUNT; isa++) {
            Device plain, wide;
            Trial a, b;
            if (!open_isa(&plain, "x86-64", 2) || !open_isa(&wide, isa_names[isa], 2)) continue;
            trial_create(&a, &op_cases[i], op_cases[i].large, 6);
            trial_create(&b, &op_cases[i], op_cases[i].large, 6);
            bad += trial_run(&a, &plain) != OK || trial_run(&b, &wide) != OK ||
                   compare_values(&a, &b, isa_names[isa]) != 0;
            trial_destroy(&b);
            trial_destroy(&a);
        }
    assert_int_equal(bad, 0);
}

/* Where both are there: sums of a row have lanes of their own, whatever the width of a vector. */
static void vectors_of_either_width_give_the_same_bits(void **state)
{
    (void)state;
    int bad = 0;
    for (int64_t i = 0; i < op_case_count; i++) {
        Device narrow, wide;
        Trial a, b;
        if (!open_isa(&narrow, "avx2", 2) || !open_isa(&wide, "avx512", 2)) return;
        narrow.exact = wide.exact = true; /* oneDNN sums as it likes */
        trial_create(&a, &op_cases[i], op_cases[i].large, 7);
        trial_create(&b, &op_cases[i], op_cases[i].large, 7);
        bad += trial_run(&a, &narrow) != OK || trial_run(&b, &wide) != OK ||
               compare_bits(&a, &b, "avx2 and avx512") != 0;
        trial_destroy(&b);
        trial_destroy(&a);
    }
    assert_int_equal(bad, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_repeat),
        cmocka_unit_test(bits_do_not_depend_on_threads),
        cmocka_unit_test(a_query_has_its_bits_in_any_company),
        cmocka_unit_test(instruction_sets_agree),
        cmocka_unit_test(vectors_of_either_width_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
