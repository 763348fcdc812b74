/*
 * What an image-to-video model reads beside the noise: where it stands, that grey is between the
 * frames that are known, and that a training step gives its model just that, on every rank.
 *
 * The order and the mask are built here as spec 6 says it, by frames and channels of a latent, and
 * cut into patches; core/codec/condition.c works on tokens.
 */
#include "core/codec/condition.h"
#include "core/model/flow.h"
#include "tests/support/group_threads.h"
#include "train/step.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { T = 3, H = 4, W = 6, CHANNELS = 3, TOKENS = T * H / 2 * W / 2, PATCH = CHANNELS * 4 };
enum { ALL = 2 * CHANNELS + CONDITION_MASK, COLUMNS = ALL * 4 };

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

static float condition_value(int64_t clip, int64_t i)
{
    return 0.25f + (float)((clip * 131 + i * 7) % 97) / 32;
}

/* ---- as the spec has it --------------------------------------------------------------------- */

/* Mask (4, T): 1 for known pixel frames; the first frame four times, then viewed as [T, 4] and
 * transposed. */
static void mask_of(KnownFrames known, float mask[CONDITION_MASK][T])
{
    const int64_t frames = 4 * (T - 1) + 1;
    float pixels[4 * (T - 1) + 1], repeated[4 * T];
    for (int64_t i = 0; i < frames; i++)
        pixels[i] = i < known.before || i >= frames - known.after ? 1.0f : 0.0f;
    for (int64_t i = 0; i < 4 * T; i++) repeated[i] = i < 4 ? pixels[0] : pixels[i - 3];
    for (int64_t t = 0; t < T; t++)
        for (int64_t j = 0; j < CONDITION_MASK; j++) mask[j][t] = repeated[t * 4 + j];
}

/* tokens (TOKENS, COLUMNS) of latents in three groups of channels: noise, mask, condition. noise,
 * condition (TOKENS, PATCH). */
static void expected_tokens(KnownFrames known, const float *noise, const float *condition,
                            float *tokens)
{
    enum { PLANE = H * W };
    float latent[ALL * T * PLANE], given[CHANNELS * T * PLANE]; /* ranks are threads here */
    float mask[CONDITION_MASK][T];
    float *to = latent;
    const Shape own = SHAPE(CHANNELS, T, H, W);
    tokens_to_latent(tensor_of(given, F32, own),
                     tensor_of((float *)(uintptr_t)noise, F32, SHAPE(TOKENS, PATCH)));
    memcpy(to, given, sizeof given);
    to += CHANNELS * T * PLANE;
    mask_of(known, mask);
    for (int64_t j = 0; j < CONDITION_MASK; j++)
        for (int64_t t = 0; t < T; t++)
            for (int64_t i = 0; i < PLANE; i++) *to++ = mask[j][t];
    tokens_to_latent(tensor_of(given, F32, own),
                     tensor_of((float *)(uintptr_t)condition, F32, SHAPE(TOKENS, PATCH)));
    memcpy(to, given, sizeof given);
    latent_to_tokens(tensor_of(tokens, F32, SHAPE(TOKENS, COLUMNS)),
                     tensor_of(latent, F32, SHAPE(ALL, T, H, W)));
}

static void mask_then_condition_stand_after_the_noise(void **state)
{
    static const KnownFrames cases[] = { { 1, 0 }, { 1, 1 }, { 5, 0 }, { 0, 3 }, { 2, 2 } };
    static float noise[TOKENS * PATCH], condition[TOKENS * PATCH];
    static float want[TOKENS * COLUMNS], got[TOKENS * COLUMNS];
    Device dev;
    (void)state;
    ok(device_open(&dev, "cpu", NULL, 1, false));
    for (int64_t i = 0; i < TOKENS * PATCH; i++) noise[i] = -condition_value(5, i);
    for (int64_t i = 0; i < TOKENS * PATCH; i++) condition[i] = condition_value(0, i);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        expected_tokens(cases[c], noise, condition, want);
        /* all at once, and in parts as context ranks do */
        for (int64_t step = 1; step <= TOKENS; step += 4) {
            memset(got, 0x55, sizeof got);
            for (int64_t first = 0; first < TOKENS; first += step) {
                const int64_t n = first + step < TOKENS ? step : TOKENS - first;
                const Tensor x = tensor_of(got + first * COLUMNS, F32, SHAPE(n, COLUMNS));
                const ConditionPart part = { cases[c], T, TOKENS / T, first };
                ok(op_place_columns(&dev, x, tensor_of(noise + first * PATCH, F32, SHAPE(n, PATCH)),
                                    0));
                ok(condition_place(&dev, x, PATCH,
                                   tensor_of(condition + first * PATCH, F32, SHAPE(n, PATCH)),
                                   &part));
            }
            assert_memory_equal(got, want, sizeof want);
        }
    }
    assert_int_equal(condition_known(CONDITION_FIRST).before, 1);
    assert_int_equal(condition_known(CONDITION_FIRST).after, 0);
    assert_int_equal(condition_known(CONDITION_FIRST_LAST).after, 1);
    assert_int_equal(condition_known(CONDITION_NONE).before, 0);
}

