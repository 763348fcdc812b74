/*
 * Linear ops of an exact device: every number is the chain of fused multiply-adds that ops.h
 * states, on every instruction set and number of threads; sums that ranks share have the bits of
 * one rank.
 */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/trial.h"

/* Not multiples of any block: more than a tile each way, more than a depth of packing, and more
 * than one chunk's worth of it. IN and OUT are multiples of PARTS. */
enum { ROWS = 171, IN = 2 * 264, OUT = 8 * 35, PARTS = 8, ARENA_BYTES = 64 << 20 };

typedef struct Bench {
    Arena arena;
    Tensor x, w, b, dy;              /* (ROWS, IN), (OUT, IN), (OUT), (ROWS, OUT) */
    Tensor y, dx, dw, db;            /* by an op */
    Tensor want_y, want_dx, want_dw; /* by the chain */
    Tensor dy2, w2;                  /* (ROWS, OUT2), (OUT2, IN) */
} Bench;

enum { OUT2 = 8 * 7 };

static void ok(Status s)
{
    if (s != OK) fail_msg("%s", status_message());
}

static Tensor make(Bench *b, int64_t rows, int64_t width)
{
    Tensor t;
    ok(tensor_alloc(&b->arena, F32, SHAPE(rows, width), "exact", &t));
    const Rng rng = rng_make(3, RNG_TEST, b->arena.used);
    /* mixed sizes: sums that lose digits in every addition */
    for (int64_t i = 0; i < rows * width; i++)
        tensor_f32(t)[i] = ldexpf(2 * rng_uniform(rng, (uint64_t)i) - 1, (int)(i % 13) - 6);
    return t;
}

static int set_up(void **state)
{
    Bench *b = calloc(1, sizeof *b);
    if (!b) return -1;
    ok(arena_create(&b->arena, "exact", ARENA_BYTES));
    b->x = make(b, ROWS, IN);
    b->w = make(b, OUT, IN);
    b->b = tensor_reshape(make(b, 1, OUT), SHAPE(OUT));
    b->dy = make(b, ROWS, OUT);
    b->y = make(b, ROWS, OUT);
    b->dx = make(b, ROWS, IN);
    b->dw = make(b, OUT, IN);
    b->db = tensor_reshape(make(b, 1, OUT), SHAPE(OUT));
    b->want_y = make(b, ROWS, OUT);
    b->want_dx = make(b, ROWS, IN);
    b->want_dw = make(b, OUT, IN);
    b->dy2 = make(b, ROWS, OUT2);
    b->w2 = make(b, OUT2, IN);
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    Bench *b = *state;
    arena_destroy(&b->arena);
    free(b);
    return 0;
}

/* The next instruction set and thread count this machine has, exact. */
static bool next_device(int *at, Device *dev)
{
    static const int threads[] = { 1, 3 };
    for (; *at < ISA_COUNT * 2; (*at)++) {
        if (!open_isa(dev, isa_names[*at / 2], threads[*at % 2])) continue;
        dev->exact = true;
        (*at)++;
        return true;
    }
    return false;
}

static void assert_bits(Tensor got, Tensor want, const Device *dev, const char *what)
{
    const int64_t count = tensor_count(want);
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&tensor_f32(got)[i], &tensor_f32(want)[i], sizeof(float)) != 0)
            fail_msg("%s on %s, %d threads: element %lld of %lld is %a, expected %a", what,
                     dev->name, dev->threads, (long long)i, (long long)count,
                     (double)tensor_f32(got)[i], (double)tensor_f32(want)[i]);
}

static void copy(Tensor to, Tensor from)
{
    memcpy(to.data, from.data, tensor_bytes(from));
}

/* sum + over k of a[k a_step] b[k b_step] */
static float chain(float sum, const float *a, int64_t a_step, const float *b, int64_t b_step,
                   int64_t count)
{
    for (int64_t k = 0; k < count; k++) sum = fmaf(a[k * a_step], b[k * b_step], sum);
    return sum;
}

