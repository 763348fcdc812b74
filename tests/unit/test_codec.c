/* The linear codec: exact on what it spans, the same in parts as in whole, the same from disk. */
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/codec/linear.h"
#include "core/codec/patch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FRAMES = 9, HEIGHT = 24, WIDTH = 32, CLIPS = 12, BYTES = FRAMES * HEIGHT * WIDTH * 3 };

static const int64_t latent_t = 3, latent_h = HEIGHT / 8, latent_w = WIDTH / 8;

static Tensor frames_of(uint8_t *pixels)
{
    return tensor_of(pixels, U8, SHAPE(FRAMES, HEIGHT, WIDTH, 3));
}

/* A clip of moving waves in three colours, with a little noise: like a video, mostly smooth. */
static void draw_clip(uint8_t *pixels, int clip, int noise)
{
    const Rng rng = rng_make(7, RNG_TEST, (uint64_t)clip);
    const double fx = 0.05 + 0.3 * (double)rng_uniform(rng, 0);
    const double fy = 0.05 + 0.3 * (double)rng_uniform(rng, 1);
    const double speed = (double)rng_uniform(rng, 2);
    const double base = 60 + 120 * (double)rng_uniform(rng, 3);
    for (int i = 0; i < BYTES; i++) {
        const int colour = i % 3, x = i / 3 % WIDTH, y = i / 3 / WIDTH % HEIGHT;
        const int frame = i / 3 / WIDTH / HEIGHT;
        const double wave = sin(fx * x + fy * y + speed * frame + colour);
        const double jitter = noise * ((double)rng_uniform(rng, 100 + (uint64_t)i) - 0.5);
        pixels[i] = (uint8_t)(base + 50 * wave + jitter);
    }
}

static void fit_codec(int64_t channels, int noise, LinearCodec *codec)
{
    LinearFit *fit;
    uint8_t *pixels = malloc(BYTES);
    assert_int_equal(linear_codec_fit_create(&fit), OK);
    for (int clip = 0; clip < CLIPS; clip++) {
        draw_clip(pixels, clip, noise);
        assert_int_equal(linear_codec_fit_add(fit, frames_of(pixels)), OK);
    }
    assert_int_equal(linear_codec_fit_finish(fit, channels, codec), OK);
    linear_codec_fit_destroy(fit);
    free(pixels);
}

static Tensor make_latent(int64_t channels)
{
    const Shape shape = SHAPE(channels, latent_t, latent_h, latent_w);
    Tensor latent = tensor_of(NULL, F32, shape);
    latent.data = calloc(1, tensor_bytes(latent));
    assert_non_null(latent.data);
    return latent;
}

/* Mean squared error in bytes over the clips that were fitted. */
static double codec_error(const LinearCodec *codec, int noise)
{
    uint8_t *before = malloc(BYTES), *after = malloc(BYTES);
    Tensor latent = make_latent(codec->channels);
    double sum = 0;
    for (int clip = 0; clip < CLIPS; clip++) {
        draw_clip(before, clip, noise);
        assert_int_equal(linear_codec_encode(codec, latent, frames_of(before)), OK);
        assert_int_equal(linear_codec_decode(codec, frames_of(after), latent, 0, latent_t), OK);
        for (int i = 0; i < BYTES; i++) sum += pow((double)before[i] - (double)after[i], 2);
    }
    free(latent.data);
    free(before);
    free(after);
    return sum / CLIPS / BYTES;
}

/* Fitted once: each takes an eigen-decomposition of 768 x 768. */
typedef struct Fixture {
    LinearCodec full;  /* every direction; from clips with noise 40 */
    LinearCodec small; /* 16 channels; from clips with noise 20 */
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    fit_codec(LINEAR_BLOCK, 40, &f->full);
    fit_codec(16, 20, &f->small);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;
    linear_codec_destroy(&f->full);
    linear_codec_destroy(&f->small);
    free(f);
    return 0;
}

static void basis_is_orthonormal(void **state)
{
    (void)state;
    LinearCodec codec;
    fit_codec(96, 0, &codec); /* without noise most directions have no variance at all */
    for (int64_t a = 0; a < codec.channels; a++) {
        for (int64_t b = 0; b <= a; b++) {
            double dot = 0;
            for (int64_t i = 0; i < LINEAR_BLOCK; i++) {
                dot += (double)codec.basis[a * LINEAR_BLOCK + i] *
                       (double)codec.basis[b * LINEAR_BLOCK + i];
            }
            /* entries rounded to F32: 2^-24 relative, so at most 2^-23 in a dot of unit vectors */
            assert_true(fabs(dot - (a == b)) < 1.2e-7 + 1e-9);
        }
    }
    linear_codec_destroy(&codec);
}

