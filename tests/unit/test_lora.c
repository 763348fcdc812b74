/*
 * LoRA files of PEFT, diffusers, ComfyUI and musubi-tuner: the weights they lead to are those that
 * peft merges (tests/fixtures/make_wan_lora.py), whole and cut; what we write reads back; what does
 * not fit is named.
 */
#include "core/base/file.h"
#include "core/formats/lora.h"
#include "core/formats/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_lora/"

/* what the script builds */
static const ModelConfig config = {
    .dit = { .num_layers = 2,
             .num_attention_heads = 2,
             .attention_head_dim = 6,
             .ffn_dim = 16,
             .in_channels = 4,
             .out_channels = 2,
             .text_dim = 5,
             .freq_dim = 4,
             .image_dim = 3,
             .image_rows = 4,
             .patch_size = { 1, 2, 2 },
             .rope_max_seq_len = 16,
             .eps = 1e-6 },
};

static Device device;
static char root[FILE_PATH_BYTES];

/* One rank of `tensor`, with the base's weights. */
typedef struct Rank {
    Mesh mesh;
    ParamList params;
    Tensor flat;
} Rank;

static void must(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

static const char *at(const char *name)
{
    static char paths[3][FILE_PATH_BYTES];
    static int next;
    char *out = paths[next++ % 3];
    assert_int_equal(file_join(out, root, name), OK);
    return out;
}

static int set_up(void **state)
{
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)state;
    (void)snprintf(root, sizeof root, "%s/test_lora.XXXXXX", base);
    return mkdtemp(root) && device_open(&device, "cpu", NULL, 1, false) == OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK ? 0 : -1;
}

/* A parameter's slice that the rank holds, from a file of whole ones; false: it is not there. */
static bool read_param(const Safetensors *file, const Rank *r, const Param *p, float *out)
{
    const SafetensorsEntry *entry = safetensors_find(file, p->name);
    SafetensorsSlice slice = { .dim = p->cut };
    if (!entry) return false;
    if (p->cut >= 0) {
        slice.count = p->local_shape.dims[p->cut];
        slice.first = slice.count * r->mesh.tp;
    }
    must(safetensors_read(file, entry, slice, tensor_of(out, F32, p->local_shape)));
    return true;
}

static void rank_create(Rank *r, int tensor, int rank)
{
    Safetensors *file;
    *r = (Rank){ .mesh = mesh_of_rank(mesh_shape(1, tensor, 1, 1), rank) };
    must(params_plan(&config, &r->mesh, &r->params));
    float *values = calloc((size_t)r->params.local_elements, sizeof *values);
    assert_non_null(values);
    r->flat = tensor_of(values, F32, SHAPE(r->params.local_elements));
    must(safetensors_open(FOLDER "base.safetensors", &file));
    for (int64_t i = 0; i < r->params.count; i++) {
        const Param *p = &r->params.items[i];
        if (p->component != COMPONENT_TRANSFORMER) continue;
        assert_true(read_param(file, r, p, tensor_f32(params_view(p, r->flat))));
    }
    safetensors_close(file);
}

static void rank_destroy(Rank *r)
{
    free(r->flat.data);
    params_destroy(&r->params);
}

/* Every change into what the rank holds of its parameter. */
static void merge_all(Rank *r, const Lora *lora, double strength, Arena *scratch)
{
    for (int64_t i = 0; i < lora->count; i++) {
        const Param *p = lora->items[i].param;
        LoraSlice slice = { .dim = p->cut };
        if (!p->local) continue;
        if (p->cut >= 0) {
            slice.count = p->local_shape.dims[p->cut];
            slice.first = slice.count * r->mesh.tp;
        }
        must(lora_merge(&device, &lora->items[i], strength, slice, params_view(p, r->flat),
                        scratch));
    }
}

static void merge(Rank *r, const char *path, double strength)
{
    Arena scratch = { 0 };
    Lora lora;
    must(lora_read(path, &r->params, &lora));
    must(arena_create(&scratch, "merge", lora_scratch(&lora)));
    merge_all(r, &lora, strength, &scratch);
    arena_destroy(&scratch);
    lora_destroy(&lora);
}

