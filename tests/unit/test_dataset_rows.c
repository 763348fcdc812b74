/* dataset: a rank that reads only its tokens of a clip gets exactly those, or hears of the damage.
 */
#include "core/base/bf16.h"
#include "data/dataset.h"
#include "tests/support/small_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* One clip in two chunks of 2^20 bytes: 43690 tokens of 12 bf16 values fill the first. */
enum {
    T = 16,
    H = 128,
    W = 128,
    TOKENS = T * (H / 2) * (W / 2),
    VALUES = TOKENS * SMALL_PATCH,
    FIRST_CHUNK = (1 << 20) / (SMALL_PATCH * 2),
};

static char dir[256];
static float expected[VALUES], got[VALUES];

static int make_folder(void **state)
{
    (void)state;
    small_folder(dir);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    small_remove(dir);
    return 0;
}

static void write_long_clip(void)
{
    const DatasetInfo info = small_info();
    const char *caption = "a long one";
    DatasetWriter *writer = NULL;
    /* values that do not compress away: what is flipped later is then a chunk's, mostly */
    uint32_t word = 1;
    for (int i = 0; i < VALUES; i++) {
        word = word * 1664525u + 1013904223u;
        expected[i] = float_of_bf16((uint16_t)(0x3F00 | (word >> 24)));
    }
    const ClipRecord clip = { .t = T,
                              .h = H,
                              .w = W,
                              .latents = tensor_of(expected, F32, SHAPE(TOKENS, SMALL_PATCH)),
                              .frames = 1 + 4 * (T - 1),
                              .fps = 8,
                              .source = "long.mp4",
                              .captions = &caption,
                              .caption_count = 1 };
    assert_int_equal(dataset_writer_create(dir, &info, &writer), OK);
    assert_int_equal(dataset_writer_add(writer, &clip), OK);
    assert_int_equal(dataset_writer_finish(writer), OK);
    dataset_writer_destroy(writer);
}

static Status read_into_got(Dataset *ds, int64_t clip, TokenRange range)
{
    float *dst = got + range.first * SMALL_PATCH;
    return dataset_read_latents(ds, clip, range,
                                tensor_of(dst, F32, SHAPE(range.count, SMALL_PATCH)));
}

/* Reads a clip of `tokens` part by part; together they must be `values`. */
static void assert_parts(Dataset *ds, int64_t clip, int64_t tokens, const float *values)
{
    static const int parts[] = { 1, 2, 3, 8 };
    const size_t bytes = (size_t)(tokens * SMALL_PATCH) * sizeof(float);
    for (size_t p = 0; p < sizeof(parts) / sizeof(parts[0]); p++) {
        int64_t next = 0;
        memset(got, 0xEE, bytes);
        for (int part = 0; part < parts[p]; part++) {
            const TokenRange range = token_part(tokens, parts[p], part);
            assert_int_equal(range.first, next);
            next += range.count;
            assert_int_equal(read_into_got(ds, clip, range), OK);
        }
        assert_int_equal(next, tokens);
        assert_memory_equal(got, values, bytes);
    }
}

static void parts_together_are_the_whole_clip(void **state)
{
    (void)state;
    enum { CLIPS = 6 };
    Dataset *ds = NULL;
    small_dataset(dir, CLIPS, 0);
    assert_int_equal(dataset_open(dir, &ds), OK);
    /* clips of 12, 6 and 2 tokens: fewer than 8 parts, and not a multiple of any */
    for (int64_t clip = 0; clip < CLIPS; clip++) {
        float values[SMALL_MOST_VALUES];
        const int64_t count = small_values(clip, values);
        assert_int_equal(dataset_clip_tokens(ds, clip).count * SMALL_PATCH, count);
        assert_parts(ds, clip, count / SMALL_PATCH, values);
    }
    dataset_close(ds);
}

static void parts_of_a_clip_in_several_chunks_are_the_whole(void **state)
{
    (void)state;
    Dataset *ds = NULL;
    write_long_clip();
    assert_int_equal(dataset_open(dir, &ds), OK);
    assert_parts(ds, 0, TOKENS, expected);
    dataset_close(ds);
}

static void ranges_beyond_the_clip_are_refused(void **state)
{
    (void)state;
    Dataset *ds = NULL;
    static const TokenRange bad[] = { { -1, 2 }, { 11, 2 }, { 0, 13 }, { 2, -1 }, { 13, 0 } };
    small_dataset(dir, 1, 0);
    assert_int_equal(dataset_open(dir, &ds), OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const Tensor dst = tensor_of(got, F32, SHAPE(bad[i].count, SMALL_PATCH));
        assert_int_equal(dataset_read_latents(ds, 0, bad[i], dst), ERR_USAGE);
    }
    /* the range and where it is read to must be of one size */
    const Tensor whole = tensor_of(got, F32, SHAPE(12, SMALL_PATCH));
    assert_int_equal(dataset_read_latents(ds, 0, (TokenRange){ 0, 6 }, whole), ERR_USAGE);
    dataset_close(ds);
}

/* One token of each chunk: whoever reads the least of it hears of a byte that is not his own. */
static void flipped_byte_is_found_by_whoever_reads_of_its_chunk(void **state)
{
    (void)state;
    enum { FLIPS = 24 };
    static const TokenRange probe[2] = { { FIRST_CHUNK - 1, 1 }, { FIRST_CHUNK, 1 } };
    int64_t length, found[2] = { 0 };
    write_long_clip();
    char *bytes = small_read(dir, "shard-00000.h5", &length);
    for (int64_t i = 0; i < FLIPS; i++) {
        Dataset *ds = NULL;
        const int64_t at = (2 * i + 1) * length / (2 * FLIPS);
        small_damage(dir, "shard-00000.h5", at, 1);
        const Status opened = dataset_open(dir, &ds);
        int refused = 0;
        for (int c = 0; opened == OK && c < 2; c++) {
            const size_t bytes_read = SMALL_PATCH * sizeof(float);
            const int64_t value = probe[c].first * SMALL_PATCH;
            if (read_into_got(ds, 0, probe[c]) == OK) {
                assert_memory_equal(got + value, expected + value, bytes_read);
                continue;
            }
            assert_non_null(strstr(status_message(), "shard-00000.h5: clip 0, from long.mp4"));
            found[c]++;
            refused++;
        }
        /* what is damaged for the whole clip is damaged for one of the parts, and only for one */
        if (opened == OK) {
            const Status whole = read_into_got(ds, 0, dataset_clip_tokens(ds, 0));
            assert_int_equal(refused, whole == OK ? 0 : 1);
        }
        dataset_close(ds);
        small_write(dir, "shard-00000.h5", bytes, length);
    }
    /* two thirds of the latents are in the first chunk, and there is little but latents */
    assert_in_range(found[0], FLIPS / 2, FLIPS);
    assert_in_range(found[1], FLIPS / 6, FLIPS / 2);
    free(bytes);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(parts_together_are_the_whole_clip),
        IN_FOLDER(parts_of_a_clip_in_several_chunks_are_the_whole),
        IN_FOLDER(ranges_beyond_the_clip_are_refused),
        IN_FOLDER(flipped_byte_is_found_by_whoever_reads_of_its_chunk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
