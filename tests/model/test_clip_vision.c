/* The image encoder against transformers' CLIPVisionModel, and pictures against its processor with
 * Pillow: tests/fixtures/wan_image, by tests/fixtures/make_wan_image.py. */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/formats/safetensors_set.h"
#include "core/image/clip_input.h"
#include "core/image/clip_vision.h"
#include "core/image/resize.h"
#include "core/ops.h"
#include "tests/model/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_image"

enum { PICTURES_MAX = 8, SIDE = 28, TOKENS = 50, WIDTH = 32, PIXELS = 3 * SIDE * SIDE };

static char root[FILE_PATH_BYTES];
static Device dev;

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

/* What the reference computed. */
typedef struct Expected {
    int64_t count;
    double *sizes;        /* (count, 2) */
    double *pixels;       /* (count, 3, SIDE, SIDE) */
    double *tokens;       /* (count, TOKENS, WIDTH) */
    double *tokens_quick; /* (1, TOKENS, WIDTH) */
} Expected;

static Expected expected;

static int set_up(void **state)
{
    Fixture file = fixture_open(FOLDER "/expected.safetensors");
    int64_t count;

    (void)state;
    log_set_quiet(true);
    ok(device_open(&dev, "cpu", NULL, 1, false));
    expected.sizes = fixture_read(&file, "sizes", &expected.count);
    expected.count /= 2;
    expected.pixels = fixture_read(&file, "pixels", &count);
    assert_int_equal(count, expected.count * PIXELS);
    expected.tokens = fixture_read(&file, "tokens", &count);
    assert_int_equal(count, expected.count * TOKENS * WIDTH);
    expected.tokens_quick = fixture_read(&file, "tokens_quick", &count);
    fixture_close(&file);
    (void)snprintf(root, sizeof root, "%s/test_clip_vision.XXXXXX",
                   getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    free(expected.sizes);
    free(expected.pixels);
    free(expected.tokens);
    free(expected.tokens_quick);
    return file_remove_tree(root) == OK ? 0 : -1;
}

/* The formula of make_wan_image.py. */
static Tensor make_picture(int64_t i)
{
    const int64_t height = (int64_t)expected.sizes[2 * i],
                  width = (int64_t)expected.sizes[2 * i + 1];
    uint8_t *bytes = malloc((size_t)(height * width * 3));
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++)
            for (int64_t c = 0; c < 3; c++)
                bytes[(y * width + x) * 3 + c] =
                    (uint8_t)((x * x * 7 + y * y * 5 + x * y * 3 + 85 * c) / 8 % 256);
    return tensor_of(bytes, U8, SHAPE(height, width, 3));
}