static void what_lies_in_the_span_comes_back_exactly(void **state)
{
    /* all 768 directions span everything, noise too */
    const Fixture *f = *state;
    assert_true(codec_error(&f->full, 40) == 0);
}

static void more_channels_lose_less(void **state)
{
    const Fixture *f = *state;
    const int64_t channels[] = { 1, 4, 16, 48, 192 };
    double last = INFINITY;
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
        LinearCodec codec;
        const Tensor basis = tensor_slice(linear_codec_basis(&f->full), 0, channels[i]);
        const Tensor scale = tensor_slice(linear_codec_scale(&f->full), 0, channels[i]);
        const Tensor mean = linear_codec_mean(&f->full);
        assert_int_equal(linear_codec_create(&codec, basis, mean, scale, NULL, "leading"), OK);
        const double error = codec_error(&codec, 40);
        assert_true(error < last);
        last = error;
        linear_codec_destroy(&codec);
    }
    /* uniform noise of width 40 has variance 133; 192 of 768 directions take a quarter of it */
    assert_true(last < 133);
}

static void latents_have_unit_variance_together(void **state)
{
    const LinearCodec codec = ((Fixture *)*state)->small;
    uint8_t *pixels = malloc(BYTES);
    Tensor latent = make_latent(codec.channels);
    const float *z = tensor_f32(latent);
    double sum = 0, squares = 0;
    const double count = (double)tensor_count(latent) * CLIPS;
    for (int clip = 0; clip < CLIPS; clip++) {
        draw_clip(pixels, clip, 20);
        assert_int_equal(linear_codec_encode(&codec, latent, frames_of(pixels)), OK);
        for (int64_t i = 0; i < tensor_count(latent); i++) {
            sum += (double)z[i];
            squares += (double)z[i] * (double)z[i];
        }
    }
    /* centred channel by channel, and scaled by the very data: only rounding is left */
    assert_true(fabs(sum / count) < 1e-4);
    assert_true(fabs(squares / count - 1) < 1e-4);
    for (int64_t c = 1; c < codec.channels; c++) {
        assert_true(codec.scale[c] >= codec.scale[c - 1]); /* strongest channel first */
    }
    free(latent.data);
    free(pixels);
}

static void first_latent_frame_sees_only_the_first_frame(void **state)
{
    const LinearCodec codec = ((Fixture *)*state)->small;
    uint8_t *pixels = malloc(BYTES);
    Tensor latent = make_latent(codec.channels), changed = make_latent(codec.channels);
    draw_clip(pixels, 3, 20);
    assert_int_equal(linear_codec_encode(&codec, latent, frames_of(pixels)), OK);
    /* frames 1 .. 4 belong to latent frame 1: everything from frame 5 on changes */
    memset(pixels + 5 * HEIGHT * WIDTH * 3, 0, 4 * HEIGHT * WIDTH * 3);
    assert_int_equal(linear_codec_encode(&codec, changed, frames_of(pixels)), OK);
    const float *a = tensor_f32(latent), *b = tensor_f32(changed);
    int64_t differ[3] = { 0 };
    for (int64_t i = 0; i < tensor_count(latent); i++) {
        differ[i / (latent_h * latent_w) % latent_t] += a[i] != b[i];
    }
    assert_int_equal(differ[0], 0);
    assert_int_equal(differ[1], 0);
    assert_true(differ[2] > 0);
    free(latent.data);
    free(changed.data);
    free(pixels);
}

static void first_frame_is_the_average_of_its_four(void **state)
{
    const LinearCodec codec = ((Fixture *)*state)->small;
    const Tensor latent = tensor_of((float[16]){ 1, -1, 2, 0.5F, 3, -2, 1, 1, 4, -4, 2, 2, 1, 3 },
                                    F32, SHAPE(16, 1, 1, 1));
    uint8_t pixels[8 * 8 * 3];
    const Tensor frames = tensor_of(pixels, U8, SHAPE(1, 8, 8, 3));
    assert_int_equal(linear_codec_decode(&codec, frames, latent, 0, 1), OK);
    bool four_differ = false;
    for (int i = 0; i < 8 * 8 * 3; i++) {
        double value[4], sum = 0;
        for (int f = 0; f < 4; f++) {
            const int at = f * 8 * 8 * 3 + i;
            value[f] = (double)codec.mean[at];
            for (int c = 0; c < 16; c++) {
                value[f] += (double)codec.basis[c * LINEAR_BLOCK + at] *
                            (double)tensor_f32(latent)[c] / (double)codec.scale[c];
            }
            sum += value[f] / 4;
        }
        const double want = fmin(255, fmax(0, (sum + 1) * 127.5));
        /* half a step of rounding */
        assert_true(fabs((double)pixels[i] - want) < 0.501);
        four_differ |= fabs(value[0] - sum) * 127.5 > 2;
    }
    assert_true(four_differ); /* or this test could not fail */
}

