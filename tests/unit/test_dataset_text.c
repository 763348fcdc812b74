/* Embeddings of captions in a dataset: what is written is read, by clips and by batches; damage is
 * named; and ingest's pass over the captions gives what the encoder gives. */
#include "core/base/bf16.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/text/text_encoder.h"
#include "data/dataset.h"
#include "data/dataset_writer.h"
#include "data/h5.h"
#include "data/ingest_text.h"
#include "data/loader.h"
#include "tests/support/small_dataset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WIDTH = 6, ROWS_MAX = 5, CLIPS = 12, CAPTIONS = 2, CLIPS_OF_A_VIDEO = 3, NULL_ROWS = 1 };

static char dir[256];

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

/* Wording k of video v: 1 to ROWS_MAX rows of values that no other has. */
static int64_t rows_of(int64_t video, int64_t k)
{
    return 1 + (video * CAPTIONS + k) % ROWS_MAX;
}

static uint16_t value_of(int64_t video, int64_t k, int64_t i)
{
    return bf16_of_float((float)(video * 1000 + k * 100 + i + 1) / 16);
}

static uint16_t null_rows[NULL_ROWS * WIDTH];

static DatasetInfo text_info(void)
{
    DatasetInfo info = small_info();
    for (int i = 0; i < NULL_ROWS * WIDTH; i++) null_rows[i] = bf16_of_float(-1.0f - (float)i);
    info.text_encoder = "umt5";
    info.text_digest = info.codec_digest;
    info.text_rows = ROWS_MAX;
    info.text_width = WIDTH;
    info.text_null = tensor_of(null_rows, BF16, SHAPE(NULL_ROWS, WIDTH));
    return info;
}

/* Clips of the smallest size; those of one video share its captions. change: of the record. */
static Status add_clip(DatasetWriter *writer, int64_t clip, void (*change)(ClipRecord *, Tensor *))
{
    const int64_t video = clip / CLIPS_OF_A_VIDEO;
    char texts[CAPTIONS][32], source[32];
    const char *captions[CAPTIONS];
    uint16_t bits[CAPTIONS][ROWS_MAX * WIDTH];
    Tensor text[CAPTIONS];
    float values[SMALL_MOST_VALUES];
    const int64_t count = small_values(2, values);

    snprintf(source, sizeof source, "v%lld.mp4", (long long)video);
    for (int64_t k = 0; k < CAPTIONS; k++) {
        snprintf(texts[k], sizeof texts[k], "video %lld wording %lld", (long long)video,
                 (long long)k);
        captions[k] = texts[k];
        for (int64_t i = 0; i < rows_of(video, k) * WIDTH; i++) bits[k][i] = value_of(video, k, i);
        text[k] = tensor_of(bits[k], BF16, SHAPE(rows_of(video, k), WIDTH));
    }
    ClipRecord record = { .t = 1,
                          .h = 4,
                          .w = 2,
                          .latents =
                              tensor_of(values, F32, SHAPE(count / SMALL_PATCH, SMALL_PATCH)),
                          .frames = 1,
                          .fps = 8,
                          .crop = { 0, 0, 16, 32 },
                          .source = source,
                          .captions = captions,
                          .caption_count = CAPTIONS,
                          .text = text };
    if (change) change(&record, text);
    return dataset_writer_add(writer, &record);
}

static void write_dataset(int64_t shard_bytes)
{
    const DatasetInfo info = text_info();
    DatasetWriter *writer;

    ok(dataset_writer_create(dir, &info, &writer));
    if (shard_bytes > 0) dataset_writer_set_shard_bytes(writer, shard_bytes);
    for (int64_t clip = 0; clip < CLIPS; clip++) ok(add_clip(writer, clip, NULL));
    ok(dataset_writer_finish(writer));
    dataset_writer_destroy(writer);
}

static int set_up(void **state)
{
    (void)state;
    log_set_quiet(true);
    small_folder(dir);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    small_remove(dir);
    return 0;
}

/* got (rows, WIDTH) F32: the caption's rows, then zeros */
static void assert_rows(const float *got, int64_t rows, int64_t clip, int64_t which)
{
    const int64_t video = clip / CLIPS_OF_A_VIDEO;
    const bool null = which == DATASET_NULL_CAPTION;
    const int64_t own = null ? NULL_ROWS : rows_of(video, which);

    for (int64_t i = 0; i < rows * WIDTH; i++) {
        float want = 0.0f;
        if (i < own * WIDTH) want = float_of_bf16(null ? null_rows[i] : value_of(video, which, i));
        assert_true(got[i] == want);
    }
}

