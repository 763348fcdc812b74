/*
 * The parameter list: the published models' sizes, diffusers' names, and initial values that do not
 * know the mesh.
 */
#include "core/formats/safetensors.h"
#include "core/model/params.h"
#include "core/model/weight_store.h"
#include "tests/model/model_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_tiny_random"

static const MeshShape alone = { .data = 1, .tensor = 1, .pipeline = 1, .context = 1 };

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

static int64_t elements(Shape shape)
{
    return tensor_count(tensor_of(NULL, F32, shape));
}

/* ---- sizes ---------------------------------------------------------------------------------- */

/* the transformer's part of a preset with umT5-XXL's width and the codec's channels */
static void check_total(const char *preset, int64_t channels, int64_t want, int64_t want_tensors)
{
    const Mesh mesh = mesh_of_rank(alone, 0);
    ModelConfig config;
    ParamList list;
    int64_t total = 0, tensors = 0;

    ok(model_config_preset(preset, &config));
    config.dit.text_dim = config.text.d_model = 4096;
    config.dit.in_channels = config.dit.out_channels = channels;
    ok(model_config_check(&config));
    ok(params_plan(&config, &mesh, &list));
    for (int64_t i = 0; i < list.count; i++) {
        if (list.items[i].component != COMPONENT_TRANSFORMER) continue;
        total += elements(list.items[i].shape);
        tensors++;
    }
    assert_int_equal(total, want);
    assert_int_equal(tensors, want_tensors);
    params_destroy(&list);
}

static void presets_have_the_published_sizes(void **state)
{
    (void)state;
    check_total("wan-1.3b", 16, 1418996800, 825);
    check_total("wan-14b", 16, 14288491584, 1095);
    check_total("wan-5b", 48, 4999787712, 825);
}

/* A table that is added is no matrix that multiplies: FLF2V's positions of image tokens. */
static void positions_stay_f32_and_do_not_decay(void **state)
{
    (void)state;
    const Mesh mesh = mesh_of_rank(alone, 0);
    ModelConfig config;
    ParamList list;
    bool found = false;

    ok(model_config_preset("tiny", &config));
    config.dit.image_dim = 1280;
    config.dit.image_rows = config.dit.pos_embed_seq_len = 514;
    ok(params_plan(&config, &mesh, &list));
    for (int64_t i = 0; i < list.count; i++) {
        const Param *p = &list.items[i];
        if (!strstr(p->name, "pos_embed")) continue;
        found = true;
        assert_int_equal(weight_store_dtype(p, BF16), F32);
        assert_false(p->decay || p->product);
        assert_int_equal(p->init, INIT_ZERO);
    }
    assert_true(found);
    params_destroy(&list);
}

static void distances_of_text_fit_their_buckets(void **state)
{
    (void)state;
    ModelConfig config;
    ok(model_config_preset("tiny", &config));
    config.text.relative_attention_max_distance = 9;
    ok(model_config_check(&config));
    config.text.relative_attention_max_distance = 8; /* log(8 / 8) would divide */
    assert_int_equal(model_config_check(&config), ERR_CONFIG);
    assert_non_null(strstr(status_message(), "above a quarter of the 32"));
}

/* ---- the list on every mesh ----------------------------------------------------------------- */

static const CaseSpec spec = { .layers = 3,
                               .heads = 4,
                               .head_dim = 8,
                               .ffn = 20,
                               .channels = 3,
                               .text_layers = 2,
                               .text_width = 11,
                               .max_length = 19,
                               .batch = 1,
                               .grid = { 1, 1, 1 },
                               .lengths = { 1 },
                               .seed = 4 };

static const MeshShape meshes[] = { { 1, 1, 1, 1, 0, 0 }, { 1, 2, 1, 1, 0, 0 },
                                    { 1, 4, 1, 1, 0, 0 }, { 1, 1, 2, 1, 0, 0 },
                                    { 1, 1, 3, 1, 0, 0 }, { 2, 2, 3, 1, 0, 0 },
                                    { 1, 4, 2, 1, 0, 0 }, { 1, 1, 2, 1, 0, 2 } };
enum { MESHES = sizeof meshes / sizeof meshes[0] };

