/* What ops and devices refuse, and the ops whose promise is exact: conversion and random numbers.
 */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpu/vector_math.h"
#include "tests/ops/trial.h"

static Device open_best(void)
{
    Device dev;
    assert_int_equal(device_open(&dev, "cpu", NULL, 2, false), OK);
    return dev;
}

/* ---- shapes --------------------------------------------------------------------------------- */

/* Whether the op itself sees the tensor: some calls copy it first, or hand over a number. */
static bool is_seen(const Case *row, const char *letters, bool is_gradient, int i)
{
    if (strcmp(letters, "1") == 0 || strcmp(row->name, "zero_tail") == 0) return false;
    if (strcmp(row->name, "squared_error") == 0 && !is_gradient) return false;
    return !(strcmp(row->name, "gate_residual") == 0 && is_gradient && i == 0);
}

/* Runs with the tensor's last dimension one short. */
static int accepts_short(const Device *dev, Trial *t, CaseCall *run, Tensor *tensor)
{
    const Tensor whole = *tensor;
    tensor->shape[tensor->ndim - 1]--;
    const Status s = run(dev, &t->call);
    *tensor = whole;
    return s != ERR_DEVICE;
}

static void outputs_of_another_shape_are_refused(void **state)
{
    (void)state;
    const Device dev = open_best();
    int bad = 0;
    for (int64_t n = 0; n < op_case_count; n++) {
        const Case *row = &op_cases[n];
        Trial t;
        trial_create(&t, row, row->small, 1);
        assert_int_equal(trial_run(&t, &dev), OK);
        for (int i = 0; i < t.outputs; i++)
            if (is_seen(row, row->out[i], false, i) &&
                accepts_short(&dev, &t, row->forward, &t.call.out[i])) {
                print_error("%s accepts a short output %d\n", row->name, i);
                bad++;
            }
        for (int i = 0; row->backward && i < t.inputs; i++)
            if (row->gradients[i] != '.' && is_seen(row, row->in[i], true, i) &&
                accepts_short(&dev, &t, row->backward, &t.call.din[i])) {
                print_error("%s accepts a short gradient %d\n", row->name, i);
                bad++;
            }
        trial_destroy(&t);
    }
    assert_int_equal(bad, 0);
}

static void a_mismatch_names_op_tensor_and_shapes(void **state)
{
    (void)state;
    const Device dev = open_best();
    float x[6] = { 0 }, w[8] = { 0 }, y[8] = { 0 };
    const Tensor tx = tensor_of(x, F32, SHAPE(2, 3)), tw = tensor_of(w, F32, SHAPE(4, 2));
    const Tensor ty = tensor_of(y, F32, SHAPE(2, 4));
    assert_int_equal(op_linear(&dev, ty, tx, tw, tensor_none()), ERR_DEVICE);
    assert_string_equal(status_message(), "op_linear: w is (4, 2) F32, expected (4, 3) F32");
    assert_int_equal(op_gelu(&dev, tensor_of(y, BF16, SHAPE(2, 3)), tx), ERR_DEVICE);
    assert_string_equal(status_message(), "op_gelu: y is (2, 3) BF16, expected (2, 3) F32");
    assert_int_equal(op_gelu(&dev, tensor_of(NULL, F32, SHAPE(2, 3)), tx), ERR_DEVICE);
    assert_string_equal(status_message(), "op_gelu: y is absent");
}

static void leading_dimensions_count_as_rows(void **state)
{
    (void)state;
    const Device dev = open_best();
    float x[12] = { 1 }, w[24] = { 2 }, y[32];
    const Tensor tx = tensor_of(x, F32, SHAPE(2, 2, 3));
    const Tensor tw = tensor_of(w, F32, SHAPE(8, 1, 1, 3)); /* as a convolution's kernel is kept */
    assert_int_equal(op_linear(&dev, tensor_of(y, F32, SHAPE(2, 2, 8)), tx, tw, tensor_none()), OK);
    assert_true(y[0] == 2.0f);
    /* the same count, cut elsewhere */
    assert_int_equal(op_linear(&dev, tensor_of(y, F32, SHAPE(8, 4)), tx, tw, tensor_none()),
                     ERR_DEVICE);
}

static void a_scale_that_is_not_above_0_is_refused(void **state)
{
    (void)state;
    const Device dev = open_best();
    float x[4] = { 0 };
    const Tensor t = tensor_of(x, F32, SHAPE(1, 1, 1, 4)), lse = tensor_of(x, F32, SHAPE(1, 1, 1));
    const AttentionOptions options = { .scale = 0 };
    assert_int_equal(op_attention(&dev, t, lse, t, t, t, &options, NULL), ERR_DEVICE);
    assert_string_equal(status_message(), "op_attention: scale 0 is not above 0");
}