static double differs(const float *got, const double *want, int64_t count)
{
    double squares = 0.0, size = 0.0;
    for (int64_t i = 0; i < count; i++) {
        squares += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    return sqrt(squares / size);
}

/* ---- pictures ------------------------------------------------------------------------------- */

static void pictures_are_prepared_as_transformers_does(void **state)
{
    ClipConfig config;
    ClipProcessor processor;
    float pixels[PIXELS];

    (void)state;
    ok(clip_config_read(FOLDER, &config, &processor));
    assert_int_equal(config.image_size, SIDE);
    assert_int_equal(clip_tokens(&config), TOKENS);
    for (int64_t i = 0; i < expected.count; i++) {
        const Tensor picture = make_picture(i);
        double worst = 0.0;
        ok(clip_input(&processor, picture, tensor_of(pixels, F32, SHAPE(3, SIDE, SIDE))));
        for (int64_t k = 0; k < PIXELS; k++)
            worst = fmax(worst, fabs((double)pixels[k] - expected.pixels[i * PIXELS + k]));
        /* the same bytes; (v / 255 - mean) / deviation in F32 is three roundings of values up to 3:
         * one byte off would be 1 / 255 / 0.28 = 0.014 */
        if (worst > 1e-6) fail_msg("picture %d: %g", (int)i, worst);
        free(picture.data);
    }
}

static void a_picture_of_its_size_is_left_alone(void **state)
{
    const Tensor picture = make_picture(0);
    uint8_t out[37 * 61 * 3];
    Arena arena = { 0 };

    (void)state;
    ok(arena_create(&arena, "test", 1 << 20));
    ok(image_resize(tensor_of(out, U8, SHAPE(37, 61, 3)), picture, &arena));
    assert_memory_equal(out, picture.data, sizeof out);
    arena_destroy(&arena);
    free(picture.data);
}

static void pictures_that_do_not_fit_are_refused(void **state)
{
    ClipConfig config;
    ClipProcessor processor;
    float pixels[PIXELS];
    const Tensor picture = make_picture(0), out = tensor_of(pixels, F32, SHAPE(3, SIDE, SIDE));
    Tensor line = picture;

    (void)state;
    ok(clip_config_read(FOLDER, &config, &processor));
    processor.crop_width = 20;
    assert_int_equal(clip_input(&processor, picture, out), ERR_FORMAT);
    assert_non_null(
        strstr(status_message(), "leaves 20 x 28 of a picture, the image encoder takes"));
    processor.crop_width = SIDE + 30;
    assert_int_equal(clip_input(&processor, picture, out), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "cuts 58 x 28 out of a picture of 46 x 28"));
    line.shape[0] = 1;
    line.shape[1] = 1 << 14;
    assert_int_equal(clip_input(&processor, line, out), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "its sides are too unlike"));
    free(picture.data);
}

/* ---- the encoder ---------------------------------------------------------------------------- */

/* Three layers' worth of roundings, as in test_text_encoder.c. */
static const double f32_tolerance = 1.4e-5;

static double encode_pixels(const char *folder, DType dtype, int64_t count, const double *want)
{
    float *pixels = malloc((size_t)(count * PIXELS) * sizeof *pixels);
    float *tokens = malloc((size_t)(count * TOKENS * WIDTH) * sizeof *tokens);
    for (int64_t i = 0; i < count * PIXELS; i++) pixels[i] = (float)expected.pixels[i];
    ok(clip_vision_encode_pixels(&dev, folder, dtype,
                                 tensor_of(pixels, F32, SHAPE(count, 3, SIDE, SIDE)),
                                 tensor_of(tokens, F32, SHAPE(count, TOKENS, WIDTH))));
    const double off = differs(tokens, want, count * TOKENS * WIDTH);
    free(pixels);
    free(tokens);
    return off;
}

static void tokens_equal_transformers(void **state)
{
    const double off = encode_pixels(FOLDER, F32, expected.count, expected.tokens);
    const double alone = encode_pixels(FOLDER, F32, 1, expected.tokens);

    (void)state;
    print_message("differ by %.1e; one picture alone by %.1e\n", off, alone);
    assert_true(off < f32_tolerance && alone < f32_tolerance);
    /* weights rounded by 2^-9 */
    assert_in_range(1e5 * encode_pixels(FOLDER, BF16, 1, expected.tokens), 50, 3000);
}

static void pictures_become_tokens(void **state)
{
    Tensor pictures[PICTURES_MAX];
    float *tokens = malloc((size_t)(expected.count * TOKENS * WIDTH) * sizeof *tokens);

    (void)state;
    for (int64_t i = 0; i < expected.count; i++) pictures[i] = make_picture(i);
    ok(clip_vision_encode(&dev, FOLDER, F32, pictures, expected.count,
                          tensor_of(tokens, F32, SHAPE(expected.count, TOKENS, WIDTH))));
    assert_true(differs(tokens, expected.tokens, expected.count * TOKENS * WIDTH) < f32_tolerance);
    for (int64_t i = 0; i < expected.count; i++) free(pictures[i].data);
    free(tokens);
}

/* ---- other folders -------------------------------------------------------------------------- */

static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    ok(file_join(path, root, name));
    return path;
}

