/* The text encoder against the double-precision one, and its position buckets against the
 * published ones. */
#include "core/device.h"
#include "core/text/umt5.h"
#include "tests/model/double_math.h"
#include "tests/model/model_case.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void published_buckets(void **state)
{
    /* 32 buckets reaching to 128, as transformers' UMT5 computes them */
    const int32_t pairs[][2] = { { -200, 15 }, { -64, 14 }, { -20, 10 }, { -16, 10 }, { -9, 8 },
                                 { -8, 8 },    { -7, 7 },   { -1, 1 },   { 0, 0 },    { 1, 17 },
                                 { 7, 23 },    { 8, 24 },   { 9, 24 },   { 16, 26 },  { 20, 26 },
                                 { 64, 30 },   { 127, 31 }, { 511, 31 } };

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        assert_int_equal(umt5_bucket(pairs[i][0], 32, 128), pairs[i][1]);
}

static const double *find(void *context, Component component, const char *name)
{
    const ModelCase *c = context;
    const Param *p = params_find(&c->whole, component, name);
    return p ? c->wide + p->offset : NULL;
}

/* the production encoder's rows of the case's captions: (batch, max_length, d_model) */
static Status encode(const ModelCase *c, const Device *dev, float *out)
{
    const Mesh alone = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    const TextConfig *text = &c->config.text;
    Arena arena = { 0 };
    Arena scratch = { 0 };
    Weights weights = { 0 };
    Umt5Acts acts = { 0 };
    size_t scratch_bytes = 0;
    Status s = OK;

    TRY_TO(done, s, arena_create(&arena, "test", (size_t)8 << 20));
    TRY_TO(done, s, umt5_scratch(dev, text, c->batch, &scratch_bytes));
    TRY_TO(done, s, arena_create(&scratch, "scratch", scratch_bytes));
    TRY_TO(done, s,
           weights_bind(&c->whole, &c->config, &alone,
                        tensor_of(c->weights, F32, SHAPE(c->whole.local_elements)), &weights));
    TRY_TO(done, s, umt5_acts_alloc(&arena, text, c->batch, &acts));
    memcpy(acts.ids.data, c->ids, tensor_bytes(acts.ids));
    memcpy(acts.lengths.data, c->lengths, tensor_bytes(acts.lengths));
    TRY_TO(done, s, umt5_forward(dev, text, &weights, &acts, &scratch));
    memcpy(out, acts.out.data, tensor_bytes(acts.out));
done:
    weights_destroy(&weights);
    arena_destroy(&scratch);
    arena_destroy(&arena);
    return s;
}

static void rows_equal_the_double_encoder(void **state)
{
    const CaseSpec spec = { .layers = 1,
                            .heads = 2,
                            .head_dim = 8,
                            .ffn = 12,
                            .channels = 2,
                            .text_layers = 3,
                            .text_width = 14,
                            .max_length = 33,
                            .batch = 3,
                            .grid = { 1, 1, 1 },
                            .lengths = { 33, 1, 18 },
                            .seed = 11 };
    ModelCase c = model_case_create(&spec);
    const WanDouble model = { &c.config, find, &c };
    const int64_t sample = spec.max_length * spec.text_width;
    float *got = calloc((size_t)(c.batch * sample), sizeof *got);
    double *want = dm_new(sample);
    Device dev;

    (void)state;
    assert_int_equal(device_open(&dev, "cpu", NULL, 1, false), OK);
    if (encode(&c, &dev, got) != OK) fail_msg("%s", status_message());
    for (int64_t b = 0; b < c.batch; b++) {
        double worst = 0.0;
        wan_double_encode(&model, c.ids + b * spec.max_length, c.lengths[b], want);
        for (int64_t i = 0; i < sample; i++)
            worst = fmax(worst, fabs((double)got[b * sample + i] - want[i]));
        for (int64_t i = c.lengths[b] * spec.text_width; i < sample; i++)
            assert_true(got[b * sample + i] == 0.0f);
        /* rows have size 1; six sublayers, each about 10 roundings of 2^-24 and a condition number
         * of a few: 6 * 10 * 4 * 6e-8 ~ 1.4e-5 */
        if (!(worst < 1.5e-5)) fail_msg("caption %d: largest difference %g", (int)b, worst);
    }
    free(got);
    free(want);
    model_case_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_buckets),
        cmocka_unit_test(rows_equal_the_double_encoder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