static void decoding_in_parts_gives_the_bytes_of_the_whole(void **state)
{
    const LinearCodec codec = ((Fixture *)*state)->small;
    uint8_t *pixels = malloc(BYTES), *whole = malloc(BYTES), *part = malloc(BYTES);
    Tensor latent = make_latent(codec.channels);
    draw_clip(pixels, 5, 20);
    assert_int_equal(linear_codec_encode(&codec, latent, frames_of(pixels)), OK);
    assert_int_equal(linear_codec_decode(&codec, frames_of(whole), latent, 0, latent_t), OK);
    assert_int_equal(linear_codec_frames(0, latent_t), FRAMES);
    for (int64_t first = 0; first < latent_t; first++) {
        for (int64_t count = 1; first + count <= latent_t; count++) {
            const int64_t n = linear_codec_frames(first, count);
            const Tensor frames = tensor_of(part, U8, SHAPE(n, HEIGHT, WIDTH, 3));
            assert_int_equal(linear_codec_decode(&codec, frames, latent, first, count), OK);
            const uint8_t *same = whole + linear_codec_frames(0, first) * HEIGHT * WIDTH * 3;
            assert_memory_equal(part, same, tensor_bytes(frames));
        }
    }
    const Tensor frames = frames_of(part);
    assert_int_equal(linear_codec_decode(&codec, frames, latent, 1, latent_t), ERR_FORMAT);
    assert_int_equal(linear_codec_decode(&codec, frames, latent, 0, 1), ERR_FORMAT);
    free(latent.data);
    free(pixels);
    free(whole);
    free(part);
}

static void fits_in_any_order_and_parts_are_the_same(void **state)
{
    const Fixture *f = *state;
    LinearCodec parts;
    LinearFit *total, *part;
    uint8_t *pixels = malloc(BYTES);
    assert_int_equal(linear_codec_fit_create(&total), OK);
    assert_int_equal(linear_codec_fit_create(&part), OK);
    for (int clip = CLIPS - 1; clip >= 0; clip--) {
        linear_codec_fit_clear(part);
        draw_clip(pixels, clip, 20);
        assert_int_equal(linear_codec_fit_add(part, frames_of(pixels)), OK);
        linear_codec_fit_merge(total, part);
    }
    assert_int_equal(linear_codec_fit_finish(total, 16, &parts), OK);
    assert_string_equal(f->small.digest, parts.digest);
    linear_codec_fit_destroy(total);
    linear_codec_fit_destroy(part);
    linear_codec_destroy(&parts);
    free(pixels);
}

static void saved_and_loaded_is_identical(void **state)
{
    const LinearCodec codec = ((Fixture *)*state)->small;
    char folder[] = "/tmp/zoetrope-codec-XXXXXX", path[128];
    assert_non_null(mkdtemp(folder));
    LinearCodec loaded;
    assert_int_equal(linear_codec_save(&codec, folder), OK);
    assert_int_equal(linear_codec_load(folder, &loaded), OK);
    assert_int_equal(loaded.channels, 16);
    assert_string_equal(loaded.digest, codec.digest);
    assert_memory_equal(loaded.basis, codec.basis, 16 * LINEAR_BLOCK * sizeof(float));
    assert_memory_equal(loaded.mean, codec.mean, LINEAR_BLOCK * sizeof(float));
    assert_memory_equal(loaded.scale, codec.scale, 16 * sizeof(float));
    linear_codec_destroy(&loaded);

    /* one flipped bit in the last value is found */
    snprintf(path, sizeof path, "%s/linear_codec.safetensors", folder);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    const int byte = fgetc(file);
    assert_int_equal(fseek(file, -4, SEEK_END), 0);
    assert_int_equal(fputc(byte ^ 1, file), byte ^ 1);
    fclose(file);
    assert_int_equal(linear_codec_load(folder, &loaded), ERR_FORMAT);
    assert_non_null(strstr(status_message(), "linear_codec.safetensors"));
    assert_int_equal(file_remove_tree(folder), OK);
}