/* Every parameter is the expected one, and those that are not expected are the base's. */
static double worst_difference(const Rank *r, const char *expected)
{
    Safetensors *want, *base;
    double worst = 0;
    int64_t changed = 0;

    must(safetensors_open(expected, &want));
    must(safetensors_open(FOLDER "base.safetensors", &base));
    for (int64_t i = 0; i < r->params.count; i++) {
        const Param *p = &r->params.items[i];
        float values[2048];
        if (p->component != COMPONENT_TRANSFORMER) continue;
        const Tensor is = params_view(p, r->flat);
        assert_true(tensor_count(is) <= 2048);
        if (read_param(want, r, p, values))
            changed++;
        else
            (void)read_param(base, r, p, values);
        for (int64_t k = 0; k < tensor_count(is); k++)
            worst = fmax(worst, fabs((double)tensor_f32(is)[k] - (double)values[k]));
    }
    assert_int_equal(changed, safetensors_count(want));
    safetensors_close(want);
    safetensors_close(base);
    return worst;
}

static const struct {
    const char *file, *expected;
} files[] = {
    { FOLDER "diffusers.safetensors", FOLDER "expected_diffusers.safetensors" },
    { FOLDER "pipeline.safetensors", FOLDER "expected_pipeline.safetensors" },
    { FOLDER "peft", FOLDER "expected_peft.safetensors" },
    { FOLDER "comfyui.safetensors", FOLDER "expected_comfyui.safetensors" },
    { FOLDER "musubi.safetensors", FOLDER "expected_musubi.safetensors" },
    { FOLDER "plain.safetensors", FOLDER "expected_plain.safetensors" },
};

enum { FILES = sizeof files / sizeof files[0] };

/* Weights and changes are below 8 in size, a change is a sum of 4 products at most, each rounded to
 * F32, and so is the expected value: (4 + 2) * 8 * 2^-24 ~ 2.9e-6 */
static const double tolerance = 2.9e-6;

static void merged_weights_are_those_of_peft(void **state)
{
    (void)state;
    for (int f = 0; f < FILES; f++) {
        for (int tensor = 1; tensor <= 2; tensor++) {
            double worst = 0;
            for (int rank = 0; rank < tensor; rank++) {
                Rank r;
                rank_create(&r, tensor, rank);
                merge(&r, files[f].file, 1);
                worst = fmax(worst, worst_difference(&r, files[f].expected));
                rank_destroy(&r);
            }
            print_message("%s, tensor %d: %.1e\n", files[f].file, tensor, worst);
            assert_true(worst <= tolerance);
        }
    }
}

/* What is added can be taken away. */
static void strength_scales_the_change(void **state)
{
    Rank r;
    (void)state;
    rank_create(&r, 1, 0);
    merge(&r, files[0].file, 0.25);
    merge(&r, files[0].file, 0.75);
    assert_true(worst_difference(&r, files[0].expected) <= 3 * tolerance);
    merge(&r, files[0].file, -1);
    for (int64_t i = 0; i < r.params.count; i++) assert_true(r.params.items[i].local);
    Rank base;
    rank_create(&base, 1, 0);
    for (int64_t i = 0; i < tensor_count(r.flat); i++)
        assert_true(fabsf(tensor_f32(r.flat)[i] - tensor_f32(base.flat)[i]) <=
                    5 * (float)tolerance);
    rank_destroy(&base);
    rank_destroy(&r);
}

/* ---- whole deltas, of every cut -------------------------------------------------------------- */

static void write_tensor(const char *path, const char *const *keys, const Shape *shapes, int count)
{
    SafetensorsSpec specs[4] = { 0 };
    SafetensorsWriter *writer;
    float values[512];
    for (int i = 0; i < 512; i++) values[i] = (float)i;
    for (int i = 0; i < count; i++) specs[i] = (SafetensorsSpec){ keys[i], F32, shapes[i] };
    must(safetensors_create(path, specs, count, NULL, &writer));
    for (int i = 0; i < count; i++)
        must(safetensors_write(writer, values, tensor_bytes(tensor_of(NULL, F32, shapes[i]))));
    must(safetensors_finish(writer, NULL, NULL));
}

