/*
 * Both models against PyTorch: a small random WanTransformer3DModel (diffusers) and
 * UMT5EncoderModel (transformers), computed in double by tests/fixtures/make_wan.py. The
 * double-precision model reads the files in its own way; the production model loads the folder as
 * any user's.
 */
#include "core/formats/model_dir.h"
#include "core/model/dit.h"
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
typedef struct StoredWeights {
    Fixture files[COMPONENT_COUNT];
    char names[MAX_LOADED][96];
    double *values[MAX_LOADED];
    Component components[MAX_LOADED];
    int count;
} StoredWeights;

static const double *weights_find(void *context, Component component, const char *name)
{
    StoredWeights *w = context;
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
    StoredWeights weights;
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

/* ---- the production model ------------------------------------------------------------------- */

typedef struct Loaded {
    Device dev;
    Group alone;
    MeshGroups groups;
    Dit dit;
    Arena weights, scratch;
    DitSlot slot;
} Loaded;

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

/* The folder's weights, and room for one forward of `shape`. */
static void loaded_create(Loaded *l, DitShape shape)
{
    Tensor flat;
    size_t scratch = 0;

    *l = (Loaded){ .alone = group_self() };
    l->groups = mesh_groups_alone(&l->alone);
    ok(device_open(&l->dev, "cpu", NULL, 1, false));
    ok(dit_create(&l->dev, &config, &l->groups, RECOMPUTE_NONE, 0, &l->dit));
    const int64_t n = l->dit.params.local_elements;
    ok(arena_create(&l->weights, "weights", (size_t)n * sizeof(float)));
    ok(tensor_alloc(&l->weights, F32, SHAPE(n), "weights", &flat));
    ok(model_dir_load_params(FOLDER, "transformer", &l->dit.params, &l->groups.mesh, flat));
    ok(model_dir_load_params(FOLDER, "text_encoder", &l->dit.params, &l->groups.mesh, flat));
    ok(dit_bind(&l->dit, flat, tensor_none()));
    const DitSlotOptions slot = { .shapes = &shape, .count = 1 };
    ok(dit_slot_create(&l->dit, &slot, &l->slot));
    ok(dit_slot_shape(&l->dit, &l->slot, shape));
    ok(dit_scratch(&l->dit, shape, false, &scratch));
    ok(arena_create(&l->scratch, "scratch", scratch));
}

static void loaded_destroy(Loaded *l)
{
    dit_slot_destroy(&l->slot);
    arena_destroy(&l->scratch);
    arena_destroy(&l->weights);
    dit_destroy(&l->dit);
}

/* Fills an F32 tensor. */
static void fill(Tensor t, const double *values, int64_t count)
{
    assert_int_equal(tensor_count(t), count);
    for (int64_t i = 0; i < count; i++) tensor_f32(t)[i] = (float)values[i];
}

/* |got - want| / |want| */
static double relative(Tensor got, const double *want)
{
    double squares = 0.0, size = 0.0;

    for (int64_t i = 0; i < tensor_count(got); i++) {
        const double off = (double)tensor_f32(got)[i] - want[i];
        squares += off * off;
        size += want[i] * want[i];
    }
    return sqrt(squares / size);
}

static void folder_of_diffusers_loads_and_runs(void **state)
{
    const Case *c = *state;
    int64_t count = 0, latents = 0;
    double *grid = fixture_read(&c->expected, "grid", &count);
    double *timesteps = fixture_read(&c->expected, "timesteps", &count);
    double *latent = fixture_read(&c->expected, "latent", &latents);
    double *encoded = fixture_read(&c->expected, "encoded", &count);
    double *velocity = fixture_read(&c->expected, "velocity", &count);
    Loaded l;

    loaded_create(&l, dit_shape(c->batch, (int64_t)grid[0], (int64_t)grid[1], (int64_t)grid[2]));
    fill(l.slot.x_t, latent, latents);
    fill(l.slot.t, timesteps, c->batch);
    memcpy(l.slot.text.ids.data, c->ids, tensor_bytes(l.slot.text.ids));
    for (int64_t b = 0; b < c->batch; b++)
        ((int32_t *)l.slot.text.lengths.data)[b] = (int32_t)c->lengths[b];
    ok(dit_encode_text(&l.dit, &l.slot, &l.scratch));
    const double text = relative(l.slot.text.out, encoded);
    ok(dit_forward(&l.dit, &l.slot, tensor_none(), tensor_none(), &l.scratch));
    assert_int_equal(tensor_count(l.slot.v), count);
    const double differs = relative(l.slot.v, velocity);

    print_message("text differs by %.1e, velocity by %.1e\n", text, differs);
    /* F32: as derived in test_model.c, 2.4e-6 a layer, and two for both ends; the file's latents
     * and timesteps are exact in F32 */
    const double tolerance = 2.4e-6 * (double)(config.dit.num_layers + 2);
    assert_true(text < 2.4e-6 * (double)(config.text.num_layers + 1));
    assert_true(differs < tolerance);
    loaded_destroy(&l);
    free(grid);
    free(timesteps);
    free(latent);
    free(encoded);
    free(velocity);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_encoder_equals_transformers),
        cmocka_unit_test(velocity_equals_diffusers),
        cmocka_unit_test(folder_of_diffusers_loads_and_runs),
    };
    return cmocka_run_group_tests(tests, case_open, case_close);
}