static void wrong_parameters_are_refused(void **state)
{
    LinearCodec codec = ((Fixture *)*state)->small, copy;
    const Tensor basis = linear_codec_basis(&codec), mean = linear_codec_mean(&codec);
    const Tensor scale = linear_codec_scale(&codec);
    assert_int_equal(linear_codec_create(&copy, basis, mean, scale, codec.digest, "x"), OK);
    linear_codec_destroy(&copy);
    assert_int_equal(linear_codec_create(&copy, basis, scale, scale, NULL, "x"), ERR_FORMAT);
    char digest[65];
    memset(digest, '0', 64);
    digest[64] = 0;
    assert_int_equal(linear_codec_create(&copy, basis, mean, scale, digest, "x"), ERR_FORMAT);
    const float kept[] = { codec.scale[2], codec.basis[5] };
    codec.scale[2] = 0;
    assert_int_equal(linear_codec_create(&copy, basis, mean, scale, NULL, "x"), ERR_FORMAT);
    codec.scale[2] = kept[0];
    codec.basis[5] = NAN;
    assert_int_equal(linear_codec_create(&copy, basis, mean, scale, NULL, "x"), ERR_FORMAT);
    codec.basis[5] = kept[1];
}

static void one_grey_video_still_makes_a_codec(void **state)
{
    (void)state;
    LinearFit *fit;
    LinearCodec codec;
    uint8_t *pixels = malloc(BYTES), *after = malloc(BYTES);
    assert_int_equal(linear_codec_fit_create(&fit), OK);
    assert_int_equal(linear_codec_fit_finish(fit, 4, &codec), ERR_FORMAT); /* nothing added */
    memset(pixels, 77, BYTES);
    assert_int_equal(linear_codec_fit_add(fit, frames_of(pixels)), OK);
    assert_int_equal(linear_codec_fit_finish(fit, 0, &codec), ERR_CONFIG);
    assert_int_equal(linear_codec_fit_finish(fit, LINEAR_BLOCK + 1, &codec), ERR_CONFIG);
    assert_int_equal(linear_codec_fit_finish(fit, 48, &codec), OK);
    Tensor latent = make_latent(48);
    assert_int_equal(linear_codec_encode(&codec, latent, frames_of(pixels)), OK);
    assert_int_equal(linear_codec_decode(&codec, frames_of(after), latent, 0, latent_t), OK);
    assert_memory_equal(pixels, after, BYTES);
    linear_codec_fit_destroy(fit);
    linear_codec_destroy(&codec);
    free(latent.data);
    free(pixels);
    free(after);
}

static void sizes_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    LinearFit *fit;
    uint8_t *pixels = calloc(1, BYTES);
    assert_int_equal(linear_codec_fit_create(&fit), OK);
    const Shape bad[] = { SHAPE(8, 8, 8, 3), SHAPE(5, 12, 8, 3), SHAPE(5, 8, 8, 4),
                          SHAPE(5, 0, 8, 3) };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const Tensor frames = tensor_of(pixels, U8, bad[i]);
        assert_int_equal(linear_codec_fit_add(fit, frames), ERR_FORMAT);
    }
    linear_codec_fit_destroy(fit);
    free(pixels);
}

static void tokens_are_in_data_order(void **state)
{
    (void)state;
    enum { C = 3, T = 2, H = 4, W = 6, COUNT = C * T * H * W };
    float z[COUNT], x[COUNT], back[COUNT];
    for (int i = 0; i < COUNT; i++) z[i] = (float)i;
    const Tensor latent = tensor_of(z, F32, SHAPE(C, T, H, W));
    const Tensor tokens = tensor_of(x, F32, SHAPE(T * H / 2 * W / 2, C * 4));
    latent_to_tokens(tokens, latent);
    for (int t = 0, token = 0; t < T; t++) {
        for (int h = 0; h < H / 2; h++) {
            for (int w = 0; w < W / 2; w++, token++) {
                for (int k = 0; k < C * 4; k++) {
                    const int c = k / 4, ph = k / 2 % 2, pw = k % 2;
                    const float want = z[((c * T + t) * H + 2 * h + ph) * W + 2 * w + pw];
                    assert_true(x[token * C * 4 + k] == want);
                }
            }
        }
    }
    tokens_to_latent(tensor_of(back, F32, SHAPE(C, T, H, W)), tokens);
    assert_memory_equal(back, z, sizeof z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basis_is_orthonormal),
        cmocka_unit_test(what_lies_in_the_span_comes_back_exactly),
        cmocka_unit_test(more_channels_lose_less),
        cmocka_unit_test(latents_have_unit_variance_together),
        cmocka_unit_test(first_latent_frame_sees_only_the_first_frame),
        cmocka_unit_test(first_frame_is_the_average_of_its_four),
        cmocka_unit_test(decoding_in_parts_gives_the_bytes_of_the_whole),
        cmocka_unit_test(fits_in_any_order_and_parts_are_the_same),
        cmocka_unit_test(saved_and_loaded_is_identical),
        cmocka_unit_test(wrong_parameters_are_refused),
        cmocka_unit_test(one_grey_video_still_makes_a_codec),
        cmocka_unit_test(sizes_that_do_not_fit_are_refused),
        cmocka_unit_test(tokens_are_in_data_order),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