/* a rank's buffer: aligned tensors that do not overlap, in buckets that leave nothing out */
static void check_layout(const ParamList *list)
{
    int64_t end = 0;
    int bucket = -1;

    assert_int_equal(list->bucket_first[0], 0);
    assert_int_equal(list->bucket_first[list->buckets], list->local_elements);
    for (int64_t i = 0; i < list->count; i++) {
        const Param *p = &list->items[i];
        if (!p->local) {
            assert_int_equal(p->offset, -1);
            assert_int_equal(p->bucket, -1);
            continue;
        }
        assert_int_equal(p->offset % 16, 0);
        assert_true(p->offset >= end);
        end = p->offset + elements(p->local_shape);
        assert_true(p->bucket == bucket || p->bucket == bucket + 1);
        bucket = p->bucket;
        assert_true(p->offset >= list->bucket_first[bucket]);
        assert_true(end <= list->bucket_first[bucket + 1]);
    }
    assert_true(end <= list->local_elements);
}

static void every_rank_lists_the_whole_model_and_owns_its_part(void **state)
{
    ModelCase c = model_case_create(&spec);

    (void)state;
    for (int m = 0; m < MESHES; m++) {
        const int ranks = meshes[m].data * meshes[m].tensor * meshes[m].pipeline;
        int64_t owned = 0;
        for (int rank = 0; rank < ranks; rank++) {
            const Mesh mesh = mesh_of_rank(meshes[m], rank);
            ParamList list;
            ok(params_plan(&c.config, &mesh, &list));
            check_layout(&list);
            assert_int_equal(list.count, c.whole.count);
            assert_int_equal(list.total, c.whole.total);
            for (int64_t i = 0; i < list.count; i++) {
                const Param *p = &list.items[i];
                assert_string_equal(p->name, c.whole.items[i].name);
                assert_memory_equal(&p->shape, &c.whole.items[i].shape, sizeof p->shape);
                /* what every tensor rank holds whole is counted on the first */
                if (p->local && mesh.dp == 0 && (p->cut >= 0 || mesh.tp == 0))
                    owned += elements(p->local_shape);
            }
            params_destroy(&list);
        }
        assert_int_equal(owned, c.whole.total);
    }
    model_case_destroy(&c);
}

/* ---- initial values ------------------------------------------------------------------------- */

/* the whole model's initial values, joined from all ranks of a mesh, in the layout of c->whole */
static double *init_on(const ModelCase *c, MeshShape shape, uint64_t seed)
{
    double *whole = calloc((size_t)c->whole.local_elements, sizeof *whole);

    assert_non_null(whole);
    for (int rank = 0; rank < (int)mesh_ranks(shape); rank++) {
        const Mesh mesh = mesh_of_rank(shape, rank);
        ParamList list;
        ok(params_plan(&c->config, &mesh, &list));
        float *flat = calloc((size_t)list.local_elements, sizeof *flat);
        assert_non_null(flat);
        ok(params_init(&list, &mesh, seed, tensor_of(flat, F32, SHAPE(list.local_elements))));
        model_case_join(c, &list, &mesh, flat, whole);
        free(flat);
        params_destroy(&list);
    }
    return whole;
}

static void initial_values_are_the_same_on_every_mesh(void **state)
{
    ModelCase c = model_case_create(&spec);
    double *want = init_on(&c, alone, 7);

    (void)state;
    for (int m = 1; m < MESHES; m++) {
        double *got = init_on(&c, meshes[m], 7);
        assert_memory_equal(got, want, (size_t)c.whole.local_elements * sizeof *want);
        free(got);
    }
    free(want);
    model_case_destroy(&c);
}

/* The standard deviation that a tensor starts with; 0: all elements are `*value`. */
static double deviation(const ModelCase *c, const Param *p, double *value)
{
    const ModelConfig *config = &c->config;
    const double rows = (double)p->shape.dims[0];
    const double columns = (double)elements(p->shape) / rows;
    const double width = (double)dit_width(&config->dit), text = (double)config->text.d_model;

    *value = 0.0;
    if (p->component == COMPONENT_TEXT_ENCODER) {
        if (strstr(p->name, "shared")) return 1.0;
        if (strstr(p->name, ".q.")) return 1.0 / sqrt(text * (double)config->text.d_kv);
        if (strstr(p->name, "relative")) return 1.0 / sqrt(text);
        if (p->shape.ndim == 2) return 1.0 / sqrt(columns);
    }
    if (strstr(p->name, "norm") && strstr(p->name, "weight")) *value = 1.0;
    if (p->shape.ndim == 1 || strstr(p->name, "proj_out")) return 0.0;
    if (strstr(p->name, "scale_shift_table")) return 1.0 / sqrt(width);
    if (strstr(p->name, "time_embedder")) return 0.02;
    return sqrt(2.0 / (rows + columns)); /* Xavier */
}