static void whole_deltas_are_added_to_what_a_rank_holds(void **state)
{
    static const char *const keys[] = { "diffusion_model.blocks.0.ffn.2.diff",
                                        "diffusion_model.blocks.0.self_attn.q.diff",
                                        "diffusion_model.blocks.1.self_attn.norm_q.diff",
                                        "diffusion_model.head.modulation.diff" };
    const Shape shapes[] = { SHAPE(12, 16), SHAPE(12, 12), SHAPE(12), SHAPE(1, 2, 12) };
    static const char *const names[] = { "blocks.0.ffn.net.2.weight", "blocks.0.attn1.to_q.weight",
                                         "blocks.1.attn1.norm_q.weight", "scale_shift_table" };
    (void)state;
    write_tensor(at("delta.safetensors"), keys, shapes, 4);
    for (int rank = 0; rank < 2; rank++) {
        Rank before, after;
        rank_create(&before, 2, rank);
        rank_create(&after, 2, rank);
        merge(&after, at("delta.safetensors"), 2);
        for (int k = 0; k < 4; k++) {
            const Param *p = params_find(&after.params, COMPONENT_TRANSFORMER, names[k]);
            const Tensor is = params_view(p, after.flat), was = params_view(p, before.flat);
            const int64_t width = p->local_shape.dims[p->local_shape.ndim - 1];
            const int64_t whole = p->shape.dims[p->shape.ndim - 1];
            for (int64_t i = 0; i < tensor_count(is); i++) {
                /* place of the element in the whole, which is also its change */
                const int64_t row = i / width + (p->cut == 0 && p->shape.ndim > 1 ? 6 * rank : 0);
                const bool cut = p->cut == 1 || (p->cut == 0 && p->shape.ndim == 1);
                const int64_t column = i % width + (cut ? width * rank : 0);
                const float change = tensor_f32(is)[i] - tensor_f32(was)[i];
                assert_true(fabsf(change - 2 * (float)(row * whole + column)) < 1e-3F);
            }
        }
        rank_destroy(&before);
        rank_destroy(&after);
    }
}

/* ---- writing --------------------------------------------------------------------------------- */

static void what_is_written_reads_back(void **state)
{
    static const struct {
        LoraStyle style;
        const char *name;
    } rows[] = {
        { LORA_DIFFUSERS, "pytorch_lora_weights.safetensors" },
        { LORA_PEFT, "adapter_model.safetensors" },
        { LORA_ORIGINAL, "comfyui.safetensors" },
    };
    Rank r;
    Lora lora;

    (void)state;
    rank_create(&r, 1, 0);
    must(lora_read(files[0].file, &r.params, &lora)); /* of several ranks and alphas */
    for (int i = 0; i < 3; i++) {
        char file[FILE_PATH_BYTES];
        Rank again;
        must(file_join(file, root, rows[i].name));
        must(lora_write(file, rows[i].style, F32, lora.items, lora.count, &r.params));
        if (rows[i].style == LORA_PEFT)
            must(lora_write_config(at("adapter_config.json"), lora.items, lora.count));
        rank_create(&again, 1, 0);
        merge(&again, file, 1);
        /* alphas are rounded to F32 in one of them */
        assert_true(worst_difference(&again, files[0].expected) <= 2 * tolerance);
        rank_destroy(&again);
    }
    lora_destroy(&lora);
    rank_destroy(&r);
}

