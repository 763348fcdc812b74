/*
 * Weights stored as BF16: every linear op gives what the F32 values they stand for give, for sizes
 * below and above a tile and a panel, and an exact device refuses them.
 */
#include "core/base/rng.h"
#include "core/ops.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* rows, in, out: 1200 in is longer than a panel of 512 columns, 8300 out wider than the widest */
static const int64_t sizes[][3] = {
    { 1, 1, 1 }, { 3, 7, 5 }, { 17, 129, 33 }, { 300, 1200, 530 }, { 2, 3, 8300 }
};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void ok(Status status)
{
    if (status != OK) fail_msg("%s", status_message());
}

static Tensor made(DType dtype, int64_t rows, int64_t width)
{
    void *data = calloc((size_t)(rows * width), dtype_bytes(dtype));
    assert_non_null(data);
    return tensor_of(data, dtype, SHAPE(rows, width));
}

static Tensor noise(const Device *dev, uint64_t seed, int64_t rows, int64_t width)
{
    const Tensor t = made(F32, rows, width);
    ok(op_normal(dev, t, rng_make(seed, RNG_NOISE, 0), 0));
    return t;
}

/* Sums of up to `terms` products of order 1 in F32, in two orders. */
static void assert_near(Tensor got, Tensor want, int64_t terms)
{
    const double tolerance = 4.0 * (double)terms * ldexp(1.0, -24);
    for (int64_t i = 0; i < tensor_count(got); i++) {
        const double off = fabs((double)tensor_f32(got)[i] - (double)tensor_f32(want)[i]);
        if (!(off <= tolerance)) fail_msg("%lld: off by %g", (long long)i, off);
    }
}

static void bf16_weights_give_what_their_values_give(void **state)
{
    (void)state;
    Device dev;
    ok(device_open(&dev, "cpu", NULL, 2, false));
    for (int i = 0; i < SIZES; i++) {
        const int64_t rows = sizes[i][0], in = sizes[i][1], out = sizes[i][2];
        Tensor x = noise(&dev, 1, rows, in), w = noise(&dev, 2, out, in),
               b = noise(&dev, 3, 1, out);
        Tensor dy = noise(&dev, 4, rows, out), half = made(BF16, out, in);
        Tensor y[2] = { made(F32, rows, out), made(F32, rows, out) };
        Tensor dx[2] = { noise(&dev, 5, rows, in), noise(&dev, 5, rows, in) };
        ok(op_convert(&dev, half, w));
        ok(op_convert(&dev, w, half));
        const Tensor weights[2] = { w, half };
        for (int k = 0; k < 2; k++) {
            ok(op_linear(&dev, y[k], x, weights[k], tensor_reshape(b, SHAPE(out))));
            ok(op_linear_backward_input(&dev, dx[k], dy, weights[k], true));
        }
        assert_near(y[1], y[0], in);
        assert_near(dx[1], dx[0], out);
        const LinearPair pairs[2] = { { dy, w }, { dy, half } };
        for (int k = 0; k < 2; k++) {
            ok(op_linear_cut(&dev, y[k], x, weights[k], 1));
            ok(op_linear_cut_backward_input(&dev, dx[k], &pairs[k], 1, 1, false));
        }
        assert_near(y[1], y[0], in);
        assert_near(dx[1], dx[0], out);
        Tensor all[] = { x, w, b, dy, half, y[0], y[1], dx[0], dx[1] };
        for (size_t t = 0; t < sizeof all / sizeof all[0]; t++) free(all[t].data);
    }
}

static void exact_device_refuses_bf16_weights(void **state)
{
    (void)state;
    Device dev;
    float x[2] = { 0 }, y[2];
    uint16_t w[4] = { 0 };
    ok(device_open(&dev, "cpu", NULL, 1, true));
    assert_int_equal(op_linear(&dev, tensor_of(y, F32, SHAPE(1, 2)), tensor_of(x, F32, SHAPE(1, 2)),
                               tensor_of(w, BF16, SHAPE(2, 2)), tensor_none()),
                     ERR_DEVICE);
    assert_string_equal(status_message(), "op_linear: w is (2, 2) BF16, expected (2, 2) F32");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_weights_give_what_their_values_give),
        cmocka_unit_test(exact_device_refuses_bf16_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
