/*
 * Attention over a context axis against plain double-precision attention over the whole clip, for
 * token counts that no axis divides.
 */
#include "tests/model/sequence_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "core/base/rng.h"

/* grids of 5 x 7 x 9 and 3 x 5 x 11 */
static const int64_t clips[] = { 315, 165 };

static const struct {
    int context, ulysses;
} cuts[] = { { 1, 1 }, { 2, 2 }, { 2, 1 }, { 3, 3 }, { 3, 1 }, { 4, 4 }, { 4, 2 }, { 4, 1 } };

enum { CUTS = sizeof cuts / sizeof cuts[0] };

static void check_cuts(const SequenceCase *c, double tolerance)
{
    for (int i = 0; i < CUTS; i++) {
        SequenceRun run;
        sequence_run_create(&run, c, 0, NULL);
        if (sequence_run_threads(&run, cuts[i].context, cuts[i].ulysses) != OK)
            fail_msg("context %d: %s", cuts[i].context, status_message());
        const double error = sequence_run_error(&run);
        print_message("%lld tokens, context %d (ulysses %d): off by %.1e of %.1e\n",
                      (long long)c->shape.tokens, cuts[i].context, cuts[i].ulysses, error,
                      tolerance);
        assert_true(error < tolerance);
        sequence_run_destroy(&run);
    }
}

/* Errors are shares of an element's sum of absolute terms. Scores of up to 5 round at 2^-24 * 5,
 * and so does lse: 6e-7 of each probability; exp and its sums add 2e-7 and 2e-7; delta as much
 * again: 2e-6 for all of it. */
static const double tolerance = 2e-6;

static void any_cut_is_the_whole_clip(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof clips / sizeof clips[0]; n++) {
        SequenceCase c;
        sequence_case_create(&c, (SequenceShape){ 2, clips[n], 12, 5 }, 0.7f);
        sequence_case_solve(&c);
        check_cuts(&c, tolerance);
        sequence_case_destroy(&c);
    }
}

/* The last token's key outweighs all others together: one more of it, or one less, changes every
 * output by far more than rounding does; so does a key of zeros. */
static void a_dominating_last_key_counts_once(void **state)
{
    (void)state;
    for (int heavy = 0; heavy < 2; heavy++) {
        SequenceCase c;
        sequence_case_create(&c, (SequenceShape){ 2, clips[heavy], 12, 5 }, 0.5f);
        const int64_t row = c.shape.heads * c.shape.head_dim;
        for (int64_t n = 0; n < sequence_case_count(&c); n += c.shape.head_dim) {
            const bool last = n / row % c.shape.tokens == c.shape.tokens - 1;
            c.in[SEQUENCE_Q][n] = 1;
            /* exp(score) of the sum of the others', or far more */
            c.in[SEQUENCE_K][n] = !last ? 0 : heavy ? 60 : 2 * logf((float)c.shape.tokens);
        }
        sequence_case_solve(&c);
        check_cuts(&c, heavy ? 6 * tolerance : tolerance); /* scores of 30, not 5 */
        sequence_case_destroy(&c);
    }
}

/* Scores that F32 holds exactly: numbers of six sizes, whose largest many keys share but for a
 * small part. What is left is lse, which rounds by 2^-11 at 1e4, after each merge: 4 * 4.9e-4 of a
 * probability, and of delta once more. */
static void scores_of_ten_thousand_merge(void **state)
{
    (void)state;
    static const float sizes[] = { -20000, -10000, 0, 10000, 19998, 20000 };
    SequenceCase c;
    sequence_case_create(&c, (SequenceShape){ 1, 165, 12, 3 }, 0.5f);
    for (int64_t n = 0; n < sequence_case_count(&c); n += 3) {
        float *q = c.in[SEQUENCE_Q] + n, *k = c.in[SEQUENCE_K] + n;
        const Rng rng = rng_make(5, RNG_TEST, (uint64_t)n);
        q[0] = rng_uniform(rng, 0) < 0.5f ? -1 : 1;
        k[0] = sizes[(int)(rng_uniform(rng, 1) * 6)];
        /* multiples of 2^-7 beside 1e4: 21 bits */
        q[1] = 1;
        k[1] = floorf(256 * rng_uniform(rng, 2)) / 64 - 2;
        q[2] = k[2] = 0;
    }
    sequence_case_solve(&c);
    check_cuts(&c, 4e-3);
    sequence_case_destroy(&c);
}

/* ---- exact ---------------------------------------------------------------------------------- */

static const struct {
    int context, ulysses;
} exact_cuts[] = { { 2, 2 }, { 2, 1 }, { 4, 4 }, { 4, 2 }, { 4, 1 }, { 8, 4 }, { 8, 1 } };

