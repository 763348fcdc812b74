/* sampler: every clip once an epoch, the same plan whoever asks. */
#include "data/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CLIPS = 37, BUCKETS = 3 };

static int64_t buckets[CLIPS], captions[CLIPS];
static const int64_t elements[BUCKETS] = { 100, 1000, 10000 }, tokens[BUCKETS] = { 1, 10, 100 };

static Sampler sampler_of(int64_t batch, int64_t micro_batch, float drop)
{
    for (int i = 0; i < CLIPS; i++) {
        buckets[i] = i % BUCKETS;
        captions[i] = 1 + i % 4;
    }
    const SamplerOptions options = {
        .seed = 5, .batch = batch, .micro_batch = micro_batch, .caption_drop = drop
    };
    const SamplerClips clips = { .clips = CLIPS,
                                 .buckets = buckets,
                                 .captions = captions,
                                 .bucket_count = BUCKETS,
                                 .bucket_elements = elements,
                                 .bucket_tokens = tokens };
    Sampler sampler;
    assert_int_equal(sampler_make(&options, &clips, &sampler), OK);
    return sampler;
}

static void permutation_has_every_entry_once(void **state)
{
    (void)state;
    static const int64_t counts[] = { 1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097 };
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            char *seen = calloc((size_t)counts[c], 1);
            assert_non_null(seen);
            for (int64_t i = 0; i < counts[c]; i++) {
                const int64_t at = sampler_permute(7, epoch, counts[c], i);
                assert_in_range(at, 0, counts[c] - 1);
                assert_int_equal(seen[at]++, 0);
            }
            free(seen);
        }
    }
}

static void permutation_reaches_far_into_large_sets(void **state)
{
    (void)state;
    const int64_t count = ((int64_t)1 << 40) + 12345;
    int64_t beyond_half = 0;
    for (int64_t i = 0; i < 1000; i++) {
        const int64_t at = sampler_permute(7, 0, count, i);
        assert_true(at >= 0 && at < count);
        beyond_half += at > count / 2;
    }
    /* binomial(1000, 1/2): 5 standard deviations are 79 */
    assert_in_range(beyond_half, 421, 579);
}

static void epochs_and_seeds_differ(void **state)
{
    (void)state;
    int same_epoch = 0, same_seed = 0;
    for (int64_t i = 0; i < 1000; i++) {
        same_epoch += sampler_permute(7, 0, 1000, i) == sampler_permute(7, 1, 1000, i);
        same_seed += sampler_permute(7, 0, 1000, i) == sampler_permute(8, 0, 1000, i);
    }
    /* two random permutations agree in one place on average; 8 or more: once in 10^5 */
    assert_in_range(same_epoch, 0, 8);
    assert_in_range(same_seed, 0, 8);
}

static void every_order_of_a_small_set_comes_up(void **state)
{
    (void)state;
    /* five clips, as in the quickstart: the place of clip 0 and the pair (first, second) */
    enum { EPOCHS = 20000 };
    int place[5] = { 0 }, pair[5][5] = { { 0 } };
    for (int64_t epoch = 0; epoch < EPOCHS; epoch++) {
        for (int64_t i = 0; i < 5; i++) place[i] += sampler_permute(3, epoch, 5, i) == 0;
        pair[sampler_permute(3, epoch, 5, 0)][sampler_permute(3, epoch, 5, 1)]++;
    }
    for (int i = 0; i < 5; i++) {
        /* binomial(20000, 1/5): 5 standard deviations are 283 */
        assert_in_range(place[i], 4000 - 283, 4000 + 283);
        for (int j = 0; j < 5; j++) {
            /* binomial(20000, 1/20): 5 standard deviations are 154 */
            if (i != j) assert_in_range(pair[i][j], 1000 - 154, 1000 + 154);
        }
    }
}

static void samples_run_through_the_epochs(void **state)
{
    (void)state;
    const Sampler sampler = sampler_of(8, 2, 0);
    for (int64_t epoch = 0; epoch < 4; epoch++) {
        int seen[CLIPS] = { 0 };
        for (int64_t i = 0; i < CLIPS; i++) {
            const Sample s = sampler_sample(&sampler, epoch * CLIPS + i);
            assert_int_equal(s.number, epoch * CLIPS + i);
            assert_int_equal(s.epoch, epoch);
            assert_int_equal(s.bucket, buckets[s.clip]);
            assert_int_equal(seen[s.clip]++, 0);
        }
    }
}