/* ---- chains --------------------------------------------------------------------------------- */

static void linear_is_one_chain_from_the_bias(void **state)
{
    Bench *b = *state;
    Device dev;
    for (int64_t i = 0; i < ROWS; i++)
        for (int64_t j = 0; j < OUT; j++)
            tensor_f32(b->want_y)[i * OUT + j] =
                chain(tensor_f32(b->b)[j], tensor_f32(b->x) + i * IN, 1, tensor_f32(b->w) + j * IN,
                      1, IN);
    for (int at = 0; next_device(&at, &dev);) {
        ok(op_linear(&dev, b->y, b->x, b->w, b->b));
        assert_bits(b->y, b->want_y, &dev, "linear");
    }
}

static void input_gradient_is_one_chain(void **state)
{
    Bench *b = *state;
    Device dev;
    const Tensor prior = make(b, ROWS, IN);
    for (int add = 0; add < 2; add++) {
        for (int64_t i = 0; i < ROWS; i++)
            for (int64_t j = 0; j < IN; j++)
                tensor_f32(b->want_dx)[i * IN + j] =
                    chain(add ? tensor_f32(prior)[i * IN + j] : 0, tensor_f32(b->dy) + i * OUT, 1,
                          tensor_f32(b->w) + j, IN, OUT);
        for (int at = 0; next_device(&at, &dev);) {
            copy(b->dx, prior);
            ok(op_linear_backward_input(&dev, b->dx, b->dy, b->w, add));
            assert_bits(b->dx, b->want_dx, &dev, "input gradient");
        }
    }
}

/* Rows in one call or in three: the chain goes on. */
static void weight_gradient_is_one_chain_over_calls(void **state)
{
    Bench *b = *state;
    Device dev;
    const Tensor prior = make(b, OUT, IN), prior_b = make(b, 1, OUT), want_b = make(b, 1, OUT);
    for (int64_t i = 0; i < OUT; i++) {
        for (int64_t j = 0; j < IN; j++)
            tensor_f32(b->want_dw)[i * IN + j] =
                chain(tensor_f32(prior)[i * IN + j], tensor_f32(b->dy) + i, OUT,
                      tensor_f32(b->x) + j, IN, ROWS);
        float sum = tensor_f32(prior_b)[i];
        for (int64_t r = 0; r < ROWS; r++) sum += tensor_f32(b->dy)[r * OUT + i];
        tensor_f32(want_b)[i] = sum;
    }
    static const int64_t cuts[2][4] = { { 0, ROWS, ROWS, ROWS }, { 0, 1, 68, ROWS } };
    for (int at = 0; next_device(&at, &dev);)
        for (int c = 0; c < 2; c++) {
            copy(b->dw, prior);
            copy(b->db, prior_b);
            for (int i = 0; i < 3; i++) {
                const int64_t first = cuts[c][i], n = cuts[c][i + 1] - first;
                if (n == 0) continue;
                ok(op_linear_backward_weight(&dev, b->dw, b->db, tensor_slice(b->x, first, n),
                                             tensor_slice(b->dy, first, n)));
            }
            assert_bits(b->dw, b->want_dw, &dev, "weight gradient");
            assert_bits(b->db, want_b, &dev, "bias gradient");
        }
}

/* ---- sums that ranks share ------------------------------------------------------------------ */

static float tree(float *part, int parts)
{
    if (parts == 1) return part[0];
    int left = 1;
    while (2 * left < parts) left *= 2;
    return tree(part, left) + tree(part + left, parts - left);
}