static void embeddings_come_back(void **state)
{
    (void)state;
    for (int64_t shard_bytes = 0; shard_bytes <= 500; shard_bytes += 250) {
        Dataset *ds;
        float rows[(ROWS_MAX + 2) * WIDTH];
        write_dataset(shard_bytes);
        ok(dataset_open(dir, &ds));
        assert_true((dataset_shards(ds) > 1) == (shard_bytes > 0));
        assert_string_equal(dataset_info(ds)->text_encoder, "umt5");
        assert_int_equal(dataset_info(ds)->text_width, WIDTH);
        for (int64_t clip = 0; clip < CLIPS; clip++) {
            for (int64_t which = DATASET_NULL_CAPTION; which < CAPTIONS; which++) {
                memset(rows, 0x55, sizeof rows);
                ok(dataset_read_text(ds, clip, which,
                                     tensor_of(rows, F32, SHAPE(ROWS_MAX + 2, WIDTH))));
                assert_rows(rows, ROWS_MAX + 2, clip, which);
            }
        }
        assert_int_equal(dataset_text_rows(ds, 4, 1), rows_of(1, 1));
        assert_int_equal(dataset_text_rows(ds, 4, DATASET_NULL_CAPTION), NULL_ROWS);
        /* too small, or of another width */
        assert_int_equal(dataset_read_text(ds, 3, 1, tensor_of(rows, F32, SHAPE(1, WIDTH))),
                         ERR_USAGE);
        ok(dataset_verify(ds));
        dataset_close(ds);
        small_remove(dir);
        small_folder(dir);
    }
}

static void clips_of_a_video_share_their_captions_rows(void **state)
{
    int64_t rows = 0;

    (void)state;
    write_dataset(0);
    for (int64_t video = 0; video < CLIPS / CLIPS_OF_A_VIDEO; video++)
        for (int64_t k = 0; k < CAPTIONS; k++) rows += rows_of(video, k);
    H5File *file;
    H5Array *array;
    const H5Shape any = { H5_TYPE_U16, 2, { -1, WIDTH } };
    char path[300];
    snprintf(path, sizeof path, "%s/shard-00000.h5", dir);
    ok(h5_open(path, &file));
    ok(h5_array_open(file, "/text/rows", &any, &array));
    assert_int_equal(h5_array_shape(array)->dims[0], rows);
    h5_array_close(array);
    ok(h5_close(file));
}

static void datasets_without_embeddings_say_so(void **state)
{
    Dataset *ds;
    Loader *loader;
    float rows[WIDTH];
    const LoaderOptions options = { .sampler = { .batch = 2, .micro_batch = 2 },
                                    .size = 1,
                                    .text_rows = ROWS_MAX,
                                    .text_width = WIDTH };
    int64_t length;

    (void)state;
    small_dataset(dir, 4, 0);
    char *json = small_read(dir, "dataset.json", &length);
    assert_non_null(strstr(json, "\"version\": 1,"));
    assert_null(strstr(json, "text_encoder"));
    free(json);
    ok(dataset_open(dir, &ds));
    assert_int_equal(dataset_info(ds)->text_width, 0);
    assert_int_equal(dataset_text_rows(ds, 0, 0), 0);
    assert_int_equal(dataset_read_text(ds, 0, 0, tensor_of(rows, F32, SHAPE(1, WIDTH))), ERR_USAGE);
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "ingest it with --text-encoder"));
    dataset_close(ds);
    small_remove(dir);
    small_folder(dir);
    write_dataset(0);
    json = small_read(dir, "dataset.json", &length);
    assert_non_null(strstr(json, "\"version\": 2,"));
    free(json);
}

/* ---- what a writer refuses ------------------------------------------------------------------ */

static void without_text(ClipRecord *record, Tensor *text)
{
    (void)text;
    record->text = NULL;
}

static void too_many_rows(ClipRecord *record, Tensor *text)
{
    (void)record;
    text[1].shape[0] = ROWS_MAX + 1;
}

static void not_finite(ClipRecord *record, Tensor *text)
{
    (void)record;
    ((uint16_t *)text[0].data)[3] = 0x7F80;
}

