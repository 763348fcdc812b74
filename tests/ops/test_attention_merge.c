/* The merge of partial attentions: far scores, missing keys, and what it refuses. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/ops/trial.h"

enum { PARTS = 4, BATCH = 2, TOKENS = 37, HEADS = 3, DIM = 5, ROWS = BATCH * TOKENS * HEADS };

typedef struct Part {
    float out[ROWS * DIM], lse[ROWS];
} Part;

static Tensor out_of(Part *part)
{
    return tensor_of(part->out, F32, SHAPE(BATCH, TOKENS, HEADS, DIM));
}

static Tensor lse_of(Part *part)
{
    return tensor_of(part->lse, F32, SHAPE(BATCH, HEADS, TOKENS));
}

/* lse of the row whose out is at out[r * DIM] */
static int at_lse(int r)
{
    return (r / HEADS / TOKENS * HEADS + r % HEADS) * TOKENS + r / HEADS % TOKENS;
}

/* Every third row: anything from -1e4 to 1e4; close to one another there; some without a key. */
static void fill(Part *part, int index)
{
    const Rng rng = rng_make(9, RNG_TEST, (uint64_t)index);
    const Rng shared = rng_make(9, RNG_TEST, 99);
    for (int r = 0; r < ROWS; r++) {
        float *lse = &part->lse[at_lse(r)];
        const float own = 2 * rng_uniform(rng, (uint64_t)r) - 1;
        const float common = 2 * rng_uniform(shared, (uint64_t)r) - 1;
        *lse = r % 3 == 0 ? 1e4f * own : 1e4f * common + own;
        const bool absent = r % 7 == index || r % 11 == 0;
        if (absent) *lse = -INFINITY;
        for (int d = 0; d < DIM; d++)
            part->out[r * DIM + d] =
                absent ? 0 : 2 * rng_uniform(rng, (uint64_t)(ROWS + r * DIM + d)) - 1;
    }
}

/* From the same numbers, all parts at once. */
static void check_row(const Part *got, const Part *parts, int r)
{
    double top = -INFINITY, sum = 0;
    for (int p = 0; p < PARTS; p++) top = fmax(top, (double)parts[p].lse[at_lse(r)]);
    if (isinf(top)) {
        assert_true(got->lse[at_lse(r)] == -INFINITY);
        for (int d = 0; d < DIM; d++) assert_true(got->out[r * DIM + d] == 0);
        return;
    }
    for (int p = 0; p < PARTS; p++) sum += exp((double)parts[p].lse[at_lse(r)] - top);
    /* a merge rounds lse: 2^-24 of it each time, and half of that in its sum */
    const double rounding = PARTS * 0x1p-24 * (fabs(top) + 4);
    assert_true(fabs((double)got->lse[at_lse(r)] - top - log(sum)) <= rounding);
    for (int d = 0; d < DIM; d++) {
        double want = 0;
        for (int p = 0; p < PARTS; p++)
            want += exp((double)parts[p].lse[at_lse(r)] - top) / sum *
                    (double)parts[p].out[r * DIM + d];
        /* which is then an error of the next weight, for values of up to 1; 1e-6: its own steps */
        assert_true(fabs((double)got->out[r * DIM + d] - want) <= rounding + 1e-6);
    }
}

static void parts_in_any_order_merge_to_the_whole(void **state)
{
    (void)state;
    static Part parts[PARTS], got;
    for (int p = 0; p < PARTS; p++) fill(&parts[p], p);
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        Device dev;
        if (!open_isa(&dev, isa_names[isa], 2)) continue;
        for (int first = 0; first < PARTS; first++) {
            got = parts[first];
            for (int p = 1; p < PARTS; p++) {
                Part *next = &parts[(first + p) % PARTS];
                assert_int_equal(op_attention_merge(&dev, out_of(&got), lse_of(&got), out_of(next),
                                                    lse_of(next)),
                                 OK);
            }
            for (int r = 0; r < ROWS; r++) check_row(&got, parts, r);
        }
    }
}

/* One merge from exact numbers has no rounded lse behind it: all errors are steps of its own. */
static void one_merge_is_exact_to_rounding(void **state)
{
    (void)state;
    Device dev;
    static Part a, b, got;
    assert_true(open_isa(&dev, NULL, 1));
    fill(&a, 0);
    fill(&b, 1);
    got = a;
    assert_int_equal(op_attention_merge(&dev, out_of(&got), lse_of(&got), out_of(&b), lse_of(&b)),
                     OK);
    for (int r = 0; r < ROWS; r++) {
        const double x = (double)a.lse[at_lse(r)], y = (double)b.lse[at_lse(r)];
        if (isinf(x) && isinf(y)) continue;
        const double share = 1 / (1 + exp(y - x)); /* a's */
        for (int d = 0; d < DIM; d++) {
            const double want =
                share * (double)a.out[r * DIM + d] + (1 - share) * (double)b.out[r * DIM + d];
            /* differences, exp, two quotients, products and their sum: 6 roundings of up to 1 */
            assert_true(fabs((double)got.out[r * DIM + d] - want) <= 6 * 0x1p-24);
        }
    }
}

static void a_nan_shows(void **state)
{
    (void)state;
    Device dev;
    static Part a, b, got;
    assert_true(open_isa(&dev, NULL, 1));
    for (int side = 0; side < 2; side++)
        for (int other = 0; other < 2; other++) {
            fill(&a, 0);
            fill(&b, 1);
            (side ? &a : &b)->lse[0] = NAN;
            (side ? &b : &a)->lse[0] = other ? -INFINITY : 1;
            got = a;
            assert_int_equal(
                op_attention_merge(&dev, out_of(&got), lse_of(&got), out_of(&b), lse_of(&b)), OK);
            assert_true(isnan(got.lse[0]) && isnan(got.out[0]));
        }
}

static void bf16_partials_are_refused(void **state)
{
    (void)state;
    Device dev;
    static Part a, b;
    assert_true(open_isa(&dev, NULL, 1));
    static const char *const names[] = { "out", "lse", "part_out", "part_lse" };
    for (int i = 0; i < 4; i++) {
        Tensor t[] = { out_of(&a), lse_of(&a), out_of(&b), lse_of(&b) };
        char expected[64];
        (void)snprintf(expected, sizeof expected, "op_attention_merge: %s is ", names[i]);
        t[i].dtype = BF16;
        assert_int_equal(op_attention_merge(&dev, t[0], t[1], t[2], t[3]), ERR_DEVICE);
        assert_memory_equal(status_message(), expected, strlen(expected));
        assert_non_null(strstr(status_message(), "BF16, expected ("));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_in_any_order_merge_to_the_whole),
        cmocka_unit_test(one_merge_is_exact_to_rounding),
        cmocka_unit_test(a_nan_shows),
        cmocka_unit_test(bf16_partials_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