static void cut_linear_is_a_tree_of_chains(void **state)
{
    Bench *b = *state;
    Device dev;
    static const int cuts[] = { 1, 2, 16 };
    for (int c = 0; c < 3; c++) {
        const int parts = cuts[c];
        const int64_t chunk = IN / parts;
        for (int64_t i = 0; i < ROWS; i++)
            for (int64_t j = 0; j < OUT; j++) {
                float part[LINEAR_PARTS];
                for (int p = 0; p < parts; p++)
                    part[p] = chain(0, tensor_f32(b->x) + i * IN + p * chunk, 1,
                                    tensor_f32(b->w) + j * IN + p * chunk, 1, chunk);
                tensor_f32(b->want_y)[i * OUT + j] = tree(part, parts);
            }
        for (int at = 0; next_device(&at, &dev);) {
            ok(op_linear_cut(&dev, b->y, b->x, b->w, parts));
            assert_bits(b->y, b->want_y, &dev, "cut linear");
        }
    }
}

static void cut_input_gradient_chains_pairs_within_a_chunk(void **state)
{
    Bench *b = *state;
    Device dev;
    const Tensor prior = make(b, ROWS, IN);
    const LinearPair pairs[] = { { b->dy, b->w }, { b->dy2, b->w2 }, { b->dy, b->w } };
    static const int cuts[] = { 1, 7, 8, 8 }; /* 7: a tree that is not full */
    for (int c = 0; c < 4; c++) {
        const int parts = cuts[c];
        const bool add = c % 2;
        for (int64_t i = 0; i < ROWS; i++)
            for (int64_t j = 0; j < IN; j++) {
                float part[LINEAR_PARTS] = { 0 };
                for (int p = 0; p < parts; p++)
                    for (int k = 0; k < 3; k++) {
                        const int64_t out = tensor_width(pairs[k].dy), chunk = out / parts;
                        part[p] = chain(part[p], tensor_f32(pairs[k].dy) + i * out + p * chunk, 1,
                                        tensor_f32(pairs[k].w) + p * chunk * IN + j, IN, chunk);
                    }
                const float sum = tree(part, parts), old = tensor_f32(prior)[i * IN + j];
                tensor_f32(b->want_dx)[i * IN + j] = add ? old + sum : sum;
            }
        for (int at = 0; next_device(&at, &dev);) {
            copy(b->dx, prior);
            ok(op_linear_cut_backward_input(&dev, b->dx, pairs, 3, parts, add));
            assert_bits(b->dx, b->want_dx, &dev, "cut input gradient");
        }
    }
}

/* Columns first .. first + count of t, packed. */
static Tensor columns(Bench *b, Tensor t, int64_t first, int64_t count)
{
    const int64_t rows = tensor_rows(t), width = tensor_width(t);
    const Tensor out = make(b, rows, count);
    for (int64_t r = 0; r < rows; r++)
        memcpy(tensor_f32(out) + r * count, tensor_f32(t) + r * width + first,
               (size_t)count * sizeof(float));
    return out;
}

static void add(Tensor to, Tensor from)
{
    for (int64_t i = 0; i < tensor_count(to); i++) tensor_f32(to)[i] += tensor_f32(from)[i];
}

/* to = the ranks' partial results along the tree of a group */
static void reduce(Tensor to, Tensor *partial, int ranks)
{
    for (int stride = 1; stride < ranks; stride *= 2)
        for (int i = 0; i + stride < ranks; i += 2 * stride) add(partial[i], partial[i + stride]);
    copy(to, partial[0]);
}