static void writers_refuse_what_contradicts_itself(void **state)
{
    const struct {
        void (*change)(ClipRecord *, Tensor *);
        const char *why;
    } cases[] = { { without_text, "comes without embeddings of its captions" },
                  { too_many_rows, "has the embedding (6, 6) BF16, not up to 5 rows of 6" },
                  { not_finite, "an embedding that is not finite" } };
    DatasetInfo info = text_info();
    DatasetWriter *writer;

    (void)state;
    ok(dataset_writer_create(dir, &info, &writer));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(add_clip(writer, 0, cases[i].change), ERR_FORMAT);
        if (!strstr(status_message(), cases[i].why)) fail_msg("%s", status_message());
    }
    dataset_writer_destroy(writer);
    info.text_null.shape[0] = ROWS_MAX + 1;
    assert_int_equal(dataset_writer_create(dir, &info, &writer), ERR_FORMAT);
}

/* ---- damage --------------------------------------------------------------------------------- */

/* Damages a byte of /text/rows, wherever the library has put it: the first that opening does not
 * see and reading an embedding does. */
static void damage_rows(void)
{
    float rows[ROWS_MAX * WIDTH];
    int64_t length;
    char *bytes = small_read(dir, "shard-00000.h5", &length);

    free(bytes);
    for (int64_t at = length - 1; at > 0; at -= 40) {
        Dataset *ds;
        Status s;
        small_damage(dir, "shard-00000.h5", at, 1);
        if (dataset_open(dir, &ds) == OK) {
            s = dataset_read_text(ds, 7, 1, tensor_of(rows, F32, SHAPE(ROWS_MAX, WIDTH)));
            dataset_close(ds);
            if (s != OK) return;
        }
        small_damage(dir, "shard-00000.h5", at, -1);
    }
    fail_msg("no byte of the shard is an embedding's");
}

static void damaged_embeddings_are_named(void **state)
{
    Dataset *ds;
    float rows[ROWS_MAX * WIDTH];

    (void)state;
    write_dataset(0);
    damage_rows();
    ok(dataset_open(dir, &ds));
    assert_int_equal(dataset_read_text(ds, 7, 1, tensor_of(rows, F32, SHAPE(ROWS_MAX, WIDTH))),
                     ERR_FORMAT);
    assert_non_null(strstr(status_message(), "shard-00000.h5: clip 7, from v2.mp4"));
    assert_int_equal(dataset_verify(ds), ERR_FORMAT);
    dataset_close(ds);
}

/* A rank that reads embeddings finds what is damaged, once a clip, and loader_drop can go on. */
static void loaders_mark_clips_with_damaged_captions(void **state)
{
    Dataset *ds;
    Loader *loader;
    const Batch *batch;
    const LoaderOptions options = { .sampler = { .seed = 3, .batch = CLIPS, .micro_batch = 4 },
                                    .size = 1,
                                    .text_rows = ROWS_MAX,
                                    .text_width = WIDTH };
    int64_t damaged = 0;

    (void)state;
    write_dataset(0);
    damage_rows();
    ok(dataset_open(dir, &ds));
    ok(loader_create(ds, &options, &loader));
    ok(loader_next(loader, &batch));
    for (int64_t m = 0; m < batch->micro_count; m++)
        for (int64_t i = 0; i < batch->micros[m].clips; i++) damaged += batch->micros[m].damaged[i];
    assert_int_equal(damaged, batch->damaged);
    /* all of one chunk: whichever clips drew a caption from it */
    assert_in_range(damaged, 1, CLIPS);
    assert_non_null(strstr(batch->damage, "shard-00000.h5: clip "));
    loader_destroy(loader);
    dataset_close(ds);
}

/* ---- batches -------------------------------------------------------------------------------- */

