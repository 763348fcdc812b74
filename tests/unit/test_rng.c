/* rng: the published vectors, the moments of what is drawn, and no hidden state. */
#include "core/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { SAMPLES = 1 << 20 };

/* Known answers of Random123 for philox4x32-10. */
static void published_vectors_come_out(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u } },
        { { 0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu },
          { 0xffffffffu, 0xffffffffu },
          { 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu } },
        { { 0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u },
          { 0xa4093822u, 0x299f31d0u },
          { 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u } },
    };
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++) {
        const uint32_t *c = vectors[v].counter, *k = vectors[v].key;
        /* the block number is the lower half of the counter */
        const Rng rng = { .key = { k[0], k[1] }, .counter = { c[2], c[3] } };
        uint32_t words[4];
        rng_block(rng, (uint64_t)c[1] << 32 | c[0], words);
        assert_memory_equal(words, vectors[v].expected, sizeof words);
    }
}

static void elements_are_the_words_of_their_block(void **state)
{
    (void)state;
    const Rng rng = rng_make(7, RNG_TEST, 3);
    for (uint64_t i = 0; i < 16; i++) {
        uint32_t words[4];
        rng_block(rng, i / 4, words);
        assert_int_equal(rng_u32(rng, i), words[i % 4]);
        assert_true(rng_uniform(rng, i) == (float)(words[i % 4] >> 8) / 16777216.0f);
    }
}

static void seed_purpose_and_id_each_give_another_stream(void **state)
{
    (void)state;
    const Rng base = rng_make(7, RNG_TEST, 3);
    const Rng others[] = { rng_make(8, RNG_TEST, 3), rng_make(7, RNG_NOISE, 3),
                           rng_make(7, RNG_TEST, 4), rng_make(7, RNG_TEST, 3 + (1ull << 32)) };
    const uint64_t first = (uint64_t)rng_u32(base, 0) << 32 | rng_u32(base, 1);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_true(((uint64_t)rng_u32(others[i], 0) << 32 | rng_u32(others[i], 1)) != first);
}

typedef void Fill(Rng rng, uint64_t first, int64_t count, float *out);
typedef float One(Rng rng, uint64_t index);

static void check_filling(Fill *fill, One *one)
{
    const Rng rng = rng_make(1, RNG_NOISE, 2);
    for (uint64_t first = 0; first < 6; first++) {
        for (int64_t count = 0; count < 14; count++) {
            float filled[16];
            memset(filled, 0, sizeof filled);
            fill(rng, first, count, filled);
            for (int64_t i = 0; i < count; i++) {
                const float expected = one(rng, first + (uint64_t)i);
                assert_memory_equal(&expected, &filled[i], sizeof expected);
            }
            assert_true(filled[count] == 0); /* not one too many */
        }
    }
}

static void filling_gives_the_bits_of_single_elements(void **state)
{
    (void)state;
    check_filling(rng_fill_normal, rng_normal);
    check_filling(rng_fill_uniform, rng_uniform);
}

static void uniform_fills_its_interval_evenly(void **state)
{
    (void)state;
    const Rng rng = rng_make(11, RNG_TEST, 0);
    int bins[16] = { 0 };
    double sum = 0, chi = 0;
    for (uint64_t i = 0; i < SAMPLES; i++) {
        const float u = rng_uniform(rng, i);
        assert_true(u >= 0.0f && u < 1.0f);
        bins[(int)(u * 16.0f)]++;
        sum += (double)u;
    }
    /* standard error of the mean: sqrt(1 / 12 / 2^20) = 2.8e-4; five of them */
    assert_true(fabs(sum / SAMPLES - 0.5) < 1.4e-3);
    for (int b = 0; b < 16; b++) {
        const double d = bins[b] - SAMPLES / 16.0;
        chi += d * d / (SAMPLES / 16.0);
    }
    /* chi-squared of 15 degrees: 15 + 5 sqrt(30) */
    assert_true(chi < 42.4);
}

static void normal_has_the_moments_of_a_normal(void **state)
{
    (void)state;
    float *x = malloc(SAMPLES * sizeof *x);
    assert_non_null(x);
    rng_fill_normal(rng_make(12, RNG_NOISE, 0), 0, SAMPLES, x);
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbours = 0;
    for (int64_t i = 0; i < SAMPLES; i++) {
        const double v = (double)x[i], squared = v * v;
        m1 += v;
        m2 += squared;
        m3 += v * squared;
        m4 += squared * squared;
        if (i > 0) neighbours += v * (double)x[i - 1];
    }
    free(x);
    /* five standard errors of n = 2^20: variances 1, 2, 15, 96 and 1 over n */
    const double se = 5.0 / 1024.0;
    assert_true(fabs(m1 / SAMPLES) < se);
    assert_true(fabs(m2 / SAMPLES - 1) < se * sqrt(2));
    assert_true(fabs(m3 / SAMPLES) < se * sqrt(15));
    assert_true(fabs(m4 / SAMPLES - 3) < se * sqrt(96));
    assert_true(fabs(neighbours / SAMPLES) < se);
}

static void names_have_the_ids_of_fnv(void **state)
{
    (void)state;
    /* published FNV-1a, 64 bits */
    assert_true(rng_name_id("") == 0xcbf29ce484222325u);
    assert_true(rng_name_id("a") == 0xaf63dc4c8601ec8cu);
    assert_true(rng_name_id("foobar") == 0x85944171f73967e8u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vectors_come_out),
        cmocka_unit_test(elements_are_the_words_of_their_block),
        cmocka_unit_test(seed_purpose_and_id_each_give_another_stream),
        cmocka_unit_test(filling_gives_the_bits_of_single_elements),
        cmocka_unit_test(uniform_fills_its_interval_evenly),
        cmocka_unit_test(normal_has_the_moments_of_a_normal),
        cmocka_unit_test(names_have_the_ids_of_fnv),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
