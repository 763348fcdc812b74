/*
 * The double-precision model against PyTorch: a small random WanTransformer3DModel (diffusers) and
 * UMT5EncoderModel (transformers), computed in double by tests/fixtures/make_wan.py.
 */
#include "tests/model/fixture.h"
#include "tests/model/wan_double.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_tiny_random"

/* what make_wan.py builds; the files' own config.json say the same */
static const ModelConfig config = {
    .dit = { .num_layers = 2,
             .num_attention_heads = 2,
             .attention_head_dim = 16,
             .ffn_dim = 40,
             .in_channels = 3,
             .out_channels = 3,
             .text_dim = 16,
             .freq_dim = 16,
             .patch_size = { 1, 2, 2 },
             .rope_max_seq_len = 64,
             .eps = 1e-6 },
    .text = { .d_model = 16,
              .d_kv = 4,
              .d_ff = 24,
              .num_layers = 2,
              .num_heads = 2,
              .vocab_size = 384,
              .relative_attention_num_buckets = 32,
              .relative_attention_max_distance = 128,
              .max_length = 160,
              .layer_norm_epsilon = 1e-6 },
};

enum { MAX_LOADED = 256 };

/* Every parameter that was asked for, kept until the test ends. */
typedef struct Weights {
    Fixture files[COMPONENT_COUNT];
    char names[MAX_LOADED][96];
    double *values[MAX_LOADED];
    Component components[MAX_LOADED];
    int count;
} Weights;

static const double *weights_find(void *context, Component component, const char *name)
{
    Weights *w = context;
    int64_t elements = 0;

    for (int i = 0; i < w->count; i++) {
        if (w->components[i] == component && strcmp(w->names[i], name) == 0) return w->values[i];
    }
    assert_true(w->count < MAX_LOADED);

    double *values = fixture_read(&w->files[component], name, &elements);
    if (!values) return NULL;
    snprintf(w->names[w->count], sizeof w->names[0], "%s", name);
    w->components[w->count] = component;
    w->values[w->count] = values;
    return w->values[w->count++];
}

typedef struct Case {
    Weights weights;
    Fixture expected;
    WanDouble model;
    int64_t batch;
    int64_t lengths[8];
    int32_t *ids; /* (batch, max_length) */
} Case;

static int case_open(void **state)
{
    Case *c = calloc(1, sizeof *c);
    int64_t count = 0;

    c->weights.files[COMPONENT_TRANSFORMER] =
        fixture_open(FOLDER "/transformer/diffusion_pytorch_model.safetensors");
    c->weights.files[COMPONENT_TEXT_ENCODER] =
        fixture_open(FOLDER "/text_encoder/model.safetensors");
    c->expected = fixture_open(FOLDER "/expected.safetensors");
    c->model = (WanDouble){ &config, weights_find, &c->weights };

    double *lengths = fixture_read(&c->expected, "lengths", &c->batch);
    for (int64_t b = 0; b < c->batch; b++) c->lengths[b] = (int64_t)lengths[b];
    free(lengths);

    double *ids = fixture_read(&c->expected, "ids", &count);
    c->ids = calloc((size_t)count, sizeof *c->ids);
    for (int64_t i = 0; i < count; i++) c->ids[i] = (int32_t)ids[i];
    free(ids);
    *state = c;
    return 0;
}

static int case_close(void **state)
{
    Case *c = *state;

    for (int i = 0; i < c->weights.count; i++) free(c->weights.values[i]);
    for (int i = 0; i < COMPONENT_COUNT; i++) fixture_close(&c->weights.files[i]);
    fixture_close(&c->expected);
    free(c->ids);
    free(c);
    return 0;
}

/* Both sides add the same few hundred terms in double, values of order 1: 1e3 * 2^-53 ~ 1e-13 for
 * one sum; a dozen layers in a row, and condition numbers of order 10 (norms, softmax), leave
 * 1e-11 a wide margin. Anything misread is off by 1e-3 at the least. */
static void assert_near(const double *got, const double *want, int64_t count)
{
    double worst = 0.0;

    for (int64_t i = 0; i < count; i++) {
        assert_true(isfinite(got[i]));
        worst = fmax(worst, fabs(got[i] - want[i]));
    }
    if (worst > 1e-11) fail_msg("largest difference %g of %lld values", worst, (long long)count);
}

static void text_encoder_equals_transformers(void **state)
{
    Case *c = *state;
    int64_t count = 0;
    double *want = fixture_read(&c->expected, "encoded", &count);
    double *got = calloc((size_t)count, sizeof *got);
    const int64_t sample = config.text.max_length * config.text.d_model;

    assert_int_equal(count, c->batch * sample);
    for (int64_t b = 0; b < c->batch; b++)
        wan_double_encode(&c->model, c->ids + b * config.text.max_length, c->lengths[b],
                          got + b * sample);
    assert_near(got, want, count);
    free(got);
    free(want);
}

static void velocity_equals_diffusers(void **state)
{
    Case *c = *state;
    int64_t count = 0;
    double *grid = fixture_read(&c->expected, "grid", &count);
    double *timesteps = fixture_read(&c->expected, "timesteps", &count);
    double *latent = fixture_read(&c->expected, "latent", &count);
    double *want = fixture_read(&c->expected, "velocity", &count);
    double *got = calloc((size_t)count, sizeof *got);
    const WanInput input = { .batch = c->batch,
                             .grid = { (int64_t)grid[0], (int64_t)grid[1], (int64_t)grid[2] },
                             .latent = latent,
                             .timesteps = timesteps,
                             .ids = c->ids,
                             .lengths = c->lengths };

    wan_double_forward(&c->model, &input, got);
    assert_near(got, want, count);
    free(grid);
    free(timesteps);
    free(latent);
    free(got);
    free(want);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_encoder_equals_transformers),
        cmocka_unit_test(velocity_equals_diffusers),
    };
    return cmocka_run_group_tests(tests, case_open, case_close);
}
