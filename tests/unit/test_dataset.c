/* dataset: what is written is read back; what is damaged is named in one line. */
#include "data/dataset.h"

#include "core/base/file.h"
#include "data/h5.h"
#include "data/shard.h"
#include "tests/support/h5_hostile.h"
#include "tests/support/small_dataset.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { CLIPS = 20, THREE_SHARDS = 1300 }; /* bytes of latents a shard */

static char dir[256];

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

/* One line that holds `words`. */
static void assert_says(const char *words)
{
    const char *message = status_message();
    if (strstr(message, words) == NULL) fail_msg("expected \"%s\" in: %s", words, message);
    assert_null(strchr(message, '\n'));
}

static void assert_refused(Status status, const char *words)
{
    Dataset *ds = NULL;
    assert_int_equal(dataset_open(dir, &ds), status);
    assert_null(ds);
    assert_says(words);
}

static void assert_clip(Dataset *ds, int64_t clip)
{
    float expected[SMALL_MOST_VALUES], got[SMALL_MOST_VALUES];
    char text[64];
    const int64_t count = small_values(clip, expected);
    const DatasetClip info = dataset_clip(ds, clip);
    const DatasetBucket *bucket = dataset_bucket(ds, info.bucket);
    assert_int_equal(bucket->tokens * bucket->patch, count);
    assert_int_equal(
        dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip),
                             tensor_of(got, F32, SHAPE(bucket->tokens, bucket->patch))),
        OK);
    assert_memory_equal(got, expected, (size_t)count * sizeof(float));
    assert_int_equal(info.frames, 1 + 4 * (bucket->t - 1));
    assert_true(info.fps == 8 && info.start_s == (double)clip / 4);
    assert_int_equal(info.crop[0], clip);
    assert_int_equal(info.crop[3], 32);
    assert_int_equal(info.caption_count, 1 + clip % 3);
    snprintf(text, sizeof(text), "v%lld.mp4", (long long)clip);
    assert_string_equal(info.source, text);
    for (int64_t k = 0; k < info.caption_count; k++) {
        snprintf(text, sizeof(text), "clip %lld wording %lld \u00e9", (long long)clip,
                 (long long)k);
        assert_string_equal(dataset_caption(ds, clip, k), text);
    }
}

/* ---- round trip ----------------------------------------------------------------------------- */

static void what_is_written_is_read_back(void **state)
{
    (void)state;
    Dataset *ds = NULL;
    small_dataset(dir, CLIPS, THREE_SHARDS);
    assert_int_equal(dataset_open(dir, &ds), OK);
    assert_int_equal(dataset_clips(ds), CLIPS);
    assert_int_equal(dataset_shards(ds), 3);
    assert_int_equal(dataset_buckets(ds), 3);
    assert_int_equal(dataset_captions(ds), 39); /* 7 * 1 + 7 * 2 + 6 * 3 */
    for (int64_t clip = 0; clip < CLIPS; clip++) assert_clip(ds, clip);

    const DatasetInfo *got = dataset_info(ds), expected = small_info();
    assert_string_equal(got->codec, "linear");
    assert_string_equal(got->codec_digest, expected.codec_digest);
    assert_memory_equal(got->basis.data, expected.basis.data, tensor_bytes(expected.basis));
    assert_memory_equal(got->mean.data, expected.mean.data, tensor_bytes(expected.mean));
    assert_memory_equal(got->scale.data, expected.scale.data, tensor_bytes(expected.scale));
    assert_int_equal(got->patch[1], 2);
    assert_int_equal(got->stride[0], 4);
    assert_true(got->fps == 8);
    assert_int_equal(dataset_verify(ds), OK);
    dataset_close(ds);
}

