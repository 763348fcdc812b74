/* loader: exactly the planned micro-batches, from any step on, on any number of ranks. */
#include "data/loader.h"

#include "core/base/clock.h"
#include "tests/support/small_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { CLIPS = 20, BATCH = 7, STEPS = 9 };

static char dir[256];
static Dataset *ds;

static int open_small(void **state)
{
    (void)state;
    small_folder(dir);
    small_dataset(dir, CLIPS, 1300);
    return dataset_open(dir, &ds) == OK ? 0 : -1;
}

static int close_small(void **state)
{
    (void)state;
    dataset_close(ds);
    small_remove(dir);
    return 0;
}

static LoaderOptions options_of(int rank, int size, int64_t first_step)
{
    return (LoaderOptions){
        .sampler = { .seed = 11, .batch = BATCH, .micro_batch = 2, .caption_drop = 0.25f },
        .rank = rank,
        .size = size,
        .first_step = first_step
    };
}

/* One line a sample: "number clip caption", and the bytes of its latents are checked on the way. */
static void note_batch(const Batch *batch, char lines[BATCH * STEPS][96])
{
    for (int64_t m = 0; m < batch->micro_count; m++) {
        const MicroBatch *micro = &batch->micros[m];
        for (int64_t i = 0; i < micro->clips; i++) {
            float expected[SMALL_MOST_VALUES];
            const int64_t count = small_values(micro->clip_ids[i], expected);
            assert_int_equal(micro->tokens * micro->patch, count);
            assert_memory_equal(tensor_at(micro->latents, i).data, expected,
                                (size_t)count * sizeof(float));
            assert_int_equal(micro->samples[i] / BATCH, batch->step);
            char *line = lines[micro->samples[i]];
            assert_int_equal(line[0], 0); /* nobody else has it */
            snprintf(line, 96, "%lld %lld %s", (long long)micro->samples[i],
                     (long long)micro->clip_ids[i], micro->captions[i]);
        }
    }
}

static void run_with(LoaderOptions options, char lines[BATCH * STEPS][96])
{
    LoaderSizes sizes;
    Loader *loader = NULL;
    assert_int_equal(loader_sizes(&options, dataset_bucket_list(ds), &sizes), OK);
    assert_int_equal(loader_create(ds, &options, &loader), OK);
    for (int64_t step = options.first_step; step < STEPS; step++) {
        const Batch *batch = NULL;
        assert_int_equal(loader_next(loader, &batch), OK);
        assert_int_equal(batch->step, step);
        assert_int_equal(batch->global_clips, BATCH);
        assert_true(batch->micro_count <= sizes.max_micros);
        assert_int_equal(batch->global_elements, batch->global_tokens * SMALL_PATCH);
        for (int64_t m = 0; m < batch->micro_count; m++) {
            const MicroBatch *micro = &batch->micros[m];
            assert_true(micro->clips <= options.sampler.micro_batch);
            if (m > 0) assert_true(micro->chunk >= micro[-1].chunk);
            const int chunks = options.sampler.chunks;
            if (chunks > 0) {
                assert_int_equal(micro->chunk * options.size / chunks, options.rank);
            } else {
                assert_int_equal(micro->chunk, 0);
            }
        }
        note_batch(batch, lines);
    }
    assert_true(loader_wait_s(loader) >= 0);
    loader_destroy(loader);
}

static void run(int rank, int size, int64_t first_step, char lines[BATCH * STEPS][96])
{
    run_with(options_of(rank, size, first_step), lines);
}

static void assert_part(const MicroBatch *own, const MicroBatch *whole, int parts, int part)
{
    const TokenRange range = token_part(whole->tokens, parts, part);
    assert_int_equal(own->tokens, whole->tokens);
    assert_int_equal(own->range.first, range.first);
    assert_int_equal(own->range.count, range.count);
    assert_int_equal(own->clips, whole->clips);
    assert_memory_equal(own->samples, whole->samples, (size_t)own->clips * sizeof(int64_t));
    assert_int_equal(own->latents.ndim, 3);
    assert_int_equal(own->latents.shape[1], range.count);
    assert_non_null(own->latents.data);
    for (int64_t i = 0; i < own->clips; i++) {
        const Tensor clip = tensor_at(whole->latents, i), rows = tensor_at(own->latents, i);
        const Tensor expected = tensor_slice(clip, range.first, range.count);
        assert_memory_equal(rows.data, expected.data, tensor_bytes(expected));
    }
}

static void ranks_together_have_what_one_has(void **state)
{
    (void)state;
    static char one[BATCH * STEPS][96], many[BATCH * STEPS][96];
    memset(one, 0, sizeof(one));
    run(0, 1, 0, one);
    for (int n = 0; n < BATCH * STEPS; n++) assert_int_not_equal(one[n][0], 0);
    for (int size = 2; size <= 5; size++) {
        memset(many, 0, sizeof(many));
        for (int rank = 0; rank < size; rank++) run(rank, size, 0, many);
        assert_memory_equal(one, many, sizeof(one));
    }
}

