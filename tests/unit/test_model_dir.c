/* model_dir: configurations both ways, weights slice by slice, and which checkpoint is taken. */
#include "core/base/file.h"
#include "core/formats/manifest.h"
#include "core/formats/component_config.h"
#include "core/formats/model_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define FIXTURE "tests/fixtures/wan_tiny_random"

static char root[FILE_PATH_BYTES];

static const char *at(const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    assert_int_equal(file_join(path, root, name), OK);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    (void)snprintf(root, sizeof root, "%s/test_model_dir.XXXXXX", base);
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(root) == OK ? 0 : -1;
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write(path, text, strlen(text)), OK);
}

static void assert_says(Status s, Status expected, const char *part)
{
    if (s != expected || !strstr(status_message(), part))
        fail_msg("status %d, \"%s\"; expected %d, \"%s\"", s, status_message(), expected, part);
}

/* The sizes of tests/fixtures/wan_tiny_random, which diffusers and transformers wrote. */
static ModelConfig fixture_config(void)
{
    return (ModelConfig){ .dit = { .num_layers = 2,
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
                                    .max_length = 512,
                                    .layer_norm_epsilon = 1e-6 } };
}

/* --- configurations --- */

static void configurations_are_read_back(void **state)
{
    (void)state;
    static const char *const presets[] = { "tiny", "small", "wan-14b" };
    for (size_t i = 0; i < 3; i++) {
        ModelDir written = { .text = TEXT_BYTES, .shift = 3.0 }, read;
        assert_int_equal(model_config_preset(presets[i], &written.config), OK);
        assert_int_equal(model_dir_write(at("m"), &written, true), OK);
        assert_int_equal(model_dir_read(at("m"), &read), OK);
        assert_memory_equal(&read, &written, sizeof read);
        assert_int_equal(model_config_compare("m", &read.config, &written.config), OK);
        assert_int_equal(file_kind(at("m/transformer_ema/config.json")), FILE_REGULAR);
        assert_int_equal(file_kind(at("m/tokenizer/tokenizer_config.json")), FILE_REGULAR);
        read.config.dit.ffn_dim++;
        assert_says(model_config_compare("m", &read.config, &written.config), ERR_CONFIG,
                    "ffn_dim");
    }
}

/* The real files' keys, without those that old ones lack and with some that nobody knows. */
static void public_configurations_are_understood(void **state)
{
    (void)state;
    ModelDir model;
    assert_int_equal(file_make_folders(at("p/transformer")), OK);
    assert_int_equal(file_make_folders(at("p/scheduler")), OK);
    write_text(
        at("p/model_index.json"),
        "{\"_class_name\":\"WanPipeline\",\"_diffusers_version\":\"0.33.0.dev0\","
        "\"transformer\":[\"diffusers\",\"WanTransformer3DModel\"],"
        "\"transformer_2\":[null,null],\"text_encoder\":[null,null],\"boundary_ratio\":null}");
    write_text(at("p/transformer/config.json"),
               "{\"_class_name\":\"WanTransformer3DModel\",\"added_kv_proj_dim\":null,"
               "\"attention_head_dim\":128,\"cross_attn_norm\":true,\"eps\":1e-06,\"ffn_dim\":8960,"
               "\"freq_dim\":256,\"in_channels\":16,\"num_attention_heads\":12,\"num_layers\":30,"
               "\"out_channels\":16,\"patch_size\":[1,2,2],\"qk_norm\":\"rms_norm_across_heads\","
               "\"text_dim\":4096,\"some_new_key\":{\"a\":[1]}}");
    write_text(at("p/scheduler/scheduler_config.json"),
               "{\"_class_name\":\"UniPCMultistepScheduler\",\"flow_shift\":3.0,"
               "\"prediction_type\":\"flow_prediction\",\"use_flow_sigmas\":true}");
    assert_int_equal(model_dir_read(at("p"), &model), OK);
    assert_int_equal(model.config.dit.num_layers, 30);
    assert_int_equal(model.config.dit.rope_max_seq_len, 1024);
    assert_int_equal(model.config.text.num_layers, 0);
    assert_true(model.shift == 3.0);

    write_text(at("p/transformer/config.json"), "{\"num_layers\":\"many\"}");
    assert_says(model_dir_read(at("p"), &model), ERR_FORMAT,
                "p/transformer/config.json: \"num_layers\" is \"many\"");
    write_text(
        at("p/transformer/config.json"),
        "{\"num_layers\":2,\"num_attention_heads\":2,\"attention_head_dim\":12,\"ffn_dim\":8,"
        "\"in_channels\":36,\"out_channels\":16,\"text_dim\":8,\"image_dim\":1280,"
        "\"added_kv_proj_dim\":25}");
    assert_says(model_dir_read(at("p"), &model), ERR_FORMAT,
                "\"added_kv_proj_dim\" is 25; with \"image_dim\" 1280 it must be 24");
    write_text(at("p/transformer/config.json"), "{\"qk_norm\":\"layer\"}");
    assert_says(model_dir_read(at("p"), &model), ERR_FORMAT, "only \"rms_norm_across_heads\"");
    write_text(at("p/model_index.json"), "{\"transformer\":[\"diffusers\",\"OtherModel\"]}");
    assert_says(model_dir_read(at("p"), &model), ERR_FORMAT, "OtherModel");
    write_text(at("p/model_index.json"),
               "{\"transformer\":[\"diffusers\",\"WanTransformer3DModel\"],"
               "\"transformer_2\":[\"diffusers\",\"WanTransformer3DModel\"]}");
    assert_says(model_dir_read(at("p"), &model), ERR_FORMAT, "no \"boundary_ratio\"");
    write_text(at("p/model_index.json"), "{\"_class_name\":\"FluxPipeline\"}");
    assert_says(model_dir_read(at("p"), &model), ERR_FORMAT, "\"_class_name\" is FluxPipeline");
    assert_says(model_dir_read(at("absent"), &model), ERR_IO, "absent: is not a folder");
}