/* ---- grey ----------------------------------------------------------------------------------- */

enum { FRAMES = 9, SIDE = 16, FRAME = SIDE * SIDE * 3 };

/* The same bits as of the whole video in [-1, 1], put together here. */
static void grey_stands_between_the_known_frames(void **state)
{
    static uint8_t known[2 * FRAME];
    static float video[FRAMES * FRAME], grey[FRAME];
    Group self = group_self();
    WanVae *vae;
    WanCoder *coder;
    Device dev;
    (void)state;
    ok(device_open(&dev, "cpu", NULL, 1, false));
    ok(wan_vae_load("tests/fixtures/wan_vae_21", WAN_ENCODES, &vae));
    ok(wan_coder_create(&dev, vae, false, &self, SIDE, SIDE, &coder));
    for (int64_t i = 0; i < 2 * FRAME; i++) known[i] = (uint8_t)(i * 37 % 251);
    for (int kind = CONDITION_FIRST; kind <= CONDITION_FIRST_LAST; kind++) {
        static float want[16 * 3 * 2 * 2], got[16 * 3 * 2 * 2];
        const int64_t channels = vae->config.z_dim;
        const Shape latent = SHAPE(channels, 3, SIDE / 8, SIDE / 8);
        const bool last = kind == CONDITION_FIRST_LAST;
        int64_t done = 0;
        memset(video, 0, sizeof video);
        for (int64_t i = 0; i < FRAME; i++) {
            video[i] = (float)known[i] / 127.5f - 1;
            if (last) video[(FRAMES - 1) * FRAME + i] = (float)known[FRAME + i] / 127.5f - 1;
        }
        ok(wan_encode(coder, tensor_of(want, F32, latent), &done,
                      tensor_of(video, F32, SHAPE(FRAMES, SIDE, SIDE, 3))));
        assert_int_equal(done, 3);
        ok(condition_encode(
            coder, tensor_of(got, F32, latent), tensor_of(known, U8, SHAPE(1, SIDE, SIDE, 3)),
            last ? tensor_of(known + FRAME, U8, SHAPE(1, SIDE, SIDE, 3)) : tensor_none(),
            tensor_of(grey, F32, SHAPE(1, SIDE, SIDE, 3))));
        assert_memory_equal(got, want, tensor_bytes(tensor_of(want, F32, latent)));
    }
    wan_coder_destroy(coder);
    wan_vae_destroy(vae);
}

/* ---- a training step ------------------------------------------------------------------------ */

enum { CLIPS = 2, IMAGE_ROWS = 3, IMAGE_DIM = 5, TEXT_ROWS = 4, TEXT_DIM = 6 };

static const ModelConfig config = {
    .dit = { .num_layers = 2,
             .num_attention_heads = 2,
             .attention_head_dim = 8,
             .ffn_dim = 12,
             .in_channels = ALL,
             .out_channels = CHANNELS,
             .text_dim = TEXT_DIM,
             .freq_dim = 10,
             .image_dim = IMAGE_DIM,
             .image_rows = IMAGE_ROWS,
             .patch_size = { 1, 2, 2 },
             .rope_max_seq_len = 64,
             .eps = 1e-6 },
    .text = { .d_model = TEXT_DIM, .max_length = TEXT_ROWS },
};
static const FlowOptions flow = { .seed = 9, .shift = 3 };
static const int64_t samples[CLIPS] = { 11, 12 };
static const char *const captions[CLIPS] = { "", "" };

static float clean_value(int64_t clip, int64_t i)
{
    return (float)((clip * 57 + i * 11) % 89) / 40 - 1;
}

/* x_t of clip `clip`, all tokens, as it should be. */
static Status expected_input(const Device *dev, int64_t clip, float *tokens)
{
    float noise[TOKENS * PATCH], condition[TOKENS * PATCH];
    const float t = (float)flow_timestep(&flow, samples[clip]);
    TRY(flow_noise(dev, &flow, tensor_of(noise, F32, SHAPE(1, TOKENS, PATCH)), &samples[clip], 0));
    for (int64_t i = 0; i < TOKENS * PATCH; i++) {
        noise[i] = (1 - t) * clean_value(clip, i) + t * noise[i];
        condition[i] = condition_value(clip, i);
    }
    expected_tokens(condition_known(CONDITION_FIRST_LAST), noise, condition, tokens);
    return OK;
}

/* This rank's tokens of values (clips, TOKENS, PATCH). */
static Tensor cut(TokenRange own, float (*value)(int64_t, int64_t), float *out)
{
    for (int64_t clip = 0; clip < CLIPS; clip++)
        for (int64_t i = 0; i < own.count * PATCH; i++)
            out[clip * own.count * PATCH + i] = value(clip, own.first * PATCH + i);
    return tensor_of(out, F32, SHAPE(CLIPS, own.count, PATCH));
}