static void captions_are_dropped_and_chosen_evenly(void **state)
{
    (void)state;
    const Sampler sampler = sampler_of(8, 2, 0.1f);
    int64_t dropped = 0, wording[4] = { 0 }, of_four = 0;
    for (int64_t n = 0; n < 20000; n++) {
        const Sample s = sampler_sample(&sampler, n);
        assert_in_range(s.caption, 0, captions[s.clip] - 1);
        dropped += s.caption_drop;
        if (captions[s.clip] != 4) continue;
        of_four++;
        wording[s.caption]++;
    }
    /* binomial(20000, 1/10): 5 standard deviations are 212 */
    assert_in_range(dropped, 2000 - 212, 2000 + 212);
    const double deviation = sqrt((double)of_four * 0.25 * 0.75);
    for (int k = 0; k < 4; k++) {
        assert_true(fabs((double)wording[k] - (double)of_four / 4) < 5 * deviation);
    }

    const Sampler never = sampler_of(8, 2, 0), always = sampler_of(8, 2, 1);
    for (int64_t n = 0; n < 1000; n++) {
        assert_false(sampler_sample(&never, n).caption_drop);
        assert_true(sampler_sample(&always, n).caption_drop);
    }
}

static void plan_holds_the_steps_samples_once_each(void **state)
{
    (void)state;
    static const int64_t cases[][2] = { { 8, 2 }, { 8, 3 }, { 1, 4 }, { 50, 7 }, { 100, 100 } };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        const Sampler sampler = sampler_of(cases[c][0], cases[c][1], 0.1f);
        BatchPlan plan;
        assert_int_equal(batch_plan_create(&sampler, &plan), OK);
        for (int64_t step = 0; step < 12; step++) {
            int64_t values = 0, token_count = 0, at = 0;
            int seen[100] = { 0 };
            batch_plan_fill(&sampler, step, &plan);
            assert_true(plan.micro_count <= sampler_max_micros(&sampler, 1));
            for (int64_t m = 0; m < plan.micro_count; m++) {
                const PlannedMicro *micro = &plan.micros[m];
                assert_int_equal(micro->first, at);
                assert_in_range(micro->count, 1, cases[c][1]);
                at += micro->count;
                for (int64_t i = micro->first; i < micro->first + micro->count; i++) {
                    const Sample *s = &plan.samples[i];
                    assert_int_equal(s->bucket, micro->bucket); /* one bucket only */
                    assert_int_equal(seen[s->number - step * cases[c][0]]++, 0);
                    /* stable: ascending inside a bucket */
                    if (i > 0 && s[-1].bucket == s->bucket) assert_true(s[-1].number < s->number);
                    values += elements[s->bucket];
                    token_count += tokens[s->bucket];
                }
            }
            assert_int_equal(at, cases[c][0]);
            assert_int_equal(plan.elements, values);
            assert_int_equal(plan.tokens, token_count);
        }
        batch_plan_destroy(&plan);
    }
}

/* ---- canonical chunks ----------------------------------------------------------------------- */

/* One rank's micro-batches of a chunked plan; marks whose samples they are. */
static void assert_rank(const Sampler *sampler, const BatchPlan *plan, int rank, int size,
                        int *seen)
{
    const int64_t batch = sampler->options.batch, chunks = sampler->options.chunks;
    int64_t micros = 0, samples = 0, before = -1;
    for (int64_t m = 0; m < plan->micro_count; m++) {
        const PlannedMicro *micro = &plan->micros[m];
        if (batch_plan_rank(plan, m, size) != rank) continue;
        assert_in_range(micro->count, 1, sampler->options.micro_batch);
        assert_in_range(micro->chunk, rank * chunks / size, (rank + 1) * chunks / size - 1);
        assert_true(micro->first > before);
        before = micro->first;
        for (int64_t i = micro->first; i < micro->first + micro->count; i++) {
            assert_in_range(i, batch * micro->chunk / chunks,
                            batch * (micro->chunk + 1) / chunks - 1);
            assert_int_equal(plan->samples[i].bucket, micro->bucket);
            seen[i]++;
        }
        micros++;
        samples += micro->count;
    }
    assert_true(micros <= sampler_max_micros(sampler, size));
    assert_true(samples <= sampler_max_samples(sampler, size));
}