/* --- weights --- */

static void plan(MeshShape shape, int rank, ParamList *list, Mesh *mesh, Tensor *flat)
{
    const ModelConfig config = fixture_config();
    *mesh = mesh_of_rank(shape, rank);
    assert_int_equal(params_plan(&config, mesh, list), OK);
    *flat = tensor_of(calloc((size_t)list->local_elements, 4), F32, SHAPE(list->local_elements));
}

/* What every rank of every mesh reads are the slices of what one rank reads. */
static void files_of_diffusers_are_read_on_any_mesh(void **state)
{
    (void)state;
    static const MeshShape shapes[] = { { 1, 2, 1, 1, 0, 0 },
                                        { 1, 1, 2, 1, 0, 0 },
                                        { 2, 2, 2, 1, 0, 0 } };
    static const char *const folders[] = { "transformer", "text_encoder" };
    ParamList all;
    Mesh one;
    Tensor whole;
    plan(mesh_shape(1, 1, 1, 1), 0, &all, &one, &whole);
    for (int f = 0; f < 2; f++)
        assert_int_equal(model_dir_load_params(FIXTURE, folders[f], &all, &one, whole), OK);

    for (size_t k = 0; k < 3; k++) {
        const int ranks = shapes[k].data * shapes[k].tensor * shapes[k].pipeline;
        for (int rank = 0; rank < ranks; rank++) {
            ParamList list;
            Mesh mesh;
            Tensor flat;
            plan(shapes[k], rank, &list, &mesh, &flat);
            for (int f = 0; f < 2; f++)
                assert_int_equal(model_dir_load_params(FIXTURE, folders[f], &list, &mesh, flat),
                                 OK);
            for (int64_t i = 0; i < list.count; i++) {
                const Param *p = &list.items[i];
                if (!p->local) continue;
                const float *got = tensor_f32(params_view(p, flat));
                const float *from = tensor_f32(params_view(&all.items[i], whole));
                int64_t outer = 1, inner = 1, size = 1;
                for (int d = 0; d < p->shape.ndim; d++) {
                    if (d < p->cut) outer *= p->shape.dims[d];
                    if (d > p->cut) inner *= p->shape.dims[d];
                }
                if (p->cut >= 0) size = p->shape.dims[p->cut];
                const int64_t mine = p->cut >= 0 ? size / mesh.shape.tensor * inner : inner;
                const int64_t first = p->cut >= 0 ? mine * mesh.tp : 0;
                for (int64_t o = 0; o < outer; o++)
                    assert_memory_equal(got + o * mine, from + o * size * inner + first,
                                        (size_t)mine * 4);
            }
            params_destroy(&list);
            free(flat.data);
        }
    }
    params_destroy(&all);
    free(whole.data);
}

/* Writes the transformer's tensors as files of ours: `change` -1 leaves out the first, +1 adds one,
 * +2 gives the second another shape, +3 puts a NaN into the last. */