static void batches_are_the_planned_ones(void **state)
{
    (void)state;
    static char lines[BATCH * STEPS][96];
    memset(lines, 0, sizeof(lines));
    run(0, 1, 0, lines);
    int dropped = 0;
    for (int64_t n = 0; n < BATCH * STEPS; n++) {
        const int64_t clip = sampler_permute(11, n / CLIPS, CLIPS, n % CLIPS);
        char start[64];
        snprintf(start, sizeof(start), "%lld %lld ", (long long)n, (long long)clip);
        assert_memory_equal(lines[n], start, strlen(start));
        const char *caption = lines[n] + strlen(start);
        char expected[32];
        snprintf(expected, sizeof(expected), "clip %lld wording ", (long long)clip);
        if (caption[0] == '\0') {
            dropped++;
        } else {
            assert_memory_equal(caption, expected, strlen(expected));
        }
    }
    assert_in_range(dropped, 1, BATCH * STEPS / 2);
}

static void resumed_run_gets_the_very_next_clips(void **state)
{
    (void)state;
    static char whole[BATCH * STEPS][96], parts[BATCH * STEPS][96];
    memset(whole, 0, sizeof(whole));
    run(0, 1, 0, whole);
    for (int64_t step = 1; step < STEPS; step += 3) {
        memset(parts, 0, sizeof(parts));
        for (int rank = 0; rank < 2; rank++) run(rank, 2, step, parts);
        const size_t before = (size_t)(step * BATCH);
        assert_memory_equal(whole[before], parts[before], sizeof(whole) - before * 96);
        assert_int_equal(parts[before - 1][0], 0);
    }
}

static void ranks_with_chunks_together_have_what_one_has(void **state)
{
    (void)state;
    static char one[BATCH * STEPS][96], many[BATCH * STEPS][96];
    memset(one, 0, sizeof(one));
    run(0, 1, 0, one);
    for (int size = 1; size <= 8; size *= 2) {
        for (int64_t micro_batch = 1; micro_batch <= 3; micro_batch++) {
            memset(many, 0, sizeof(many));
            for (int rank = 0; rank < size; rank++) {
                LoaderOptions options = options_of(rank, size, 0);
                options.sampler.micro_batch = micro_batch;
                options.sampler.chunks = 8; /* more than the 7 samples: some have none */
                run_with(options, many);
            }
            assert_memory_equal(one, many, sizeof(one));
        }
    }
}

/* Every part's loader beside the one of whole clips: the same plan, and each its own tokens. */
static void parts_together_have_whole_clips(void **state)
{
    (void)state;
    static const int counts[] = { 1, 2, 3, 8 };
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        for (int part = 0; part < counts[c]; part++) {
            Loader *whole = NULL, *loader = NULL;
            LoaderOptions options = options_of(1, 2, 0);
            assert_int_equal(loader_create(ds, &options, &whole), OK);
            options.part = part;
            options.parts = counts[c];
            assert_int_equal(loader_create(ds, &options, &loader), OK);
            for (int step = 0; step < 4; step++) {
                const Batch *all = NULL, *own = NULL;
                assert_int_equal(loader_next(whole, &all), OK);
                assert_int_equal(loader_next(loader, &own), OK);
                assert_int_equal(own->global_elements, all->global_elements);
                assert_int_equal(own->micro_count, all->micro_count);
                for (int64_t m = 0; m < own->micro_count; m++) {
                    assert_part(&own->micros[m], &all->micros[m], counts[c], part);
                }
            }
            /* of the 12 tokens of the longest clip, one of which has room to be checked whole */
            const size_t one = counts[c] > 1 ? 12 * SMALL_PATCH * sizeof(float) : 0;
            const size_t saved = loader_buffer_bytes(whole) + one - loader_buffer_bytes(loader);
            const int64_t less = 12 - token_part(12, counts[c], part).count;
            assert_int_equal(saved % ((size_t)(less > 0 ? less : 1) * SMALL_PATCH * 4), 0);
            assert_true(counts[c] == 1 ? saved == 0 : saved > 0);
            loader_destroy(loader);
            loader_destroy(whole);
        }
    }
}