/* A copy of the file with the first `from` replaced. */
static void copy_text(const char *name, const char *from, const char *to)
{
    char *text, changed[4096], path[FILE_PATH_BYTES];
    size_t length;
    ok(file_join(path, FOLDER, name));
    ok(file_read(path, 1 << 20, &text, &length));
    char *found = strstr(text, from);
    if (!found) fail_msg("%s has no %s", name, from);
    (void)snprintf(changed, sizeof changed, "%.*s%s%s", (int)(found - text), text, to,
                   found + strlen(from));
    ok(file_write(at(name), changed, strlen(changed)));
    free(text);
}

enum { TENSORS_MAX = 80 };

/* What a copy of the weights changes. */
typedef struct Change {
    const char *prefix; /* before every name */
    const char *drop, *add, *poison;
} Change;

static void copy_weights(Change change)
{
    Safetensors *file;
    SafetensorsWriter *writer;
    SafetensorsSpec specs[TENSORS_MAX];
    char names[TENSORS_MAX][128];
    float *values[TENSORS_MAX];
    int64_t count = 0;

    ok(safetensors_open(FOLDER "/image_encoder/model.safetensors", &file));
    for (int64_t i = 0; i < safetensors_count(file); i++) {
        const SafetensorsEntry *entry = safetensors_entry(file, i);
        const SafetensorsSlice whole = { .dim = -1 };
        Shape shape = { .ndim = entry->ndim };
        if (change.drop && strcmp(entry->name, change.drop) == 0) continue;
        for (int d = 0; d < entry->ndim; d++) shape.dims[d] = entry->shape[d];
        const int64_t n = tensor_count(tensor_of(NULL, F32, shape));
        (void)snprintf(names[count], sizeof names[0], "%s%s", change.prefix, entry->name);
        values[count] = malloc((size_t)n * sizeof(float));
        ok(safetensors_read(file, entry, whole, tensor_of(values[count], F32, SHAPE(n))));
        if (change.poison && strcmp(entry->name, change.poison) == 0) values[count][n / 2] = NAN;
        specs[count] = (SafetensorsSpec){ names[count], F32, shape };
        count++;
    }
    if (change.add) {
        values[count] = calloc(4, sizeof(float));
        specs[count++] = (SafetensorsSpec){ change.add, F32, SHAPE(4) };
    }
    ok(safetensors_create(at("image_encoder/model.safetensors"), specs, count, NULL, &writer));
    for (int64_t i = 0; i < count; i++) {
        ok(safetensors_write(writer, values[i],
                             tensor_bytes(tensor_of(NULL, F32, specs[i].shape))));
        free(values[i]);
    }
    ok(safetensors_finish(writer, NULL, NULL));
    safetensors_close(file);
}

static void copy_folder(void)
{
    ok(file_make_folders(at("image_encoder")));
    ok(file_make_folders(at("image_processor")));
    copy_text("image_encoder/config.json", "gelu", "gelu");
    copy_text("image_processor/preprocessor_config.json", "28", "28");
}

static void names_of_earlier_versions_and_quick_gelu(void **state)
{
    (void)state;
    copy_folder();
    copy_weights((Change){ .prefix = "vision_model.", .add = "visual_projection.weight" });
    assert_true(encode_pixels(root, F32, 1, expected.tokens) < f32_tolerance);
    copy_text("image_encoder/config.json", "\"gelu\"", "\"quick_gelu\"");
    assert_true(encode_pixels(root, F32, 1, expected.tokens_quick) < f32_tolerance);
    /* and they are not the same function */
    assert_true(encode_pixels(root, F32, 1, expected.tokens) > 1e-3);
}

static void refused(Status code, const char *why)
{
    float pixels[PIXELS] = { 0 }, tokens[TOKENS * WIDTH];
    const Status s =
        clip_vision_encode_pixels(&dev, root, F32, tensor_of(pixels, F32, SHAPE(1, 3, SIDE, SIDE)),
                                  tensor_of(tokens, F32, SHAPE(1, TOKENS, WIDTH)));
    if (s != code || !strstr(status_message(), why))
        fail_msg("status %d, \"%s\"; expected %d, \"%s\"", s, status_message(), code, why);
}

