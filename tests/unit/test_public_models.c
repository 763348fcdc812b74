/*
 * The published models' folders (tests/fixtures/wan_public, configurations alone): each is read,
 * has the published number of parameters and tensors, and is sampled as its makers recommend.
 */
#include "core/codec/wan_layers.h"
#include "core/codec/wan_vae.h"
#include "core/formats/model_dir.h"
#include "infer/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define FOLDER "tests/fixtures/wan_public"

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

/* spec 1 and 12. parameters, tensors: of one transformer. */
typedef struct Public {
    const char *name;
    int64_t parameters, tensors;
    double boundary;
    int64_t in, out, image_rows, stride;
    int64_t steps;
    double guidance, low, shift;
    OptionSize size;
    int64_t frames;
    double fps;
} Public;

// clang-format off
static const Public models[] = {
    { "Wan2.1-T2V-1.3B", 1418996800, 825, 0, 16, 16, 0, 8,
      50, 5, 0, 5, { 832, 480 }, 81, 16 },
    { "Wan2.1-T2V-14B", 14288491584, 1095, 0, 16, 16, 0, 8,
      50, 5, 0, 5, { 1280, 720 }, 81, 16 },
    { "Wan2.1-I2V-14B", 16394878784, 1303, 0, 36, 16, 257, 8,
      40, 5, 0, 5, { 1280, 720 }, 81, 16 },
    { "Wan2.1-FLF2V-14B", 16395536704, 1304, 0, 36, 16, 514, 8,
      50, 5, 0, 16, { 1280, 720 }, 81, 16 },
    { "Wan2.2-T2V-A14B", 14288491584, 1095, 0.875, 16, 16, 0, 8,
      40, 4, 3, 12, { 1280, 720 }, 81, 16 },
    { "Wan2.2-I2V-A14B", 14288901184, 1095, 0.9, 36, 16, 0, 8,
      40, 3.5, 3.5, 5, { 1280, 720 }, 81, 16 },
    { "Wan2.2-TI2V-5B", 4999787712, 825, 0, 48, 48, 0, 16,
      50, 5, 0, 5, { 1280, 704 }, 121, 24 },
};
// clang-format on

enum { MODELS = sizeof models / sizeof models[0] };

static void path_of(const Public *p, char out[256])
{
    (void)snprintf(out, 256, FOLDER "/%s", p->name);
}

static void read_model(const Public *p, ModelDir *out)
{
    char path[256];
    path_of(p, path);
    ok(model_dir_read(path, out));
}

static void every_folder_is_read(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const Public *p = &models[i];
        ModelDir model;
        read_model(p, &model);
        assert_int_equal(model.text, TEXT_UMT5);
        assert_true(model.wan_vae);
        assert_int_equal(model.solver, SOLVER_UNIPC);
        assert_true(model.boundary == p->boundary);
        assert_int_equal(model.config.dit.in_channels, p->in);
        assert_int_equal(model.config.dit.out_channels, p->out);
        assert_int_equal(model.config.dit.image_rows, p->image_rows);
        assert_int_equal(model.image_encoder, p->image_rows > 0);
        assert_int_equal(model.given_frame, p->stride == 16);
    }
}

static void transformers_have_the_published_sizes(void **state)
{
    (void)state;
    const Mesh mesh = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    for (int i = 0; i < MODELS; i++) {
        ModelDir model;
        ParamList list;
        read_model(&models[i], &model);
        ok(params_plan(&model.config, &mesh, &list));
        assert_int_equal(list.total, models[i].parameters);
        assert_int_equal(list.count, models[i].tensors);
        params_destroy(&list);
    }
}

static void text_encoders_have_the_published_size(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        char path[256];
        TextConfig config;
        ParamList list;
        path_of(&models[i], path);
        ok(model_dir_read_text(path, &config));
        ok(params_plan_text(&config, &list));
        assert_int_equal(list.total, 5680910336);
        assert_int_equal(list.count, 242);
        assert_int_equal(config.max_length, FROZEN_TEXT_ROWS);
        params_destroy(&list);
    }
}

static void vaes_have_the_published_sizes(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        char path[300];
        WanConfig config;
        int64_t tensors, values;
        (void)snprintf(path, sizeof path, FOLDER "/%s/vae/config.json", models[i].name);
        ok(wan_config_read(path, &config));
        wan_vae_count(&config, &tensors, &values);
        assert_int_equal(wan_stride(&config), models[i].stride);
        assert_int_equal(config.z_dim, models[i].out);
        assert_int_equal(values, models[i].stride == 8 ? 126892531 : 704688668);
        assert_int_equal(tensors, models[i].stride == 8 ? 194 : 196);
    }
}

static void settings_are_the_recommended_ones(void **state)
{
    (void)state;
    for (int i = 0; i < MODELS; i++) {
        const Public *p = &models[i];
        ModelDir model;
        read_model(p, &model);
        const ModelDefaults *d = model_defaults(&model);
        assert_string_equal(d->kind, p->name);
        assert_int_equal(d->steps, p->steps);
        assert_true(d->guidance == p->guidance && d->guidance_low == p->low);
        assert_true(d->shift == p->shift && d->fps == p->fps);
        assert_int_equal(d->size.width, p->size.width);
        assert_int_equal(d->size.height, p->size.height);
        assert_int_equal(d->frames, p->frames);
        assert_non_null(d->negative);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_folder_is_read),
        cmocka_unit_test(transformers_have_the_published_sizes),
        cmocka_unit_test(text_encoders_have_the_published_size),
        cmocka_unit_test(vaes_have_the_published_sizes),
        cmocka_unit_test(settings_are_the_recommended_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