static void bf16_files_hold_the_nearest_values(void **state)
{
    Rank r;
    Lora lora, again;

    (void)state;
    rank_create(&r, 1, 0);
    must(lora_read(files[3].file, &r.params, &lora));
    /* without the biases, which are whole deltas */
    int64_t pairs = 0;
    for (int64_t i = 0; i < lora.count; i++)
        if (lora.items[i].rank > 0) lora.items[pairs++] = lora.items[i];
    must(lora_write(at("half.safetensors"), LORA_ORIGINAL, BF16, lora.items, pairs, &r.params));
    must(lora_read(at("half.safetensors"), &r.params, &again));
    assert_int_equal(again.count, pairs);
    for (int64_t i = 0; i < pairs; i++) {
        assert_ptr_equal(again.items[i].param, lora.items[i].param);
        assert_true(again.items[i].scale == lora.items[i].scale);
        for (int64_t k = 0; k < tensor_count(lora.items[i].a); k++) {
            const float a = tensor_f32(lora.items[i].a)[k], b = tensor_f32(again.items[i].a)[k];
            assert_true(fabsf(a - b) <= fabsf(a) / 256);
        }
    }
    lora_destroy(&again);
    lora_destroy(&lora);
    rank_destroy(&r);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void assert_refused(const char *path, const char *why)
{
    Rank r;
    Lora lora;
    rank_create(&r, 1, 0);
    assert_int_equal(lora_read(path, &r.params, &lora), ERR_FORMAT);
    if (!strstr(status_message(), why)) fail_msg("\"%s\" is not in: %s", why, status_message());
    rank_destroy(&r);
}

static void what_does_not_fit_is_named(void **state)
{
#define Q "blocks.0.attn1.to_q"
    static const struct {
        const char *keys[2];
        Shape shapes[2];
        const char *why;
    } rows[] = {
        { { Q ".lora_A.weight", NULL }, { { 2, { 3, 12 } } }, "to_q.lora_A.weight has no lora_B" },
        { { Q ".lora_up.weight", NULL },
          { { 2, { 12, 3 } } },
          "to_q.lora_up.weight has no lora_A" },
        { { Q ".lora_A.weight", Q ".lora_B.weight" },
          { { 2, { 3, 12 } }, { 2, { 12, 4 } } },
          "to_q.lora_A.weight has rank 3, " Q ".lora_B.weight has rank 4" },
        { { Q ".lora_A.weight", Q ".lora_B.weight" },
          { { 2, { 3, 13 } }, { 2, { 12, 3 } } },
          "to_q.lora_A.weight is [3, 13], which does not fit " Q ".weight (12, 12) F32" },
        { { Q ".lora_A.weight", Q ".lora_B.weight" },
          { { 2, { 3, 12 } }, { 2, { 16, 3 } } },
          "to_q.lora_B.weight is [16, 3], which does not fit" },
        { { Q ".alpha", NULL }, { { 1, { 1 } } }, "to_q.alpha has no lora_A and lora_B" },
        { { "blocks.2.attn1.to_q.lora_A.weight", NULL },
          { { 2, { 3, 12 } } },
          "blocks.2.attn1.to_q.lora_A.weight is of no parameter of this model" },
        { { "lora_te_text_model_q.lora_down.weight", NULL },
          { { 2, { 3, 12 } } },
          "lora_te_text_model_q.lora_down.weight is of no parameter of this model" },
        { { Q ".lora_magnitude_vector.weight", NULL },
          { { 1, { 12 } } },
          "to_q.lora_magnitude_vector.weight is no key of a LoRA file" },
        { { Q ".diff", NULL }, { { 2, { 12, 11 } } }, "to_q.diff is [12, 11], which does not fit" },
        { { "transformer." Q ".lora_A.weight",
            "diffusion_model.blocks.0.self_attn.q.lora_A.weight" },
          { { 2, { 3, 12 } }, { 2, { 3, 12 } } },
          "are the same" },
        { { "blocks.0.norm2.lora_A.weight", "blocks.0.norm2.lora_B.weight" },
          { { 2, { 1, 1 } }, { 2, { 12, 1 } } },
          "changes blocks.0.norm2.weight, which is no matrix" },
        { { "blocks.0.attn1.norm_q.diff_b", NULL },
          { { 1, { 12 } } },
          "changes the bias of blocks.0.attn1.norm_q.weight, which has none" },
    };
#undef Q
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_tensor(at("bad.safetensors"), rows[i].keys, rows[i].shapes, rows[i].keys[1] ? 2 : 1);
        assert_refused(at("bad.safetensors"), rows[i].why);
    }
}

