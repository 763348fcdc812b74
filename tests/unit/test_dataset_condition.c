/* Conditions of image-to-video models in a dataset: what is written is read, by clips and by
 * batches, whole and in parts; damage is named; who does not ask reads nothing of them. */
#include "core/base/bf16.h"
#include "core/base/log.h"
#include "data/dataset.h"
#include "data/dataset_writer.h"
#include "data/loader.h"
#include "tests/support/small_dataset.h"
#include "train/clip_condition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 3, WIDTH = 5, CLIPS = 9, TOKENS = 4, VALUES = TOKENS * SMALL_PATCH };

static char dir[256];

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

static DatasetInfo condition_info(bool image)
{
    DatasetInfo info = small_info();
    info.condition = CONDITION_FIRST_LAST;
    if (image) {
        info.image_digest = info.codec_digest;
        info.image_rows = ROWS;
        info.image_width = WIDTH;
    }
    return info;
}

/* Values that no other clip has, and that bf16 holds exactly: 8 bits of digits. */
static float latent_value(int64_t clip, int64_t i)
{
    return (float)(clip * 16 + i % 16) / 16;
}

static float condition_value(int64_t clip, int64_t i)
{
    return -1.0f - (float)(clip * 8 + i % 8) / 16;
}

static float image_value(int64_t clip, int64_t i)
{
    return 4.0f + (float)(clip * 15 + i) / 64;
}

/* change: of the record. */
static Status add_clip(DatasetWriter *writer, int64_t clip, bool image,
                       void (*change)(ClipRecord *))
{
    float latents[VALUES], condition[VALUES], tokens[ROWS * WIDTH];
    const char *const captions[] = { "a clip" };
    char source[32];
    for (int64_t i = 0; i < VALUES; i++) latents[i] = latent_value(clip, i);
    for (int64_t i = 0; i < VALUES; i++) condition[i] = condition_value(clip, i);
    for (int64_t i = 0; i < ROWS * WIDTH; i++) tokens[i] = image_value(clip, i);
    snprintf(source, sizeof source, "v%lld.mp4", (long long)clip);
    ClipRecord record = { .t = 2,
                          .h = 4,
                          .w = 2,
                          .latents = tensor_of(latents, F32, SHAPE(TOKENS, SMALL_PATCH)),
                          .frames = 5,
                          .fps = 8,
                          .crop = { 0, 0, 16, 32 },
                          .source = source,
                          .captions = captions,
                          .caption_count = 1,
                          .condition = tensor_of(condition, F32, SHAPE(TOKENS, SMALL_PATCH)) };
    if (image) record.image = tensor_of(tokens, F32, SHAPE(ROWS, WIDTH));
    if (change) change(&record);
    return dataset_writer_add(writer, &record);
}