static void ranks_that_share_a_sum_give_the_bits_of_one(void **state)
{
    Bench *b = *state;
    Device dev;
    const Tensor row_sums = make(b, ROWS, 1), want_sums = make(b, ROWS, 1);
    const Tensor dots = make(b, ROWS, 1), want_dots = make(b, ROWS, 1);
    const Tensor norm_w = columns(b, b->w, 0, OUT), norm_row = tensor_slice(norm_w, 0, 1);
    for (int at = 0; next_device(&at, &dev);) {
        const LinearPair whole[] = { { b->dy, b->w }, { b->dy2, b->w2 } };
        ok(op_linear_cut(&dev, b->want_y, b->x, b->w, PARTS));
        ok(op_linear_cut_backward_input(&dev, b->want_dx, whole, 2, PARTS, false));
        ok(op_sum_squares_rows(&dev, want_sums, b->dy, PARTS));
        ok(op_rmsnorm_dot(&dev, want_dots, b->want_y, b->dy, norm_row, PARTS));
        for (int ranks = 2; ranks <= PARTS; ranks *= 4) {
            const size_t mark = arena_mark(&b->arena);
            const int parts = PARTS / ranks;
            const int64_t in = IN / ranks, out = OUT / ranks, out2 = OUT2 / ranks;
            Tensor y[PARTS], dx[PARTS], squares[PARTS], dot[PARTS];
            for (int r = 0; r < ranks; r++) {
                const LinearPair mine[] = {
                    { columns(b, b->dy, r * out, out), tensor_slice(b->w, r * out, out) },
                    { columns(b, b->dy2, r * out2, out2), tensor_slice(b->w2, r * out2, out2) },
                };
                y[r] = make(b, ROWS, OUT);
                dx[r] = make(b, ROWS, IN);
                squares[r] = make(b, ROWS, 1);
                dot[r] = make(b, ROWS, 1);
                ok(op_linear_cut(&dev, y[r], columns(b, b->x, r * in, in),
                                 columns(b, b->w, r * in, in), parts));
                ok(op_linear_cut_backward_input(&dev, dx[r], mine, 2, parts, false));
                ok(op_sum_squares_rows(&dev, squares[r], mine[0].dy, parts));
                ok(op_rmsnorm_dot(&dev, dot[r], columns(b, b->want_y, r * out, out), mine[0].dy,
                                  columns(b, norm_row, r * out, out), parts));
            }
            reduce(b->y, y, ranks);
            reduce(b->dx, dx, ranks);
            reduce(row_sums, squares, ranks);
            reduce(dots, dot, ranks);
            assert_bits(b->y, b->want_y, &dev, "cut linear over ranks");
            assert_bits(b->dx, b->want_dx, &dev, "cut input gradient over ranks");
            assert_bits(row_sums, want_sums, &dev, "squares over ranks");
            assert_bits(dots, want_dots, &dev, "dots over ranks");
            arena_release(&b->arena, mark);
        }
    }
}

/* ---- edges ---------------------------------------------------------------------------------- */

/* The emulation of x86-64 rounds subnormal sums, halfway cases and infinities as hardware does. */
static void hard_roundings_agree(void **state)
{
    Bench *b = *state;
    static const float hard[] = {
        0x1p-126f,     0x1p-149f,      -0x1p-149f,      0x1.fffffep127f, -0x1.fffffep127f, 1.0f,
        0x1.000002p0f, 0x1.fffffep-1f, -0x1.000002p0f,  0x1p-24f,        0x1p-25f,         0.0f,
        -0.0f,         0x1.8p-70f,     0x1.000002p-75f, INFINITY,        0x1p24f,          0x1p-75f,
    };
    enum { HARD = sizeof hard / sizeof *hard };
    const Tensor x = make(b, HARD, 1), w = make(b, HARD, 1), y = make(b, HARD, HARD);
    const Tensor bias = tensor_reshape(make(b, 1, HARD), SHAPE(HARD)), want = make(b, HARD, HARD);
    for (int shift = 0; shift < HARD; shift++) {
        for (int i = 0; i < HARD; i++) {
            tensor_f32(x)[i] = tensor_f32(w)[i] = hard[i];
            tensor_f32(bias)[i] = hard[(i + shift) % HARD];
        }
        for (int i = 0; i < HARD; i++)
            for (int j = 0; j < HARD; j++)
                tensor_f32(want)[i * HARD + j] = fmaf(hard[i], hard[j], tensor_f32(bias)[j]);
        Device dev;
        for (int at = 0; next_device(&at, &dev);) {
            ok(op_linear(&dev, y, x, w, bias));
            for (int i = 0; i < HARD * HARD; i++) {
                float *got = &tensor_f32(y)[i], *expected = &tensor_f32(want)[i];
                if (isnan(*got) && isnan(*expected)) *got = *expected; /* any NaN is as good */
            }
            assert_bits(y, want, &dev, "hard roundings");
        }
    }
}