static void check_exact(const SequenceCase *c, int chunks, const char *isa)
{
    SequenceRun alone;
    sequence_run_create(&alone, c, chunks, isa);
    assert_int_equal(sequence_run_threads(&alone, 1, 1), OK);
    assert_true(sequence_run_error(&alone) < tolerance);
    for (size_t i = 0; i < sizeof exact_cuts / sizeof exact_cuts[0]; i++) {
        SequenceRun run;
        sequence_run_create(&run, c, chunks, isa);
        if (sequence_run_threads(&run, exact_cuts[i].context, exact_cuts[i].ulysses) != OK)
            fail_msg("context %d: %s", exact_cuts[i].context, status_message());
        if (sequence_run_differences(&run, &alone) > 0)
            fail_msg("%lld tokens in %d chunks, context %d (ulysses %d) on %s: other bits",
                     (long long)c->shape.tokens, chunks, exact_cuts[i].context,
                     exact_cuts[i].ulysses, isa);
        sequence_run_destroy(&run);
    }
    sequence_run_destroy(&alone);
}

static void exact_bits_do_not_depend_on_the_cut(void **state)
{
    (void)state;
    static const SequenceShape shapes[] = { { 2, 315, 4, 5 },
                                            { 1, 165, 8, 20 },
                                            { 1, 599, 4, 32 } };
    static const char *const isas[] = { "x86-64", "avx2", "avx512" };
    for (size_t n = 0; n < sizeof shapes / sizeof shapes[0]; n++) {
        SequenceCase c;
        sequence_case_create(&c, shapes[n], 0.4f);
        sequence_case_solve(&c);
        for (int i = 0; i < 3; i++) {
            Device dev;
            if (device_open(&dev, "cpu", isas[i], 1, false) == OK) check_exact(&c, 8, isas[i]);
        }
        sequence_case_destroy(&c);
    }
}

static void exact_takes_more_chunks_than_tokens(void **state)
{
    (void)state;
    SequenceCase c;
    sequence_case_create(&c, (SequenceShape){ 2, 13, 4, 6 }, 0.4f);
    sequence_case_solve(&c);
    check_exact(&c, 32, "x86-64");
    sequence_case_destroy(&c);
}

/* ---- what is refused ------------------------------------------------------------------------ */

static Status allocate(Group *ulysses, Group *ring, int chunks, SequenceShape shape)
{
    const Sequence seq = { ulysses, ring, chunks };
    Arena arena = arena_counting("acts");
    SequenceActs acts;
    return sequence_acts_alloc(&arena, &seq, shape, &acts);
}

static void a_cut_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    Group one = group_self(), three = { .rank = 2, .size = 3 }, two = { .rank = 1, .size = 2 };
    const SequenceShape shape = { 1, 9, 4, 8 };
    assert_int_equal(allocate(&two, &three, 0, shape), OK);
    assert_int_equal(allocate(&three, &one, 0, shape), ERR_CONFIG);
    assert_string_equal(status_message(), "ulysses 3 does not divide the 4 heads of a tensor rank");
    assert_int_equal(allocate(&two, &three, 0, (SequenceShape){ 1, 5, 4, 8 }), ERR_CONFIG);
    assert_string_equal(status_message(), "context 6 for a clip of 5 tokens");
    assert_int_equal(allocate(&one, &three, 8, shape), ERR_CONFIG);
    assert_string_equal(status_message(), "exact numerics: context 3 does not divide the 8 chunks");
    assert_int_equal(allocate(&one, &three, 6, shape), ERR_CONFIG);
    assert_string_equal(status_message(), "exact numerics: 6 chunks, not a power of two");
}

static void parts_are_exact_and_nested(void **state)
{
    (void)state;
    for (int64_t tokens = 1; tokens <= 70; tokens++)
        for (int u = 1; u <= 5; u++)
            for (int r = 1; r <= 5; r++) {
                int64_t next = 0;
                for (int part = 0; part < u * r; part++) {
                    const TokenRange p = token_part(tokens, u * r, part);
                    assert_int_equal(p.first, next);
                    assert_true(p.count == tokens / (u * r) || p.count == tokens / (u * r) + 1);
                    next += p.count;
                }
                assert_int_equal(next, tokens);
                for (int part = 0; part < r; part++)
                    assert_int_equal(token_part(tokens, u * r, part * u).first,
                                     token_part(tokens, r, part).first);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_is_the_whole_clip),
        cmocka_unit_test(a_dominating_last_key_counts_once),
        cmocka_unit_test(scores_of_ten_thousand_merge),
        cmocka_unit_test(exact_bits_do_not_depend_on_the_cut),
        cmocka_unit_test(exact_takes_more_chunks_than_tokens),
        cmocka_unit_test(a_cut_that_does_not_fit_is_refused),
        cmocka_unit_test(parts_are_exact_and_nested),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