static void write_transformer(const ParamList *list, int change)
{
    SafetensorsSpec specs[200];
    SafetensorsWriter *w = NULL;
    int64_t count = 0, elements = 0;
    for (int64_t i = change == -1 ? 1 : 0; i < list->count; i++) {
        if (list->items[i].component != COMPONENT_TRANSFORMER) continue;
        specs[count++] = (SafetensorsSpec){ list->items[i].name, F32, list->items[i].shape };
    }
    if (change == 1) specs[count++] = (SafetensorsSpec){ "surplus.weight", F32, SHAPE(2) };
    if (change == 2) specs[1].shape = SHAPE(3, 4);
    for (int64_t i = 0; i < count; i++)
        elements += tensor_count(tensor_of(NULL, F32, specs[i].shape));
    float *zeros = calloc((size_t)elements, sizeof *zeros);
    if (change == 3) zeros[elements - 1] = __builtin_nanf("");
    assert_int_equal(file_make_folders(at("w/transformer")), OK);
    assert_int_equal(safetensors_create(at("w/transformer/diffusion_pytorch_model.safetensors"),
                                        specs, count, NULL, &w),
                     OK);
    assert_int_equal(safetensors_write(w, zeros, (size_t)elements * sizeof *zeros), OK);
    assert_int_equal(safetensors_finish(w, NULL, NULL), OK);
    free(zeros);
}

static void what_does_not_fit_the_model_is_named(void **state)
{
    (void)state;
    static const struct {
        int change;
        const char *message;
    } rows[] = {
        { -1, "tensor patch_embedding.weight is missing" },
        { 1, "tensor surplus.weight is not one of the model's" },
        { 2, "tensor patch_embedding.bias is [3, 4], the model needs (32) F32" },
        { 3, "tensor proj_out.bias holds a value that is not finite" },
    };
    ParamList list;
    Mesh mesh;
    Tensor flat;
    plan(mesh_shape(1, 1, 1, 1), 0, &list, &mesh, &flat);
    assert_false(model_dir_has(at("w"), "transformer"));
    assert_says(model_dir_load_params(at("w"), "transformer", &list, &mesh, flat), ERR_FORMAT,
                "diffusion_pytorch_model.safetensors: is missing");
    write_transformer(&list, 0);
    assert_true(model_dir_has(at("w"), "transformer"));
    assert_false(model_dir_has(at("w"), "transformer_ema"));
    assert_int_equal(model_dir_load_params(at("w"), "transformer", &list, &mesh, flat), OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        write_transformer(&list, rows[i].change);
        assert_says(model_dir_load_params(at("w"), "transformer", &list, &mesh, flat), ERR_FORMAT,
                    rows[i].message);
    }
    params_destroy(&list);
    free(flat.data);
}

/* --- manifests and which checkpoint is taken --- */

static void make_checkpoint(const char *name)
{
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    Manifest manifest;
    (void)snprintf(folder, sizeof folder, "%s", at(name));
    assert_int_equal(file_make_folders(folder), OK);
    assert_int_equal(file_join(path, folder, "sub"), OK);
    assert_int_equal(file_make_folders(path), OK);
    assert_int_equal(file_join(path, folder, "sub/data"), OK);
    write_text(path, "some bytes");
    assert_int_equal(file_join(path, folder, "model_index.json"), OK);
    write_text(path, "{}");
    assert_int_equal(manifest_make(folder, NULL, &manifest), OK);
    assert_int_equal(manifest.count, 2);
    assert_int_equal(manifest_write(folder, &manifest), OK);
    manifest_destroy(&manifest);
}

static void any_damage_to_a_folder_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *file, *text, *message;
    } rows[] = {
        { "c/sub/data", "same bytes", "c/sub/data: is damaged" },
        { "c/sub/data", "some byte", "c/sub/data: has 9 bytes, 10 were written" },
        { "c/sub/more", "", "c/sub/more: is not in the manifest" },
        { "c/manifest.json", "{}", "\"format\" is missing" },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(file_remove_tree(at("c")), OK);
        make_checkpoint("c");
        assert_int_equal(manifest_verify(at("c"), NULL), OK);
        write_text(at(rows[i].file), rows[i].text);
        assert_says(manifest_verify(at("c"), NULL), ERR_FORMAT, rows[i].message);
    }
    assert_int_equal(file_remove_tree(at("c")), OK);
    make_checkpoint("c");
    assert_int_equal(file_remove_tree(at("c/sub/data")), OK);
    assert_says(manifest_verify(at("c"), NULL), ERR_FORMAT,
                "sub/data: is in the manifest and missing");
}