static void buckets_are_sorted_and_counted_over_shards(void **state)
{
    (void)state;
    Dataset *ds = NULL;
    small_dataset(dir, CLIPS, THREE_SHARDS);
    assert_int_equal(dataset_open(dir, &ds), OK);
    static const int64_t expected[3][6] = { { 1, 4, 2, 2, 12, 6 },
                                            { 3, 2, 4, 6, 12, 7 },
                                            { 3, 4, 4, 12, 12, 7 } };
    for (int i = 0; i < 3; i++) {
        const DatasetBucket *b = dataset_bucket(ds, i);
        const int64_t got[6] = { b->t, b->h, b->w, b->tokens, b->patch, b->clips };
        assert_memory_equal(got, expected[i], sizeof(got));
    }
    dataset_close(ds);
}

static void same_clips_give_the_same_bytes(void **state)
{
    (void)state;
    char other[256];
    int64_t a_length, b_length;
    small_folder(other);
    small_dataset(dir, CLIPS, THREE_SHARDS);
    sleep(1); /* a time stamp in the file would differ by now */
    small_dataset(other, CLIPS, THREE_SHARDS);
    static const char *const names[] = { "shard-00000.h5", "shard-00002.h5", "dataset.json" };
    for (int i = 0; i < 3; i++) {
        char *a = small_read(dir, names[i], &a_length), *b = small_read(other, names[i], &b_length);
        assert_int_equal(a_length, b_length);
        assert_memory_equal(a, b, (size_t)a_length);
        free(a);
        free(b);
    }
    small_remove(other);
}

static void digest_tells_datasets_apart(void **state)
{
    (void)state;
    char other[256];
    Dataset *a = NULL, *b = NULL;
    small_folder(other);
    small_dataset(dir, CLIPS, 0);
    small_dataset(other, CLIPS - 1, 0);
    assert_int_equal(dataset_open(dir, &a), OK);
    assert_int_equal(dataset_open(other, &b), OK);
    assert_string_not_equal(dataset_digest(a), dataset_digest(b));
    dataset_close(a);
    dataset_close(b);
    small_remove(other);
}

/* ---- writer --------------------------------------------------------------------------------- */

static void unfinished_writer_leaves_no_dataset(void **state)
{
    (void)state;
    DatasetWriter *writer = NULL;
    DatasetInfo info = small_info();
    small_dataset(dir, CLIPS, THREE_SHARDS);
    char path[512];
    snprintf(path, sizeof(path), "%s/dataset.json", dir);
    assert_int_equal(unlink(path), 0); /* as if it had been killed before the last step */
    snprintf(path, sizeof(path), "%s/shard-00007.h5.partial", dir);
    small_write(dir, "shard-00007.h5.partial", "x", 1);
    assert_refused(ERR_FORMAT, "its ingest has not finished");

    /* the next writer clears what is left */
    assert_int_equal(dataset_writer_create(dir, &info, &writer), OK);
    FileList list;
    assert_int_equal(file_list(dir, &list), OK);
    assert_int_equal(list.count, 0);
    file_list_destroy(&list);
    assert_int_equal(dataset_writer_finish(writer), ERR_FORMAT);
    assert_says("no clip");
    dataset_writer_destroy(writer);
    assert_int_equal(rmdir(dir), 0); /* nothing partial is left */
    assert_int_equal(mkdir(dir, 0700), 0);
}

static void writer_refuses_to_mix_or_overwrite(void **state)
{
    (void)state;
    DatasetWriter *writer = NULL, *second = NULL;
    DatasetInfo info = small_info();
    small_write(dir, "shard-00000.h5", "somebody else's", 15);
    assert_int_equal(dataset_writer_create(dir, &info, &writer), ERR_USAGE);
    assert_says("no shard of an unfinished dataset");
    char path[512];
    snprintf(path, sizeof(path), "%s/shard-00000.h5", dir);
    assert_int_equal(unlink(path), 0);

    assert_int_equal(dataset_writer_create(dir, &info, &writer), OK);
    assert_int_equal(dataset_writer_create(dir, &info, &second), ERR_USAGE);
    assert_says("another ingest is writing here");
    dataset_writer_destroy(writer);

    small_dataset(dir, 3, 0);
    assert_int_equal(dataset_writer_create(dir, &info, &writer), ERR_USAGE);
    assert_says("holds a dataset already");
}