static void a_sum_of_nothing_is_the_bias_or_zero(void **state)
{
    Bench *b = *state;
    Device dev;
    const Tensor x = tensor_of(b->x.data, F32, SHAPE(3, 0)),
                 w = tensor_of(b->w.data, F32, SHAPE(5, 0));
    const Tensor bias = tensor_of(b->b.data, F32, SHAPE(5)), y = make(b, 3, 5);
    for (int at = 0; next_device(&at, &dev);) {
        ok(op_linear(&dev, y, x, w, bias));
        for (int i = 0; i < 15; i++) assert_true(tensor_f32(y)[i] == tensor_f32(bias)[i % 5]);
        ok(op_linear_cut(&dev, y, x, w, 4));
        for (int i = 0; i < 15; i++) assert_true(tensor_f32(y)[i] == 0);
    }
}

static void parts_that_do_not_divide_are_refused(void **state)
{
    Bench *b = *state;
    Device dev;
    const LinearPair pair = { b->dy, b->w };
    assert_true(open_isa(&dev, NULL, 1));
    assert_int_equal(op_linear_cut(&dev, b->y, b->x, b->w, 5), ERR_DEVICE);
    assert_non_null(strstr(status_message(), "528 terms in 5 parts"));
    assert_int_equal(op_linear_cut(&dev, b->y, b->x, b->w, 0), ERR_DEVICE);
    assert_int_equal(op_linear_cut(&dev, b->y, b->x, b->w, 33), ERR_DEVICE);
    assert_int_equal(op_linear_cut_backward_input(&dev, b->dx, &pair, 1, 16, false), ERR_DEVICE);
    assert_int_equal(op_linear_cut_backward_input(&dev, b->dx, &pair, 0, 1, false), ERR_DEVICE);
    assert_int_equal(op_linear_cut_backward_input(&dev, b->dx, &pair, 4, 1, false), ERR_DEVICE);
    assert_int_equal(op_sum_squares_rows(&dev, b->b, b->w, 5), ERR_DEVICE);
    assert_int_equal(op_rmsnorm_dot(&dev, b->b, b->w, b->w, tensor_slice(b->w, 0, 1), 5),
                     ERR_DEVICE);
}

/* Without exact, parts change nothing: the same numbers to rounding, by the library. */
static void a_fast_device_ignores_parts(void **state)
{
    Bench *b = *state;
    Device dev;
    const LinearPair pairs[] = { { b->dy, b->w }, { b->dy2, b->w2 } };
    assert_true(open_isa(&dev, NULL, 2));
    ok(op_linear(&dev, b->want_y, b->x, b->w, tensor_none()));
    ok(op_linear_cut(&dev, b->y, b->x, b->w, PARTS));
    assert_bits(b->y, b->want_y, &dev, "fast cut linear");
    for (int add = 0; add < 2; add++) {
        copy(b->dx, b->x);
        copy(b->want_dx, b->x);
        ok(op_linear_backward_input(&dev, b->want_dx, b->dy, b->w, add));
        ok(op_linear_backward_input(&dev, b->want_dx, b->dy2, b->w2, true));
        ok(op_linear_cut_backward_input(&dev, b->dx, pairs, 2, PARTS, add));
        assert_bits(b->dx, b->want_dx, &dev, "fast cut input gradient");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(linear_is_one_chain_from_the_bias),
        TEST(input_gradient_is_one_chain),
        TEST(weight_gradient_is_one_chain_over_calls),
        TEST(cut_linear_is_a_tree_of_chains),
        TEST(cut_input_gradient_chains_pairs_within_a_chunk),
        TEST(ranks_that_share_a_sum_give_the_bits_of_one),
        TEST(hard_roundings_agree),
        TEST(a_sum_of_nothing_is_the_bias_or_zero),
        TEST(parts_that_do_not_divide_are_refused),
        TEST(a_fast_device_ignores_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