/* Products of no row, by every way of computing them; a sum of nothing leaves what is there. */
static void products_of_nothing_are_nothing(void **state)
{
    (void)state;
    Device devices[3] = { open_best() };
    assert_int_equal(device_open(&devices[1], "cpu", NULL, 2, true), OK);
    devices[2] = devices[0];
    assert_int_equal(device_take_bf16(&devices[2], NULL), OK);
    float w[8] = { 1 }, dw[8] = { 5 };
    const Tensor tw = tensor_of(w, F32, SHAPE(4, 2)), tdw = tensor_of(dw, F32, SHAPE(4, 2));
    const Tensor x = tensor_of(NULL, F32, SHAPE(0, 2)), y = tensor_of(NULL, F32, SHAPE(0, 4));
    for (int d = 0; d < 3; d++) {
        assert_int_equal(op_linear(&devices[d], y, x, tw, tensor_none()), OK);
        assert_int_equal(op_linear_backward_input(&devices[d], x, y, tw, false), OK);
        assert_int_equal(op_linear_backward_weight(&devices[d], tdw, tensor_none(), x, y), OK);
        assert_true(dw[0] == 5 && dw[7] == 0);
    }
}

static void an_id_outside_the_table_is_refused(void **state)
{
    (void)state;
    const Device dev = open_best();
    float table[6] = { 0 }, y[4];
    int32_t ids[2] = { 0, 3 };
    const Tensor tt = tensor_of(table, F32, SHAPE(3, 2)), ti = tensor_of(ids, I32, SHAPE(2));
    const Tensor ty = tensor_of(y, F32, SHAPE(2, 2));
    assert_int_equal(op_embedding(&dev, ty, tt, ti), ERR_DEVICE);
    assert_string_equal(status_message(), "op_embedding: id 3 at row 1, the table has 3 entries");
    assert_int_equal(op_embedding_backward(&dev, tt, ty, ti), ERR_DEVICE);
}

static void little_scratch_is_refused(void **state)
{
    (void)state;
    const Device dev = open_best();
    Trial t;
    for (int64_t i = 0; i < op_case_count; i++) {
        if (strcmp(op_cases[i].name, "attention") != 0) continue;
        trial_create(&t, &op_cases[i], op_cases[i].small, 1);
        t.scratch.used = t.scratch.size - 64;
        assert_int_equal(op_cases[i].forward(&dev, &t.call), ERR_MEMORY);
        trial_destroy(&t);
    }
}

static void devices_that_cannot_be_are_refused(void **state)
{
    (void)state;
    Device dev;
    assert_int_equal(device_open(&dev, "tpu", NULL, 0, false), ERR_CONFIG);
    assert_int_equal(device_open(&dev, "cpu", "avx9", 0, false), ERR_CONFIG);
    assert_int_equal(device_open(&dev, "cpu", NULL, -1, false), ERR_CONFIG);
    assert_int_equal(device_open(&dev, "cuda", NULL, 0, false), ERR_DEVICE);
    assert_int_equal(device_open(&dev, "auto", NULL, 0, false), OK);
    assert_false(dev.exact);
    assert_int_equal(device_open(&dev, "auto", NULL, 0, true), OK);
    assert_true(dev.exact);
    assert_true(dev.threads >= 1);
}

/* ---- exact ops ------------------------------------------------------------------------------ */

/* The value of F16 or BF16 bits, by arithmetic on its fields. */
static double value_of(uint16_t bits, int exponent_bits)
{
    const int fraction_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = (bits & 0x7fff) >> fraction_bits;
    const double fraction = (double)(bits & ((1 << fraction_bits) - 1)) / (1 << fraction_bits);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return fraction > 0 ? NAN : sign * INFINITY;
    return sign *
           (exponent == 0 ? ldexp(fraction, 1 - bias) : ldexp(1 + fraction, exponent - bias));
}