static void writer_refuses_bad_clips_and_goes_on(void **state)
{
    (void)state;
    DatasetWriter *writer = NULL;
    const DatasetInfo info = small_info();
    const char *captions[] = { "fine", "\xff" };
    float values[SMALL_MOST_VALUES];
    assert_int_equal(dataset_writer_create(dir, &info, &writer), OK);
    small_values(0, values);
    ClipRecord good = { .t = 3,
                        .h = 4,
                        .w = 4,
                        .latents = tensor_of(values, F32, SHAPE(12, SMALL_PATCH)),
                        .frames = 9,
                        .fps = 8,
                        .source = "v.mp4",
                        .captions = captions,
                        .caption_count = 1 };
    ClipRecord bad = good;
    bad.w = 3;
    assert_int_equal(dataset_writer_add(writer, &bad), ERR_FORMAT);
    assert_says("cannot be cut into patches");
    bad.w = 8;
    assert_int_equal(dataset_writer_add(writer, &bad), ERR_FORMAT);
    assert_says("has 24 tokens of 12 values, not 12 of 12");
    bad = good;
    bad.caption_count = 2;
    assert_int_equal(dataset_writer_add(writer, &bad), ERR_FORMAT);
    assert_says("not UTF-8");
    bad = good;
    bad.caption_count = 0;
    assert_int_equal(dataset_writer_add(writer, &bad), ERR_FORMAT);
    assert_says("no caption");
    values[5] = 3.4e38f; /* finite, but not in bf16 */
    assert_int_equal(dataset_writer_add(writer, &good), ERR_FORMAT);
    assert_says("latent value 5");
    values[5] = NAN;
    assert_int_equal(dataset_writer_add(writer, &good), ERR_FORMAT);
    assert_says("latent value 5");
    small_values(0, values);
    assert_int_equal(dataset_writer_add(writer, &good), OK);
    assert_int_equal(dataset_writer_finish(writer), OK);
    dataset_writer_destroy(writer);

    Dataset *ds = NULL;
    assert_int_equal(dataset_open(dir, &ds), OK);
    assert_int_equal(dataset_clips(ds), 1);
    dataset_close(ds);
}

static void codec_that_is_not_its_digest_is_refused(void **state)
{
    (void)state;
    DatasetWriter *writer = NULL;
    DatasetInfo info = small_info();
    ((float *)info.scale.data)[1] += 1;
    assert_int_equal(dataset_writer_create(dir, &info, &writer), ERR_FORMAT);
    assert_says("the codec's digest is");
}

static void latents_are_rounded_to_nearest_even(void **state)
{
    (void)state;
    /* bf16 keeps 8 bits: 1 + 2^-8 lies half way to 1 + 2^-7 and goes to the even 1 */
    static const float in[] = { 1.00390625f, 1.01171875f, -1.0039064f, 0.1f };
    static const float out[] = { 1.0f, 1.015625f, -1.0078125f, 0.10009765625f };
    DatasetWriter *writer = NULL;
    const DatasetInfo info = small_info();
    const char *caption = "c";
    float values[2 * SMALL_PATCH] = { 0 };
    memcpy(values, in, sizeof(in));
    const Tensor latents = tensor_of(values, F32, SHAPE(2, SMALL_PATCH));
    const ClipRecord clip = { .t = 1,
                              .h = 4,
                              .w = 2,
                              .latents = latents,
                              .frames = 1,
                              .fps = 8,
                              .source = "v",
                              .captions = &caption,
                              .caption_count = 1 };
    assert_int_equal(dataset_writer_create(dir, &info, &writer), OK);
    assert_int_equal(dataset_writer_add(writer, &clip), OK);
    assert_int_equal(dataset_writer_finish(writer), OK);
    dataset_writer_destroy(writer);
    Dataset *ds = NULL;
    assert_int_equal(dataset_open(dir, &ds), OK);
    assert_int_equal(dataset_read_latents(ds, 0, dataset_clip_tokens(ds, 0), latents), OK);
    assert_memory_equal(values, out, sizeof(out));
    dataset_close(ds);
}

/* ---- damage --------------------------------------------------------------------------------- */