static void write_dataset(bool image, int64_t shard_bytes)
{
    const DatasetInfo info = condition_info(image);
    DatasetWriter *writer;
    ok(dataset_writer_create(dir, &info, &writer));
    if (shard_bytes > 0) dataset_writer_set_shard_bytes(writer, shard_bytes);
    for (int64_t clip = 0; clip < CLIPS; clip++) ok(add_clip(writer, clip, image, NULL));
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

/* ---- round trip ----------------------------------------------------------------------------- */

static void conditions_come_back(void **state)
{
    (void)state;
    for (int64_t shard_bytes = 0; shard_bytes <= 600; shard_bytes += 600) {
        Dataset *ds;
        float values[VALUES], tokens[ROWS * WIDTH];
        const TokenRange part = { 1, 2 };
        write_dataset(true, shard_bytes);
        ok(dataset_open(dir, &ds));
        assert_true((dataset_shards(ds) > 1) == (shard_bytes > 0));
        assert_int_equal(dataset_info(ds)->condition, CONDITION_FIRST_LAST);
        assert_int_equal(dataset_info(ds)->image_rows, ROWS);
        assert_int_equal(dataset_info(ds)->text_width, 0);
        assert_string_equal(dataset_info(ds)->image_digest, small_info().codec_digest);
        for (int64_t clip = 0; clip < CLIPS; clip++) {
            const TokenRange all = dataset_clip_tokens(ds, clip);
            ok(dataset_read_condition(ds, clip, all,
                                      tensor_of(values, F32, SHAPE(TOKENS, SMALL_PATCH))));
            for (int64_t i = 0; i < VALUES; i++) assert_true(values[i] == condition_value(clip, i));
            ok(dataset_read_condition(ds, clip, part,
                                      tensor_of(values, F32, SHAPE(2, SMALL_PATCH))));
            for (int64_t i = 0; i < 2 * SMALL_PATCH; i++)
                assert_true(values[i] == condition_value(clip, SMALL_PATCH + i));
            ok(dataset_read_latents(ds, clip, all,
                                    tensor_of(values, F32, SHAPE(TOKENS, SMALL_PATCH))));
            for (int64_t i = 0; i < VALUES; i++) assert_true(values[i] == latent_value(clip, i));
            ok(dataset_read_image(ds, clip, tensor_of(tokens, F32, SHAPE(ROWS, WIDTH))));
            for (int64_t i = 0; i < ROWS * WIDTH; i++)
                assert_true(tokens[i] == float_of_bf16(bf16_of_float(image_value(clip, i))));
        }
        ok(dataset_verify(ds));
        dataset_close(ds);
        small_remove(dir);
        small_folder(dir);
    }
}

/* ---- without, and in part ------------------------------------------------------------------- */

static void assert_version(const char *version)
{
    int64_t length;
    char *json = small_read(dir, "dataset.json", &length);
    assert_non_null(strstr(json, version));
    free(json);
}

static void versions_say_what_is_there(void **state)
{
    Dataset *ds;
    Loader *loader;
    float values[VALUES];
    LoaderOptions options = { .sampler = { .batch = 2, .micro_batch = 2 },
                              .size = 1,
                              .condition = CONDITION_FIRST };
    (void)state;
    small_dataset(dir, 4, 0);
    assert_version("\"version\": 1,");
    ok(dataset_open(dir, &ds));
    assert_int_equal(dataset_read_condition(ds, 0, (TokenRange){ 0, 1 },
                                            tensor_of(values, F32, SHAPE(1, SMALL_PATCH))),
                     ERR_USAGE);
    assert_int_equal(dataset_read_image(ds, 0, tensor_of(values, F32, SHAPE(ROWS, WIDTH))),
                     ERR_USAGE);
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "ingest it with --condition first"));
    dataset_close(ds);
    small_remove(dir);
    small_folder(dir);
    write_dataset(false, 0);
    assert_version("\"version\": 3,");
    assert_version("\"condition\": \"first-last\",");
    ok(dataset_open(dir, &ds));
    assert_int_equal(dataset_info(ds)->image_width, 0);
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "condition is first-last, not first"));
    options.condition = CONDITION_FIRST_LAST;
    options.image_rows = ROWS;
    options.image_width = WIDTH;
    assert_int_equal(loader_create(ds, &options, &loader), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "its clips have 0 image tokens"));
    dataset_close(ds);
}

/* ---- what a writer refuses ------------------------------------------------------------------ */

static void without_condition(ClipRecord *record)
{
    record->condition = tensor_none();
}

static void without_image(ClipRecord *record)
{
    record->image = tensor_none();
}

static void of_other_tokens(ClipRecord *record)
{
    record->condition.shape[0] = TOKENS - 1;
}

static void not_finite(ClipRecord *record)
{
    tensor_f32(record->condition)[7] = 1e39f;
}

static void image_not_finite(ClipRecord *record)
{
    tensor_f32(record->image)[2] = -1e39f;
}

static void writers_refuse_what_contradicts_itself(void **state)
{
    const struct {
        void (*change)(ClipRecord *);
        const char *why;
    } cases[] = { { without_condition, "comes without condition" },
                  { without_image, "comes without image" },
                  { of_other_tokens,
                    "the condition of a clip of v0.mp4 is (3, 12) F32, not (4, 12)" },
                  { not_finite, "condition value 7 of a clip of v0.mp4 is inf" },
                  { image_not_finite, "image token value 2 of a clip of v0.mp4 is -inf" } };
    DatasetInfo info = condition_info(true);
    DatasetWriter *writer;
    (void)state;
    ok(dataset_writer_create(dir, &info, &writer));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(add_clip(writer, 0, true, cases[i].change), ERR_FORMAT);
        if (!strstr(status_message(), cases[i].why)) fail_msg("%s", status_message());
    }
    dataset_writer_destroy(writer);
    info.image_rows = 0;
    assert_int_equal(dataset_writer_create(dir, &info, &writer), ERR_FORMAT);
    info = condition_info(true);
    info.condition = CONDITION_NONE;
    assert_int_equal(dataset_writer_create(dir, &info, &writer), ERR_FORMAT);
}