static void what_is_wrong_with_a_folder_is_named(void **state)
{
    (void)state;
    copy_folder();
    copy_weights((Change){ .prefix = "", .drop = "encoder.layers.2.mlp.fc1.bias" });
    refused(ERR_FORMAT, "image_encoder: tensor encoder.layers.2.mlp.fc1.bias is missing");
    copy_weights((Change){ .prefix = "", .add = "encoder.layers.3.mlp.fc1.bias" });
    refused(ERR_FORMAT, "has 56 tensors, an image encoder of 3 layers has 55");
    copy_weights((Change){ .prefix = "", .poison = "encoder.layers.1.self_attn.v_proj.weight" });
    refused(ERR_FORMAT,
            "tensor encoder.layers.1.self_attn.v_proj.weight holds a value that is not");
    copy_weights((Change){ .prefix = "" });
    copy_text("image_encoder/config.json", "\"intermediate_size\": 48",
              "\"intermediate_size\": 64");
    refused(ERR_FORMAT,
            "tensor encoder.layers.0.mlp.fc1.weight is [48, 32], the model needs (64, 32)");
    copy_text("image_encoder/config.json", "\"gelu\"", "\"relu\"");
    refused(ERR_FORMAT, "config.json: \"hidden_act\" is \"relu\", expected gelu or quick_gelu");
    copy_text("image_encoder/config.json", "\"num_attention_heads\": 4",
              "\"num_attention_heads\": 5");
    refused(ERR_FORMAT, "hidden_size 32 is not a multiple of num_attention_heads 5");
    copy_text("image_encoder/config.json", "\"image_size\": 28", "\"image_size\": 32");
    refused(ERR_USAGE, "the image encoder takes (1, 3, 32, 32) F32");
    copy_folder();
    copy_text("image_processor/preprocessor_config.json", "\"resample\": 3", "\"resample\": 2");
    refused(ERR_FORMAT, "\"resample\" is 2, only 3 (bicubic) is known");
    copy_text("image_processor/preprocessor_config.json", "0.26862954,", "");
    refused(ERR_FORMAT, "\"image_std\" has 2 numbers, expected 3");
}

static void processors_come_in_several_spellings(void **state)
{
    ClipConfig config;
    ClipProcessor p;

    (void)state;
    copy_folder();
    copy_text("image_processor/preprocessor_config.json", "{\n    \"shortest_edge\": 28\n  }",
              "32");
    ok(clip_config_read(root, &config, &p));
    assert_int_equal(p.shortest_edge, 32);
    copy_text("image_processor/preprocessor_config.json", "\"shortest_edge\": 28",
              "\"height\": 28, \"width\": 30");
    ok(clip_config_read(root, &config, &p));
    assert_int_equal(p.shortest_edge, 0);
    assert_int_equal(p.width, 30);
    copy_text("image_processor/preprocessor_config.json",
              "\"crop_size\": {\n    \"height\": 28,\n    \"width\": 28\n  }", "\"crop_size\": 24");
    ok(clip_config_read(root, &config, &p));
    assert_int_equal(p.crop_height, 24);
    assert_int_equal(p.crop_width, 24);
    ok(file_remove_tree(at("image_processor")));
    ok(clip_config_read(root, &config, &p));
    assert_int_equal(p.shortest_edge, 224);
    assert_true(p.crop && p.resize);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_are_prepared_as_transformers_does),
        cmocka_unit_test(a_picture_of_its_size_is_left_alone),
        cmocka_unit_test(pictures_that_do_not_fit_are_refused),
        cmocka_unit_test(tokens_equal_transformers),
        cmocka_unit_test(pictures_become_tokens),
        cmocka_unit_test(names_of_earlier_versions_and_quick_gelu),
        cmocka_unit_test(what_is_wrong_with_a_folder_is_named),
        cmocka_unit_test(processors_come_in_several_spellings),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