static void what_is_not_a_dataset_is_said_so(void **state)
{
    (void)state;
    Dataset *ds = NULL;
    assert_int_equal(dataset_open("/nowhere/at/all", &ds), ERR_IO);
    assert_says("/nowhere/at/all: no such folder");
    assert_refused(ERR_FORMAT, "not a dataset");
    small_write(dir, "dataset.json", "{}", 2);
    assert_refused(ERR_FORMAT, "format");
}

static void other_version_is_refused(void **state)
{
    (void)state;
    small_dataset(dir, 3, 0);
    small_edit(dir, "dataset.json", "\"version\": 1", "\"version\": 9");
    assert_refused(ERR_FORMAT, "dataset of version 9, this zoetrope reads 1 to 3");
}

static void missing_shard_is_named(void **state)
{
    (void)state;
    small_dataset(dir, CLIPS, THREE_SHARDS);
    char path[512];
    snprintf(path, sizeof(path), "%s/shard-00001.h5", dir);
    assert_int_equal(unlink(path), 0);
    assert_refused(ERR_IO, "shard-00001.h5: No such file");
}

static void shard_that_is_a_link_is_refused(void **state)
{
    (void)state;
    small_dataset(dir, CLIPS, THREE_SHARDS);
    char path[512], moved[512];
    snprintf(path, sizeof(path), "%s/shard-00001.h5", dir);
    snprintf(moved, sizeof(moved), "%s/elsewhere", dir);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(symlink(moved, path), 0);
    assert_refused(ERR_FORMAT, "shard-00001.h5: is a symbolic link");
}

static void truncated_shard_is_refused(void **state)
{
    (void)state;
    small_dataset(dir, CLIPS, 0);
    int64_t length;
    char *bytes = small_read(dir, "shard-00000.h5", &length), size[2][64];
    small_write(dir, "shard-00000.h5", bytes, length / 2);
    assert_refused(ERR_FORMAT, "truncated or replaced");

    /* even when the record agrees with the shorter file */
    snprintf(size[0], sizeof(size[0]), "\"size_bytes\": %lld", (long long)length);
    snprintf(size[1], sizeof(size[1]), "\"size_bytes\": %lld", (long long)length / 2);
    small_edit(dir, "dataset.json", size[0], size[1]);
    assert_refused(ERR_FORMAT, "cannot open as HDF5: truncated file");
    free(bytes);
}

static void shard_of_another_dataset_is_refused(void **state)
{
    (void)state;
    small_dataset(dir, CLIPS, THREE_SHARDS);
    int64_t length;
    char *json = small_read(dir, "dataset.json", &length), *end = strstr(json, "index_sha256");
    assert_non_null(end);
    char hex[32];
    snprintf(hex, sizeof(hex), "%.24s", end + strlen("index_sha256\": \""));
    small_edit(dir, "dataset.json", hex, "000000000000000000000000");
    assert_refused(ERR_FORMAT, "not those that were written");
    free(json);
}

static void counts_that_disagree_are_refused(void **state)
{
    (void)state;
    small_dataset(dir, CLIPS, 0);
    small_edit(dir, "dataset.json", "\"clips\": 20", "\"clips\": 21");
    assert_refused(ERR_FORMAT, "have 20 clips and 39 captions, it says 21 and 39");
}

static void flipped_byte_in_latents_names_the_clip(void **state)
{
    (void)state;
    int64_t length, found = 0;
    float values[SMALL_MOST_VALUES];
    const Tensor dst = tensor_of(values, F32, SHAPE(12, SMALL_PATCH));
    small_dataset(dir, 1, 0);
    char *bytes = small_read(dir, "shard-00000.h5", &length);
    /* the index is whole and the latents are not: then the byte was one of theirs */
    for (int64_t at = 0; at < length && found < 3; at += 31) {
        Dataset *ds = NULL;
        bytes[at] ^= 1;
        small_write(dir, "shard-00000.h5", bytes, length);
        bytes[at] ^= 1;
        if (dataset_open(dir, &ds) != OK ||
            dataset_read_latents(ds, 0, dataset_clip_tokens(ds, 0), dst) == OK) {
            dataset_close(ds);
            continue;
        }
        found++;
        assert_says("shard-00000.h5: clip 0, from v0.mp4 at 0.00 s: ");
        assert_int_equal(dataset_verify(ds), ERR_FORMAT);
        assert_says("v0.mp4");
        dataset_close(ds);
    }
    assert_int_equal(found, 3);
    free(bytes);
}