/* ---- damage --------------------------------------------------------------------------------- */

typedef Status ReadOne(Dataset *ds, int64_t clip);

static Status read_condition(Dataset *ds, int64_t clip)
{
    float values[VALUES];
    return dataset_read_condition(ds, clip, dataset_clip_tokens(ds, clip),
                                  tensor_of(values, F32, SHAPE(TOKENS, SMALL_PATCH)));
}

static Status read_image(Dataset *ds, int64_t clip)
{
    float values[ROWS * WIDTH];
    return dataset_read_image(ds, clip, tensor_of(values, F32, SHAPE(ROWS, WIDTH)));
}

static Status read_latents(Dataset *ds, int64_t clip)
{
    float values[VALUES];
    return dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip),
                                tensor_of(values, F32, SHAPE(TOKENS, SMALL_PATCH)));
}

/* Damages a byte that this read, and not that of the latents, finds; wherever it is. */
static void damage(ReadOne *read, int64_t clip)
{
    int64_t length;
    char *bytes = small_read(dir, "shard-00000.h5", &length);
    free(bytes);
    for (int64_t at = length - 1; at > 0; at -= 20) {
        Dataset *ds;
        bool found = false;
        small_damage(dir, "shard-00000.h5", at, 1);
        if (dataset_open(dir, &ds) == OK) {
            found = read(ds, clip) != OK && read_latents(ds, clip) == OK;
            dataset_close(ds);
        }
        if (found) return;
        small_damage(dir, "shard-00000.h5", at, -1);
    }
    fail_msg("no byte of the shard is this clip's");
}

static void damage_is_named_and_marked(void **state)
{
    ReadOne *const reads[] = { read_condition, read_image };
    const LoaderOptions options = { .sampler = { .seed = 3, .batch = CLIPS, .micro_batch = 4 },
                                    .size = 1,
                                    .condition = CONDITION_FIRST_LAST,
                                    .image_rows = ROWS,
                                    .image_width = WIDTH };
    (void)state;
    for (int i = 0; i < 2; i++) {
        Dataset *ds;
        Loader *loader;
        const Batch *batch;
        write_dataset(true, 0);
        damage(reads[i], 5);
        ok(dataset_open(dir, &ds));
        assert_int_equal(reads[i](ds, 5), ERR_FORMAT);
        assert_non_null(strstr(status_message(), "shard-00000.h5: clip 5, from v5.mp4"));
        assert_int_equal(dataset_verify(ds), ERR_FORMAT);
        ok(loader_create(ds, &options, &loader));
        ok(loader_next(loader, &batch));
        assert_true(batch->damaged >= 1);
        assert_non_null(strstr(batch->damage, "shard-00000.h5: clip "));
        loader_destroy(loader);
        dataset_close(ds);
        small_remove(dir);
        small_folder(dir);
    }
}

/* ---- batches -------------------------------------------------------------------------------- */

static void check_micro(const MicroBatch *micro)
{
    assert_int_equal(micro->condition.shape[0], micro->clips);
    assert_int_equal(micro->condition.shape[1], micro->range.count);
    assert_int_equal(micro->image.shape[1], ROWS);
    for (int64_t c = 0; c < micro->clips; c++) {
        const int64_t clip = micro->clip_ids[c], first = micro->range.first * SMALL_PATCH;
        const float *got = tensor_f32(tensor_at(micro->condition, c));
        for (int64_t i = 0; i < micro->range.count * SMALL_PATCH; i++)
            assert_true(got[i] == condition_value(clip, first + i));
        for (int64_t i = 0; i < ROWS * WIDTH; i++)
            assert_true(tensor_f32(tensor_at(micro->image, c))[i] ==
                        float_of_bf16(bf16_of_float(image_value(clip, i))));
    }
}