static void batch_holds_until_the_next_call(void **state)
{
    (void)state;
    Loader *loader = NULL;
    const Batch *batch = NULL;
    const LoaderOptions options = options_of(0, 1, 0);
    assert_int_equal(loader_create(ds, &options, &loader), OK);
    for (int step = 0; step < 4; step++) {
        char lines[BATCH * STEPS][96] = { { 0 } };
        assert_int_equal(loader_next(loader, &batch), OK);
        const double start_s = clock_seconds();
        while (clock_seconds() - start_s < 0.05) {
        } /* the thread would have had the time to run over it */
        assert_int_equal(batch->step, step);
        note_batch(batch, lines);
    }
    loader_destroy(loader);
}

static void metadata_only_reads_no_latents(void **state)
{
    (void)state;
    Loader *loader = NULL, *whole = NULL;
    const Batch *batch = NULL, *expected = NULL;
    LoaderOptions options = options_of(1, 2, 0);
    assert_int_equal(loader_create(ds, &options, &whole), OK);
    options.metadata_only = true;
    assert_int_equal(loader_create(ds, &options, &loader), OK);
    assert_true(loader_buffer_bytes(loader) < loader_buffer_bytes(whole));
    for (int step = 0; step < 3; step++) {
        assert_int_equal(loader_next(loader, &batch), OK);
        assert_int_equal(loader_next(whole, &expected), OK);
        assert_int_equal(batch->micro_count, expected->micro_count);
        assert_int_equal(batch->global_elements, expected->global_elements);
        for (int64_t m = 0; m < batch->micro_count; m++) {
            assert_null(batch->micros[m].latents.data);
            assert_int_equal(batch->micros[m].clips, expected->micros[m].clips);
            assert_memory_equal(batch->micros[m].samples, expected->micros[m].samples,
                                (size_t)batch->micros[m].clips * sizeof(int64_t));
        }
    }
    loader_destroy(loader);
    loader_destroy(whole);
}

static void idle_rank_gets_an_empty_batch(void **state)
{
    (void)state;
    Loader *loader = NULL;
    const Batch *batch = NULL;
    LoaderOptions options = options_of(3, 4, 0);
    options.sampler.batch = 1;
    assert_int_equal(loader_create(ds, &options, &loader), OK);
    assert_int_equal(loader_next(loader, &batch), OK);
    assert_int_equal(batch->micro_count, 0);
    assert_int_equal(batch->global_micros, 1);
    loader_destroy(loader);
}

static void loader_stops_at_any_time(void **state)
{
    (void)state;
    for (int taken = 0; taken < 20; taken++) {
        Loader *loader = NULL;
        const Batch *batch = NULL;
        const LoaderOptions options = options_of(0, 1, 3);
        assert_int_equal(loader_create(ds, &options, &loader), OK);
        for (int i = 0; i < taken % 4; i++) assert_int_equal(loader_next(loader, &batch), OK);
        loader_destroy(loader);
    }
    loader_destroy(NULL);
}

static void latents_can_be_read_beside_the_loader(void **state)
{
    (void)state;
    Loader *loader = NULL;
    const Batch *batch = NULL;
    const LoaderOptions options = options_of(0, 1, 0);
    assert_int_equal(loader_create(ds, &options, &loader), OK);
    for (int64_t clip = 0; clip < CLIPS; clip++) {
        float values[SMALL_MOST_VALUES], expected[SMALL_MOST_VALUES];
        const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
        const Tensor dst = tensor_of(values, F32, SHAPE(b->tokens, b->patch));
        assert_int_equal(loader_next(loader, &batch), OK);
        assert_int_equal(dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip), dst), OK);
        const int64_t count = small_values(clip, expected);
        assert_memory_equal(values, expected, (size_t)count * sizeof(float));
    }
    loader_destroy(loader);
}

static void bad_ranks_are_refused(void **state)
{
    (void)state;
    Loader *loader = NULL;
    LoaderOptions options = options_of(2, 2, 0);
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    options = options_of(0, 1, 0);
    options.sampler.batch = 0;
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    options = options_of(0, 1, 0);
    options.part = options.parts = 2;
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    options = options_of(0, 3, 0);
    options.sampler.chunks = 8;
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "8 canonical chunks"));
    options = options_of(0, 1, 0);
    options.part = 1;
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    assert_null(loader);
}

#define WITH_DATA(test) cmocka_unit_test_setup_teardown(test, open_small, close_small)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DATA(batches_are_the_planned_ones),
        WITH_DATA(ranks_together_have_what_one_has),
        WITH_DATA(ranks_with_chunks_together_have_what_one_has),
        WITH_DATA(parts_together_have_whole_clips),
        WITH_DATA(resumed_run_gets_the_very_next_clips),
        WITH_DATA(batch_holds_until_the_next_call),
        WITH_DATA(metadata_only_reads_no_latents),
        WITH_DATA(idle_rank_gets_an_empty_batch),
        WITH_DATA(loader_stops_at_any_time),
        WITH_DATA(latents_can_be_read_beside_the_loader),
        WITH_DATA(bad_ranks_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