/* What no filter sees: a file that is whole, yet has other latents than its index says. */
static void latents_of_another_clip_are_caught(void **state)
{
    (void)state;
    Dataset *ds = NULL;
    float values[SMALL_MOST_VALUES];
    small_dataset(dir, 1, 0);
    small_other_latents(dir);
    assert_int_equal(dataset_open(dir, &ds), OK);
    assert_int_equal(dataset_read_latents(ds, 0, dataset_clip_tokens(ds, 0),
                                          tensor_of(values, F32, SHAPE(12, SMALL_PATCH))),
                     ERR_FORMAT);
    assert_says("clip 0, from v0.mp4 at 0.00 s: its latents are not those that were written");
    dataset_close(ds);
}

/* Every byte of the file once: each is either of no account, or found before it is learnt from. */
static void no_flipped_byte_goes_unseen(void **state)
{
    (void)state;
    small_dataset(dir, 3, 0);
    int64_t length, unused = 0, refused = 0;
    char *bytes = small_read(dir, "shard-00000.h5", &length);
    for (int64_t at = 0; at < length; at += 13) {
        Dataset *ds = NULL;
        Status s = OK;
        bytes[at] ^= 0x10;
        small_write(dir, "shard-00000.h5", bytes, length);
        bytes[at] ^= 0x10;
        s = dataset_open(dir, &ds);
        float values[SMALL_MOST_VALUES], expected[SMALL_MOST_VALUES];
        for (int64_t clip = 0; s == OK && clip < 3; clip++) {
            const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
            s = dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip),
                                     tensor_of(values, F32, SHAPE(b->tokens, b->patch)));
            if (s != OK) break;
            const int64_t count = small_values(clip, expected);
            assert_memory_equal(values, expected, (size_t)count * sizeof(float));
        }
        if (s == OK) {
            unused++;
            /* the file's own digest still tells */
            assert_int_equal(dataset_verify(ds), ERR_FORMAT);
        } else {
            refused++;
            assert_null(strchr(status_message(), '\n'));
        }
        dataset_close(ds);
    }
    print_message("%lld flips: %lld refused, %lld in bytes that hold nothing\n",
                  (long long)(refused + unused), (long long)refused, (long long)unused);
    assert_true(refused > 0);
    assert_int_equal(hostile_open_objects(), 0); /* no error path leaves anything open */
    free(bytes);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(what_is_written_is_read_back),
        IN_FOLDER(buckets_are_sorted_and_counted_over_shards),
        IN_FOLDER(same_clips_give_the_same_bytes),
        IN_FOLDER(digest_tells_datasets_apart),
        IN_FOLDER(unfinished_writer_leaves_no_dataset),
        IN_FOLDER(writer_refuses_to_mix_or_overwrite),
        IN_FOLDER(writer_refuses_bad_clips_and_goes_on),
        IN_FOLDER(codec_that_is_not_its_digest_is_refused),
        IN_FOLDER(latents_are_rounded_to_nearest_even),
        IN_FOLDER(what_is_not_a_dataset_is_said_so),
        IN_FOLDER(other_version_is_refused),
        IN_FOLDER(missing_shard_is_named),
        IN_FOLDER(shard_that_is_a_link_is_refused),
        IN_FOLDER(truncated_shard_is_refused),
        IN_FOLDER(shard_of_another_dataset_is_refused),
        IN_FOLDER(counts_that_disagree_are_refused),
        IN_FOLDER(flipped_byte_in_latents_names_the_clip),
        IN_FOLDER(latents_of_another_clip_are_caught),
        IN_FOLDER(no_flipped_byte_goes_unseen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