static Status check_input(const Device *dev, const DitSlot *slot, TokenRange own, Tensor image)
{
    float want[TOKENS * COLUMNS];
    for (int64_t clip = 0; clip < CLIPS; clip++) {
        const float *got = tensor_f32(tensor_at(slot->x_t, clip));
        TRY(expected_input(dev, clip, want));
        for (int64_t i = 0; i < own.count * COLUMNS; i++) {
            const float w = want[own.first * COLUMNS + i], off = got[i] - w;
            /* the mixture of values below 6 may be rounded in another order: 3 roundings of
             * 2^-24; the rest is copied */
            const float most = i % COLUMNS < PATCH ? 6 * 3 * 0x1p-24f : 0.0f;
            CHECK(off <= most && -off <= most, ERR_COMM,
                  "clip %lld token %lld column %lld is %.9g, expected %.9g", (long long)clip,
                  (long long)(own.first + i / COLUMNS), (long long)(i % COLUMNS), (double)got[i],
                  (double)w);
        }
    }
    CHECK(memcmp(slot->image.data, image.data, tensor_bytes(image)) == 0, ERR_COMM,
          "image tokens are not the batch's");
    return OK;
}

typedef struct Run {
    Device dev;
    Dit dit;
    Arena arena;
    TrainStep step;
} Run;

static Status run_step(Run *r, const MeshGroups *groups)
{
    const DitShape shape = dit_shape(CLIPS, T, H / 2, W / 2);
    const TrainStepOptions options = { .flow = flow,
                                       .shapes = &shape,
                                       .shape_count = 1,
                                       .micros_max = 1,
                                       .condition = CONDITION_FIRST_LAST };
    float latents[CLIPS * TOKENS * PATCH], condition[CLIPS * TOKENS * PATCH];
    float text[CLIPS * TEXT_ROWS * TEXT_DIM], image[CLIPS * IMAGE_ROWS * IMAGE_DIM];
    Tensor weights, grads;
    double loss = 0;
    TRY(device_open(&r->dev, "cpu", NULL, 1, false));
    TRY(dit_create(&r->dev, &config, groups, RECOMPUTE_NONE, 0, &r->dit));
    const Shape flat = SHAPE(r->dit.params.local_elements);
    TRY(arena_create(&r->arena, "test", 2 * ((size_t)flat.dims[0] * sizeof(float) + ARENA_ALIGN)));
    TRY(tensor_alloc(&r->arena, F32, flat, "weights", &weights));
    TRY(tensor_alloc(&r->arena, F32, flat, "grads", &grads));
    TRY(op_normal(&r->dev, weights, rng_make(1, RNG_TEST, 0), 0));
    TRY(dit_bind(&r->dit, weights, grads));
    TRY(train_step_create(&r->dit, groups, grads, &options, &r->step));
    const TokenRange own = dit_own_tokens(&r->dit, shape);
    memset(text, 0, sizeof text);
    for (size_t i = 0; i < sizeof image / sizeof image[0]; i++)
        image[i] = condition_value(3, (int64_t)i);
    const MicroBatch micro = {
        .clips = CLIPS,
        .t = T,
        .h = H,
        .w = W,
        .tokens = TOKENS,
        .patch = PATCH,
        .range = own,
        .latents = cut(own, clean_value, latents),
        .text = tensor_of(text, F32, SHAPE(CLIPS, TEXT_ROWS, TEXT_DIM)),
        .condition = cut(own, condition_value, condition),
        .image = tensor_of(image, F32, SHAPE(CLIPS, IMAGE_ROWS, IMAGE_DIM)),
        .samples = samples,
        .captions = captions,
    };
    const Batch batch = { .micro_count = 1,
                          .micros = &micro,
                          .global_clips = CLIPS,
                          .global_micros = 1,
                          .global_tokens = CLIPS * TOKENS,
                          .global_elements = (int64_t)CLIPS * TOKENS * PATCH };
    TRY(train_step_run(&r->step, &batch, &loss));
    CHECK((loss > 0) == r->dit.last, ERR_COMM, "a loss of %g", loss);
    return r->dit.first ? check_input(&r->dev, &r->step.slots[0].model, own, micro.image) : OK;
}

static Status rank_body(int rank, const MeshGroups *groups, void *argument)
{
    Run r = { 0 };
    (void)rank;
    (void)argument;
    const Status s = run_step(&r, groups);
    train_step_destroy(&r.step);
    arena_destroy(&r.arena);
    dit_destroy(&r.dit);
    return s;
}

static void a_step_reads_mixture_mask_and_condition(void **state)
{
    MeshShape meshes[] = { mesh_shape(1, 1, 1, 1), mesh_shape(1, 1, 1, 2), mesh_shape(1, 1, 1, 3),
                           mesh_shape(1, 1, 2, 1), mesh_shape(1, 2, 1, 1) };
    (void)state;
    meshes[2].ulysses = 1; /* 3 ranks do not share 2 heads */
    for (size_t i = 0; i < sizeof meshes / sizeof meshes[0]; i++)
        ok(threads_run(meshes[i], rank_body, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mask_then_condition_stand_after_the_noise),
        cmocka_unit_test(grey_stands_between_the_known_frames),
        cmocka_unit_test(a_step_reads_mixture_mask_and_condition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