static bool same_value(double a, double b)
{
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

static void check_conversion(const Device *dev, DType dtype, int exponent_bits)
{
    enum { ALL = 65536 };
    static uint16_t half[ALL], back[ALL];
    static float wide[ALL];
    for (int i = 0; i < ALL; i++) half[i] = (uint16_t)i;
    const Tensor th = tensor_of(half, dtype, SHAPE(ALL)), tw = tensor_of(wide, F32, SHAPE(ALL));
    const Tensor tb = tensor_of(back, dtype, SHAPE(ALL));
    assert_int_equal(op_convert(dev, tw, th), OK);
    assert_int_equal(op_convert(dev, tb, tw), OK);
    for (int i = 0; i < ALL; i++) {
        assert_true(same_value((double)wide[i], value_of(half[i], exponent_bits)));
        if (!isnan(wide[i]))
            assert_int_equal(back[i], half[i]);
        else
            assert_true(isnan(value_of(back[i], exponent_bits)));
    }
    /* between neighbours: the middle goes to the even one, a hair either side to the nearer one */
    const int count = (0x7fff >> (15 - exponent_bits)) << (15 - exponent_bits); /* finite ones */
    for (int shift = -1; shift <= 1; shift++) {
        for (int i = 0; i < count; i++) {
            const double low = value_of((uint16_t)i, exponent_bits);
            const double high = i + 1 < count
                                    ? value_of((uint16_t)(i + 1), exponent_bits)
                                    : 2 * low - value_of((uint16_t)(i - 1), exponent_bits);
            const float middle = (float)(low + (high - low) / 2);
            wide[i] = shift == 0 ? middle : nextafterf(middle, shift < 0 ? 0.0f : INFINITY);
        }
        assert_int_equal(op_convert(dev, tb, tw), OK);
        for (int i = 0; i < count; i++)
            assert_int_equal(back[i], shift < 0 ? i : shift > 0 ? i + 1 : (i + 1) / 2 * 2);
    }
}

static void conversion_rounds_to_nearest_even(void **state)
{
    (void)state;
    for (int i = 0; i < ISA_COUNT; i++) {
        Device dev;
        if (!open_isa(&dev, isa_names[i], 2)) continue;
        check_conversion(&dev, BF16, 8);
        check_conversion(&dev, F16, 5);
    }
}

static void normal_numbers_are_those_of_rng(void **state)
{
    (void)state;
    enum { COUNT = 40001 };
    static float out[COUNT];
    const Device dev = open_best();
    const Rng rng = rng_make(1, RNG_TEST, 2);
    for (uint64_t first = 0; first < 6; first++) {
        assert_int_equal(op_normal(&dev, tensor_of(out, F32, SHAPE(COUNT)), rng, first), OK);
        for (uint64_t i = 0; i < COUNT; i++) assert_true(out[i] == rng_normal(rng, first + i));
    }
    assert_int_equal(op_normal(&dev, tensor_of(out, F32, SHAPE(2)), rng, 5), OK);
    assert_true(out[1] == rng_normal(rng, 6));
}

static void fill_reaches_every_element(void **state)
{
    (void)state;
    enum { COUNT = 40001 };
    static float y[COUNT];
    const Device dev = open_best();
    assert_int_equal(op_fill(&dev, tensor_of(y, F32, SHAPE(COUNT)), -2.5f), OK);
    for (int i = 0; i < COUNT; i++) assert_true(y[i] == -2.5f);
}

static void exp_is_within_two_ulp(void **state)
{
    (void)state;
    for (double x = -87.3; x <= 88.37; x += 0.000731) {
        const float argument = (float)x;
        const double want = exp((double)argument);
        assert_true(fabs((double)cpu_exp(argument) - want) <= 2e-7 * want);
    }
    assert_true(cpu_exp(0.0f) == 1.0f);
    assert_true(cpu_exp(-INFINITY) < 1.3e-38f && cpu_exp(-INFINITY) > 0);
    assert_true(cpu_exp(1e30f) > 2.3e38f && !isinf(cpu_exp(1e30f)));
    assert_true(isnan(cpu_exp(NAN)));
}

static void activations_hold_far_from_zero(void **state)
{
    (void)state;
    const Device dev = open_best();
    float x[6] = { -1e4f, -30.0f, -1e-30f, 30.0f, 1e4f, NAN }, y[6], one[6] = { 1, 1, 1, 1, 1, 1 };
    const Tensor tx = tensor_of(x, F32, SHAPE(6)), ty = tensor_of(y, F32, SHAPE(6));
    const Tensor t1 = tensor_of(one, F32, SHAPE(6));
    assert_int_equal(op_gelu(&dev, ty, tx), OK);
    assert_true(fabsf(y[0]) < 1e-30f && fabsf(y[1]) < 1e-30f && y[3] == 30.0f && y[4] == 1e4f);
    assert_true(isnan(y[5]));
    assert_int_equal(op_gelu_backward(&dev, ty, t1, tx), OK);
    assert_true(fabsf(y[0]) < 1e-20f && y[3] == 1.0f && y[4] == 1.0f && isnan(y[5]));
    assert_int_equal(op_silu(&dev, ty, tx), OK);
    assert_true(fabsf(y[0]) < 1e-30f && y[4] == 1e4f && isnan(y[5]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_of_another_shape_are_refused),
        cmocka_unit_test(a_mismatch_names_op_tensor_and_shapes),
        cmocka_unit_test(leading_dimensions_count_as_rows),
        cmocka_unit_test(a_scale_that_is_not_above_0_is_refused),
        cmocka_unit_test(products_of_nothing_are_nothing),
        cmocka_unit_test(an_id_outside_the_table_is_refused),
        cmocka_unit_test(little_scratch_is_refused),
        cmocka_unit_test(devices_that_cannot_be_are_refused),
        cmocka_unit_test(conversion_rounds_to_nearest_even),
        cmocka_unit_test(normal_numbers_are_those_of_rng),
        cmocka_unit_test(fill_reaches_every_element),
        cmocka_unit_test(exp_is_within_two_ulp),
        cmocka_unit_test(activations_hold_far_from_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