static void initial_values_have_their_deviations(void **state)
{
    ModelCase c = model_case_create(&spec);
    double *values = init_on(&c, alone, 7);

    (void)state;
    for (int64_t i = 0; i < c.whole.count; i++) {
        const Param *p = &c.whole.items[i];
        const int64_t count = elements(p->shape);
        const double *x = values + p->offset;
        double mean, squares = 0.0;
        const double want = deviation(&c, p, &mean);
        for (int64_t e = 0; e < count; e++) squares += (x[e] - mean) * (x[e] - mean);
        /* an estimate from n normal numbers is off by 1 / sqrt(2 n); four of those */
        const double got = sqrt(squares / (double)count);
        if (!(fabs(got - want) <= 4.0 * want / sqrt(2.0 * (double)count)))
            fail_msg("%s: deviation %g, expected %g", p->name, got, want);
    }
    free(values);
    model_case_destroy(&c);
}

static void seeds_and_tensors_differ(void **state)
{
    ModelCase c = model_case_create(&spec);
    double *a = init_on(&c, alone, 7), *b = init_on(&c, alone, 8);

    (void)state;
    const Param *q = params_find(&c.whole, COMPONENT_TRANSFORMER, "blocks.0.attn1.to_q.weight");
    const Param *k = params_find(&c.whole, COMPONENT_TRANSFORMER, "blocks.0.attn1.to_k.weight");
    const Param *q1 = params_find(&c.whole, COMPONENT_TRANSFORMER, "blocks.1.attn1.to_q.weight");
    assert_true(q && k && q1);
    int same = 0;
    for (int64_t e = 0; e < elements(q->shape); e++) {
        const double x = a[q->offset + e];
        same += (x == b[q->offset + e]) + (x == a[k->offset + e]) + (x == a[q1->offset + e]);
    }
    /* 3 * 1,024 pairs of 24-bit values: that one meets by chance is 2e-4 likely, two 2e-8 */
    assert_true(same <= 1);
    assert_null(params_find(&c.whole, COMPONENT_TEXT_ENCODER, "blocks.0.attn1.to_q.weight"));
    assert_null(params_find(&c.whole, COMPONENT_TRANSFORMER, "blocks.3.attn1.to_q.weight"));
    free(a);
    free(b);
    model_case_destroy(&c);
}

/* ---- names ---------------------------------------------------------------------------------- */

/* what tests/fixtures/make_wan.py let diffusers and transformers write */
static const ModelConfig fixture = {
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

static void check_names(const ParamList *list, Component component, const char *path)
{
    Safetensors *file = NULL;
    int64_t count = 0;

    ok(safetensors_open(path, &file));
    for (int64_t i = 0; i < list->count; i++) {
        const Param *p = &list->items[i];
        if (p->component != component) continue;
        const SafetensorsEntry *entry = safetensors_find(file, p->name);
        if (!entry) fail_msg("%s has no %s", path, p->name);
        assert_int_equal(entry->ndim, p->shape.ndim);
        for (int d = 0; d < entry->ndim; d++) assert_int_equal(entry->shape[d], p->shape.dims[d]);
        count++;
    }
    assert_int_equal(safetensors_count(file), count);
    safetensors_close(file);
}

static void names_and_shapes_are_those_of_diffusers_and_transformers(void **state)
{
    const Mesh mesh = mesh_of_rank(alone, 0);
    ParamList list;

    (void)state;
    ok(params_plan(&fixture, &mesh, &list));
    check_names(&list, COMPONENT_TRANSFORMER,
                FOLDER "/transformer/diffusion_pytorch_model.safetensors");
    check_names(&list, COMPONENT_TEXT_ENCODER, FOLDER "/text_encoder/model.safetensors");
    params_destroy(&list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_have_the_published_sizes),
        cmocka_unit_test(positions_stay_f32_and_do_not_decay),
        cmocka_unit_test(distances_of_text_fit_their_buckets),
        cmocka_unit_test(every_rank_lists_the_whole_model_and_owns_its_part),
        cmocka_unit_test(initial_values_are_the_same_on_every_mesh),
        cmocka_unit_test(initial_values_have_their_deviations),
        cmocka_unit_test(seeds_and_tensors_differ),
        cmocka_unit_test(names_and_shapes_are_those_of_diffusers_and_transformers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