static void batches_bring_the_conditions_of_their_clips(void **state)
{
    Dataset *ds;
    (void)state;
    write_dataset(true, 700);
    ok(dataset_open(dir, &ds));
    for (int parts = 1; parts <= 3; parts++)
        for (int part = 0; part < parts; part++) {
            const LoaderOptions options = { .sampler = { .seed = 5, .batch = 5, .micro_batch = 2 },
                                            .size = 1,
                                            .part = part,
                                            .parts = parts,
                                            .condition = CONDITION_FIRST_LAST,
                                            .image_rows = ROWS,
                                            .image_width = WIDTH };
            Loader *loader;
            LoaderSizes sizes;
            const Batch *batch;
            ok(loader_sizes(&options, dataset_bucket_list(ds), &sizes));
            ok(loader_create(ds, &options, &loader));
            assert_int_equal(loader_buffer_bytes(loader), sizes.bytes);
            for (int step = 0; step < 4; step++) {
                ok(loader_next(loader, &batch));
                assert_int_equal(batch->damaged, 0);
                for (int64_t m = 0; m < batch->micro_count; m++) check_micro(&batch->micros[m]);
            }
            loader_destroy(loader);
        }
    dataset_close(ds);
}

static void who_does_not_ask_reads_nothing(void **state)
{
    Dataset *ds;
    Loader *loader;
    const Batch *batch;
    LoaderOptions options = { .sampler = { .batch = 4, .micro_batch = 2 }, .size = 1 };
    LoaderSizes with, without;
    (void)state;
    write_dataset(true, 0);
    damage(read_condition, 2);
    ok(dataset_open(dir, &ds));
    ok(loader_sizes(&options, dataset_bucket_list(ds), &without));
    ok(loader_create(ds, &options, &loader));
    for (int step = 0; step < 5; step++) {
        ok(loader_next(loader, &batch));
        assert_int_equal(batch->damaged, 0);
        assert_null(batch->micros[0].condition.data);
        assert_null(batch->micros[0].image.data);
    }
    loader_destroy(loader);
    options.condition = CONDITION_FIRST_LAST;
    options.image_rows = ROWS;
    options.image_width = WIDTH;
    ok(loader_sizes(&options, dataset_bucket_list(ds), &with));
    assert_int_equal(with.bytes - without.bytes,
                     2 * 4 * (VALUES + ROWS * WIDTH) * (int64_t)sizeof(float));
    dataset_close(ds);
}

/* ---- what a model reads --------------------------------------------------------------------- */

static void models_are_given_the_condition_they_read(void **state)
{
    enum { Z = SMALL_CHANNELS, IN = 2 * Z + CONDITION_MASK };
    /* the dataset's condition is of both frames, with image tokens of both */
    const struct {
        DitConfig dit;
        bool image; /* the dataset has image tokens */
        const char *why;
    } cases[] = {
        { { .in_channels = Z, .out_channels = Z }, false, NULL },
        { { .in_channels = IN, .out_channels = Z }, false, NULL },
        { { .in_channels = IN, .out_channels = Z }, true, NULL },
        { { .in_channels = IN,
            .out_channels = Z,
            .image_dim = WIDTH,
            .image_rows = ROWS,
            .pos_embed_seq_len = ROWS },
          true,
          NULL },
        { { .in_channels = IN + 1, .out_channels = Z },
          false,
          "an image-to-video model with 3 latent channels has 10" },
        { { .in_channels = IN, .out_channels = Z, .image_dim = WIDTH, .image_rows = ROWS },
          true,
          "reads first: ingest with --condition first --image-encoder DIR" },
        { { .in_channels = IN,
            .out_channels = Z,
            .image_dim = WIDTH,
            .image_rows = ROWS,
            .pos_embed_seq_len = ROWS },
          false,
          "has no image tokens of its clips, which the model m reads: ingest with "
          "--image-encoder m" },
        { { .in_channels = IN,
            .out_channels = Z,
            .image_dim = WIDTH,
            .image_rows = ROWS + 1,
            .pos_embed_seq_len = ROWS + 1 },
          true,
          "have 3 image tokens of 5 values, m reads 4 of 5" },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Dataset *ds;
        write_dataset(cases[i].image, 0);
        ok(dataset_open(dir, &ds));
        const Status s = clip_condition_check(&cases[i].dit, "m", ds);
        assert_int_equal(s, cases[i].why ? ERR_CONFIG : OK);
        if (cases[i].why && !strstr(status_message(), cases[i].why))
            fail_msg("%s", status_message());
        dataset_close(ds);
        small_remove(dir);
        small_folder(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(conditions_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(versions_say_what_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writers_refuse_what_contradicts_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_named_and_marked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(batches_bring_the_conditions_of_their_clips, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(models_are_given_the_condition_they_read, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_does_not_ask_reads_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