static void batches_bring_the_embeddings_of_their_captions(void **state)
{
    Dataset *ds;
    Loader *loader;
    const LoaderOptions options = {
        .sampler = { .seed = 5, .batch = 6, .micro_batch = 4, .caption_drop = 0.3f },
        .size = 1,
        .metadata_only = true,
        .text_rows = ROWS_MAX + 1,
        .text_width = WIDTH
    };
    LoaderSizes with, without;
    LoaderOptions plain = options;
    int64_t dropped = 0, kept = 0;

    (void)state;
    write_dataset(500);
    ok(dataset_open(dir, &ds));
    plain.text_rows = plain.text_width = 0;
    ok(loader_sizes(&options, dataset_bucket_list(ds), &with));
    ok(loader_sizes(&plain, dataset_bucket_list(ds), &without));
    assert_int_equal(with.bytes - without.bytes,
                     2 * 6 * (ROWS_MAX + 1) * WIDTH * (int64_t)sizeof(float));
    ok(loader_create(ds, &options, &loader));
    for (int step = 0; step < 6; step++) {
        const Batch *batch;
        ok(loader_next(loader, &batch));
        for (int64_t m = 0; m < batch->micro_count; m++) {
            const MicroBatch *micro = &batch->micros[m];
            assert_int_equal(micro->text.shape[0], micro->clips);
            for (int64_t i = 0; i < micro->clips; i++) {
                const char *caption = micro->captions[i];
                const int64_t which =
                    caption[0] == 0 ? DATASET_NULL_CAPTION : caption[strlen(caption) - 1] - '0';
                assert_rows(tensor_f32(tensor_at(micro->text, i)), ROWS_MAX + 1, micro->clip_ids[i],
                            which);
                dropped += which == DATASET_NULL_CAPTION;
                kept += which != DATASET_NULL_CAPTION;
            }
        }
    }
    assert_true(dropped > 3 && kept > 10);
    loader_destroy(loader);
    dataset_close(ds);
}

/* ---- ingest's pass -------------------------------------------------------------------------- */

static void ingest_stores_what_the_encoder_gives(void **state)
{
    char *captions[3][2] = { { "a red fox", "Two cats &amp; a dog" },
                             { "\xe4\xb8\x80\xe5\x8f\xaa\xe7\x8c\xab", NULL },
                             { "never used", NULL } };
    ClipSource sources[3] = { { .captions = captions[0], .caption_count = 2 },
                              { .captions = captions[2], .caption_count = 1 },
                              { .captions = captions[1], .caption_count = 1 } };
    const IngestVideo videos[3] = { { .source = &sources[0] },
                                    { .source = &sources[1], .problem = "is bad" },
                                    { .source = &sources[2] } };
    const char *const flat[] = { "a red fox", "Two cats & a dog", captions[1][0], "" };
    const TextEncoderOptions encoder_options = { .dtype = F32 };
    Device dev;
    TextEncoder *encoder;
    Tensor want, got[3];
    uint16_t *bits[2];
    char near[300];

    (void)state;
    snprintf(near, sizeof near, "%s/out.partial", dir);
    ok(device_open(&dev, "cpu", NULL, 0, false));
    ok(text_encoder_open(&dev, group_alone(), "tests/fixtures/wan_text", &encoder_options,
                         &encoder));
    ok(text_encoder_prepare(encoder, "caption", flat, 4));
    ok(text_encoder_run(encoder, &want));
    const int64_t *offsets = text_encoder_offsets(encoder);

    for (int streams = 0; streams < 2; streams++) {
        const IngestOptions options = { .text_encoder = "tests/fixtures/wan_text",
                                        .text_dtype = "f32",
                                        .text_stream = streams };
        IngestText text;
        ok(ingest_text_encode(&options, videos, 3, near, &text));
        assert_int_equal(text.max_rows, 512);
        assert_int_equal(strlen(text.digest), 64);
        assert_int_equal(text.null_count, 1);
        ok(ingest_text_read(&text, 0, &bits[0], got));
        ok(ingest_text_read(&text, 2, &bits[1], got + 2));
        for (int k = 0; k < 3; k++) {
            assert_int_equal(got[k].shape[0], offsets[k + 1] - offsets[k]);
            for (int64_t i = 0; i < tensor_count(got[k]); i++) {
                const float w = tensor_f32(want)[offsets[k] * text.width + i];
                assert_int_equal(((uint16_t *)got[k].data)[i], bf16_of_float(w));
            }
        }
        for (int64_t i = 0; i < text.width; i++)
            assert_int_equal(text.null_rows[i],
                             bf16_of_float(tensor_f32(want)[offsets[3] * text.width + i]));
        free(bits[0]);
        free(bits[1]);
        ingest_text_destroy(&text);
    }
    /* nothing is left beside the dataset */
    FileList list;
    ok(file_list(dir, &list));
    assert_int_equal(list.count, 0);
    file_list_destroy(&list);
    text_encoder_close(encoder);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(embeddings_come_back),
        TEST(clips_of_a_video_share_their_captions_rows),
        TEST(datasets_without_embeddings_say_so),
        TEST(writers_refuse_what_contradicts_itself),
        TEST(damaged_embeddings_are_named),
        TEST(loaders_mark_clips_with_damaged_captions),
        TEST(batches_bring_the_embeddings_of_their_captions),
        TEST(ingest_stores_what_the_encoder_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