static void assert_chunked_plans(int64_t batch, int64_t micro_batch, int chunks)
{
    const Sampler plain = sampler_of(batch, micro_batch, 0.1f);
    Sampler sampler = plain;
    BatchPlan plan, expected;
    sampler.options.chunks = chunks;
    assert_int_equal(batch_plan_create(&sampler, &plan), OK);
    assert_int_equal(batch_plan_create(&plain, &expected), OK);
    for (int64_t step = 0; step < 6; step++) {
        batch_plan_fill(&sampler, step, &plan);
        batch_plan_fill(&plain, step, &expected);
        assert_true(plan.micro_count <= sampler_max_micros(&sampler, 1));
        assert_int_equal(plan.elements, expected.elements);
        for (int64_t i = 0; i < batch; i++) {
            assert_int_equal(plan.samples[i].number, expected.samples[i].number);
        }
        for (int size = 1; size <= chunks && size <= 8; size *= 2) {
            int seen[100] = { 0 };
            for (int rank = 0; rank < size; rank++) assert_rank(&sampler, &plan, rank, size, seen);
            for (int64_t i = 0; i < batch; i++) assert_int_equal(seen[i], 1);
        }
    }
    batch_plan_destroy(&expected);
    batch_plan_destroy(&plan);
}

static void chunked_plan_gives_every_sample_to_one_rank(void **state)
{
    (void)state;
    static const int64_t batches[] = { 1, 3, 7, 8, 13, 16, 37, 64, 100 };
    for (size_t b = 0; b < sizeof(batches) / sizeof(batches[0]); b++) {
        for (int64_t micro_batch = 1; micro_batch <= 3; micro_batch++) {
            for (int chunks = 1; chunks <= 16; chunks *= 2) {
                assert_chunked_plans(batches[b], micro_batch, chunks);
            }
        }
    }
}

/* Which samples a chunk has must depend on nothing that a run may change. */
static void chunks_do_not_depend_on_the_micro_batch(void **state)
{
    (void)state;
    enum { BATCH = 37 };
    int chunk_of[4][BATCH] = { { 0 } };
    for (int64_t micro_batch = 1; micro_batch <= 3; micro_batch++) {
        Sampler sampler = sampler_of(BATCH, micro_batch, 0);
        BatchPlan plan;
        sampler.options.chunks = 8;
        assert_int_equal(batch_plan_create(&sampler, &plan), OK);
        batch_plan_fill(&sampler, 2, &plan);
        for (int64_t m = 0; m < plan.micro_count; m++) {
            const PlannedMicro *micro = &plan.micros[m];
            for (int64_t i = micro->first; i < micro->first + micro->count; i++) {
                chunk_of[micro_batch][plan.samples[i].number - 2 * BATCH] = micro->chunk;
            }
        }
        batch_plan_destroy(&plan);
        assert_memory_equal(chunk_of[micro_batch], chunk_of[1], sizeof(chunk_of[1]));
    }
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    Sampler sampler = sampler_of(8, 2, 0), out;
    sampler.options.batch = 0;
    assert_int_equal(sampler_make(&sampler.options, &sampler.clips, &out), ERR_CONFIG);
    sampler.options.batch = 8;
    sampler.options.micro_batch = 0;
    assert_int_equal(sampler_make(&sampler.options, &sampler.clips, &out), ERR_CONFIG);
    sampler.options.micro_batch = 1;
    sampler.options.caption_drop = NAN;
    assert_int_equal(sampler_make(&sampler.options, &sampler.clips, &out), ERR_CONFIG);
    sampler.options.caption_drop = 0;
    for (int chunks = -8; chunks <= 20; chunks++) {
        const bool good =
            chunks == 0 || chunks == 1 || chunks == 2 || chunks == 4 || chunks == 8 || chunks == 16;
        sampler.options.chunks = chunks;
        assert_int_equal(sampler_make(&sampler.options, &sampler.clips, &out),
                         good ? OK : ERR_CONFIG);
    }
    sampler.options.chunks = 0;
    sampler.clips.clips = 0;
    assert_int_equal(sampler_make(&sampler.options, &sampler.clips, &out), ERR_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutation_has_every_entry_once),
        cmocka_unit_test(permutation_reaches_far_into_large_sets),
        cmocka_unit_test(epochs_and_seeds_differ),
        cmocka_unit_test(every_order_of_a_small_set_comes_up),
        cmocka_unit_test(samples_run_through_the_epochs),
        cmocka_unit_test(captions_are_dropped_and_chosen_evenly),
        cmocka_unit_test(plan_holds_the_steps_samples_once_each),
        cmocka_unit_test(chunked_plan_gives_every_sample_to_one_rank),
        cmocka_unit_test(chunks_do_not_depend_on_the_micro_batch),
        cmocka_unit_test(bad_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