/* PEFT's file with another configuration beside it. */
static void write_peft(const char *text)
{
    char *bytes;
    size_t length;

    must(file_make_folders(at("peft")));
    must(file_read(FOLDER "peft/adapter_model.safetensors", 1 << 20, &bytes, &length));
    must(file_write(at("peft/adapter_model.safetensors"), bytes, length));
    free(bytes);
    must(file_write(at("peft/adapter_config.json"), text, strlen(text)));
}

/* As in PEFT the first pattern that the end of a module's name is, from a dot on, decides. */
static void patterns_are_ends_of_names(void **state)
{
    static const struct {
        const char *name;
        double scale;
    } rows[] = {
        { "blocks.0.attn1.to_v.weight", 2 },        { "blocks.1.attn1.to_v.weight", 5 },
        { "blocks.0.attn2.to_v.weight", 1 },        { "blocks.1.attn2.to_v.weight", 1 },
        { "blocks.0.ffn.net.0.proj.weight", 0.25 }, { "blocks.1.ffn.net.0.proj.weight", 0.25 },
    };
    Rank r;
    Lora lora;

    (void)state;
    write_peft("{\"r\":4,\"lora_alpha\":4,\"alpha_pattern\":{\"o_v\":100,\"^attn1.to_v\":100,"
               "\"^blocks.1.attn1.to_v\":20,\"attn1.to_v\":8,\"proj\":1,\"net.0.proj\":100}}");
    rank_create(&r, 1, 0);
    must(lora_read(at("peft"), &r.params, &lora));
    for (int i = 0; i < 6; i++) {
        int found = 0;
        for (int64_t k = 0; k < lora.count; k++) {
            if (strcmp(lora.items[k].param->name, rows[i].name) != 0) continue;
            assert_true(lora.items[k].scale == rows[i].scale);
            found++;
        }
        assert_int_equal(found, 1);
    }
    lora_destroy(&lora);
    rank_destroy(&r);
}

static void configurations_of_other_methods_are_refused(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        { "{\"r\":4,\"lora_alpha\":3,\"use_dora\":true}", "\"use_dora\" is set" },
        { "{\"r\":4,\"lora_alpha\":3,\"peft_type\":\"LOHA\"}", "\"peft_type\" is LOHA" },
        { "{\"r\":4,\"lora_alpha\":3,\"bias\":\"all\"}", "\"bias\" is all" },
        { "{\"r\":4,\"lora_alpha\":3,\"modules_to_save\":[\"proj_out\"]}",
          "\"modules_to_save\" is" },
        { "{\"r\":5,\"lora_alpha\":3}", "rank 5, the tensors have 4" },
        { "{\"r\":4,\"lora_alpha\":3,\"rank_pattern\":{\"to_v\":2}}",
          "rank 2, the tensors have 4" },
        { "{\"r\":4,\"lora_alpha\":3,\"alpha_pattern\":{\".*to_v\":2}}",
          "is a regular expression" },
        { "{\"r\":4}", "lora_alpha" },
        { "[]", "is not a JSON object" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_peft(rows[i].text);
        assert_refused(at("peft"), rows[i].why);
    }
    must(file_make_folders(at("empty")));
    assert_refused(at("empty"), "holds neither adapter_model.safetensors nor");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merged_weights_are_those_of_peft),
        cmocka_unit_test(strength_scales_the_change),
        cmocka_unit_test(whole_deltas_are_added_to_what_a_rank_holds),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(bf16_files_hold_the_nearest_values),
        cmocka_unit_test(what_does_not_fit_is_named),
        cmocka_unit_test(patterns_are_ends_of_names),
        cmocka_unit_test(configurations_of_other_methods_are_refused),
    };
    return cmocka_run_group_tests_name("lora", tests, set_up, tear_down);
}