static void every_changed_byte_of_a_manifest_is_seen(void **state)
{
    (void)state;
    char *text = NULL, why[1024];
    size_t length = 0;
    Digest before, after;
    assert_int_equal(file_remove_tree(at("c")), OK);
    make_checkpoint("c");
    assert_int_equal(manifest_verify(at("c"), &before), OK);
    assert_int_equal(file_read(at("c/manifest.json"), 1 << 20, &text, &length), OK);
    for (size_t i = 0; i < length; i++) {
        /* white space may become other white space; nothing else may pass */
        if (text[i] == ' ' || text[i] == '\n') continue;
        text[i] ^= 1;
        assert_int_equal(file_write(at("c/manifest.json"), text, length), OK);
        const Status s = manifest_verify(at("c"), &after);
        (void)snprintf(why, sizeof why, "byte %zu became '%c'", i, text[i]);
        if (s == OK) fail_msg("passed: %s", why);
        text[i] ^= 1;
    }
    free(text);
}

static void the_newest_whole_checkpoint_is_taken(void **state)
{
    (void)state;
    char taken[FILE_PATH_BYTES];
    make_checkpoint("run/checkpoints/step-00000100");
    make_checkpoint("run/checkpoints/step-00000200");
    make_checkpoint("run/checkpoints/step-00000300.partial");
    assert_int_equal(file_make_folders(at("run/checkpoints/step-00000400.old")), OK);
    assert_int_equal(model_dir_resolve(at("run"), taken), OK);
    assert_string_equal(file_name(taken), "step-00000200");
    write_text(at("run/checkpoints/step-00000200/sub/data"), "same bytes");
    assert_int_equal(model_dir_resolve(at("run"), taken), OK);
    assert_string_equal(file_name(taken), "step-00000100");
    write_text(at("run/checkpoints/step-00000100/sub/data"), "same bytes");
    assert_says(model_dir_resolve(at("run"), taken), ERR_FORMAT,
                "none of its 2 checkpoints is whole");

    assert_int_equal(model_dir_resolve(at("run/checkpoints/step-00000100"), taken), OK);
    assert_string_equal(file_name(taken), "step-00000100");
    assert_int_equal(file_make_folders(at("empty")), OK);
    assert_says(model_dir_resolve(at("empty"), taken), ERR_FORMAT, "neither model_index.json");
    assert_says(model_dir_resolve(at("absent"), taken), ERR_IO, "no such folder");
}

/* Pruning removes by step: under a second name the newest would be taken for an older one. */
static void a_step_has_one_name(void **state)
{
    (void)state;
    static const char *const others[] = { "step-000000100", "step-0100", "step-00000100.old",
                                          "step-100000000000000000" };
    char name[64];
    int64_t *steps, count;
    make_checkpoint("names/checkpoints/step-00000100");
    make_checkpoint("names/checkpoints/step-123456789");
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        (void)snprintf(name, sizeof name, "names/checkpoints/%s", others[i]);
        make_checkpoint(name);
    }
    assert_int_equal(model_dir_steps(at("names"), &steps, &count), OK);
    assert_int_equal(count, 2);
    assert_int_equal(steps[0], 123456789);
    assert_int_equal(steps[1], 100);
    free(steps);
}

static void a_path_that_cannot_be_looked_at_is_not_taken_for_absent(void **state)
{
    (void)state;
    char taken[FILE_PATH_BYTES];
    make_checkpoint("loop/checkpoints/step-00000100");
    assert_int_equal(symlink("model_index.json", at("loop/model_index.json")), 0);
    assert_says(model_dir_resolve(at("loop"), taken), ERR_IO, "model_index.json: stat: ");
    assert_int_equal(symlink("round", at("round")), 0);
    assert_says(model_dir_resolve(at("round"), taken), ERR_IO, "round: stat: ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configurations_are_read_back),
        cmocka_unit_test(public_configurations_are_understood),
        cmocka_unit_test(files_of_diffusers_are_read_on_any_mesh),
        cmocka_unit_test(what_does_not_fit_the_model_is_named),
        cmocka_unit_test(any_damage_to_a_folder_is_named),
        cmocka_unit_test(every_changed_byte_of_a_manifest_is_seen),
        cmocka_unit_test(the_newest_whole_checkpoint_is_taken),
        cmocka_unit_test(a_step_has_one_name),
        cmocka_unit_test(a_path_that_cannot_be_looked_at_is_not_taken_for_absent),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
