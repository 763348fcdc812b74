/* The counted arithmetic of the published models (spec 4.10). */
#include "core/model/flops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef struct Published {
    const char *preset;
    int64_t tokens;
    double petaflops;
} Published;

static void published_models_need_published_flops(void **state)
{
    /* 14B at 832x480 and 1280x720, 81 frames; 1.3B at 832x480. Three digits are published; the
     * embeddings and the head, which they leave out, are below 0.1 %. */
    const Published rows[] = {
        { "wan-14b", 32760, 1.68 },
        { "wan-14b", 75600, 6.52 },
        { "wan-1.3b", 32760, 0.283 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ModelConfig config;
        assert_int_equal(model_config_preset(rows[i].preset, &config), OK);
        const double counted = flops_transformer(&config.dit, rows[i].tokens, 512) * 1e-15;
        assert_true(fabs(counted / rows[i].petaflops - 1.0) < 0.005);
    }
}

/* The 14B model, a text of 512 rows: two products of 512 x 5120 x 5120 in each of 40 blocks, and
 * the text's embedding from 1024. */
static void a_denoise_step_leaves_out_what_is_made_once_a_prompt(void **state)
{
    const double kept = 40 * 2 * 512.0 * 5120 * 5120 + 512.0 * 5120 * (1024 + 5120);
    ModelConfig config;
    (void)state;
    assert_int_equal(model_config_preset("wan-14b", &config), OK);
    const double all = flops_transformer(&config.dit, 32760, 512);
    const double step = flops_denoise(&config.dit, 32760, 512);
    assert_true(fabs((all - step) / (2 * kept) - 1.0) < 1e-9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_models_need_published_flops),
        cmocka_unit_test(a_denoise_step_leaves_out_what_is_made_once_a_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
