/*
 * A row of an op's output has the same bits whichever rows, samples, heads or columns share the
 * call: each op of the table on a slice along one letter of its shapes, against the slice of the
 * op on the whole. What sums over the letter is not compared. On every instruction set; the whole
 * on three threads, the slice on two.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ops/trial.h"

/* The letters along which the rows of an op do not know of each other. Not here: widths that are
 * summed; positions that the case itself turns into lengths, ids or biases. */
static const struct {
    const char *name, *letters;
} sliced[] = {
    { "linear", "nio" },
    { "linear_no_bias", "nio" },
    { "layernorm_modulate", "bt" },
    { "layernorm_modulate_add", "bt" },
    { "layernorm", "n" },
    { "layernorm_add", "n" },
    { "rmsnorm", "n" },
    { "rmsnorm_add", "n" },
    { "rope", "bth" },
    { "attention", "bqh" },
    { "attention_wide", "qh" },
    { "attention_bias", "bh" },
    { "attention_masked", "h" },
    { "gelu", "nw" },
    { "gelu_erf", "nw" },
    { "silu", "nw" },
    { "silu_add", "nw" },
    { "gated_gelu", "nw" },
    { "gate_residual", "btw" },
    { "residual", "btw" },
    { "axpby", "n" },
    { "modulation", "pbw" },
    { "modulation_shared", "pbw" },
    { "timestep_embedding", "b" },
    { "embedding", "w" },
    { "zero_tail", "w" },
    { "transpose", "nw" },
    { "patch_order", "n" },
    { "head_order", "n" },
    { "flow_mix", "bn" },
    { "squared_error", "bn" },
    { "adamw", "n" },
    { "adamw_no_ema", "n" },
};

static const Case *case_named(const char *name)
{
    for (int64_t i = 0; i < op_case_count; i++)
        if (strcmp(op_cases[i].name, name) == 0) return &op_cases[i];
    fail_msg("no case is named %s", name);
    return NULL;
}

/* ---- slices of tensors ---------------------------------------------------------------------- */

typedef struct Slice {
    char letter;
    int64_t first, count;
} Slice;

/* part = whole[.., first .. first + count, ..] along the letter, all of it where there is none; or,
 * to compare, whether that is so. */
static bool visit(Tensor part, Tensor whole, const char *letters, Slice s, bool compare)
{
    const char *at = strchr(letters, s.letter);
    const int axis = at ? (int)(at - letters) : 0;
    const int64_t first = at ? s.first : 0, count = part.shape[axis], all = whole.shape[axis];
    int64_t outer = 1, inner = 1;
    for (int i = 0; i < axis; i++) outer *= part.shape[i];
    for (int i = axis + 1; i < part.ndim; i++) inner *= part.shape[i];
    const size_t bytes = (size_t)(count * inner) * sizeof(float);
    for (int64_t o = 0; o < outer; o++) {
        float *to = tensor_f32(part) + o * count * inner;
        const float *from = tensor_f32(whole) + (o * all + first) * inner;
        if (!compare)
            memcpy(to, from, bytes);
        else if (memcmp(to, from, bytes) != 0)
            return false;
    }
    return true;
}

static void take(Tensor part, Tensor whole, const char *letters, Slice s)
{
    (void)visit(part, whole, letters, s, false);
}

/* True, too, when the tensor has no such letter: it is then a sum over the slice. */
static bool is_slice(Tensor part, Tensor whole, const char *letters, Slice s)
{
    return !strchr(letters, s.letter) || visit(part, whole, letters, s, true);
}

/* One float past a line of cache, where no vector starts. */
static Tensor at_odd_address(Arena *arena, Tensor t)
{
    void *data;
    assert_int_equal(arena_alloc(arena, tensor_bytes(t) + sizeof(float), "odd", &data), OK);
    t.data = (float *)data + 1;
    return t;
}

/* What the op reads and writes; the arena is the caller's to destroy. */
static Arena move_to_odd_addresses(Trial *t)
{
    Arena arena;
    assert_int_equal(arena_create(&arena, "odd", t->arena.used + CASE_TENSORS * 4 * ARENA_ALIGN),
                     OK);
    for (int i = 0; i < t->inputs; i++) {
        t->call.in[i] = at_odd_address(&arena, t->call.in[i]);
        t->call.din[i] = at_odd_address(&arena, t->call.din[i]);
    }
    for (int i = 0; i < t->outputs; i++) t->call.out[i] = at_odd_address(&arena, t->call.out[i]);
    t->call.dout = at_odd_address(&arena, t->call.dout);
    return arena;
}

/* ---- one case, one letter ------------------------------------------------------------------- */

static int complain(const Trial *t, const Device *dev, Slice s, const char *what, int i)
{
    print_error("%s on %s: %s %d of %c %lld + %lld is not the slice of the whole\n", t->row->name,
                dev->name, what, i, s.letter, (long long)s.first, (long long)s.count);
    return 1;
}

static int compare(const Trial *part, const Trial *whole, const Device *dev, Slice s)
{
    const Case *row = part->row;
    for (int i = 0; i < part->outputs; i++)
        if (!is_slice(part->call.out[i], whole->call.out[i], row->out[i], s))
            return complain(part, dev, s, "output", i);
    for (int i = 0; row->backward && i < part->inputs; i++)
        if (row->gradients[i] != '.' &&
            !is_slice(part->call.din[i], whole->call.din[i], row->in[i], s))
            return complain(part, dev, s, "gradient", i);
    return 0;
}

static int run_slice(const Trial *whole, const char *isa, Slice s)
{
    const Case *row = whole->row;
    Device dev;
    Trial part;
    int64_t sizes[CASE_SIZES];
    memcpy(sizes, whole->sizes, sizeof sizes);
    sizes[strchr(row->letters, s.letter) - row->letters] = s.count;
    assert_true(open_isa(&dev, isa, 2));
    dev.exact = true;
    trial_create(&part, row, sizes, 8);
    Arena odd = move_to_odd_addresses(&part);
    for (int i = 0; i < part.inputs; i++) {
        take(part.call.in[i], whole->call.in[i], row->in[i], s);
        take(part.prior[i], whole->prior[i], row->in[i], s);
    }
    take(part.call.dout, whole->call.dout, row->out[0], s);
    const int bad = trial_run(&part, &dev) != OK || compare(&part, whole, &dev, s) != 0;
    arena_destroy(&odd);
    trial_destroy(&part);
    return bad;
}

static int run_letter(const Trial *whole, const char *isa, char letter)
{
    const int64_t size = whole->sizes[strchr(whole->row->letters, letter) - whole->row->letters];
    const Slice slices[] = { { letter, 0, (size + 1) / 2 },
                             { letter, size / 3, size - size / 3 - size / 7 },
                             { letter, 1, size - 1 },
                             { letter, size - 1, 1 } };
    int bad = 0;
    for (int i = 0; size > 1 && i < 4; i++) bad += run_slice(whole, isa, slices[i]);
    return bad;
}

static void slices_have_the_bits_of_the_whole(void **state)
{
    (void)state;
    int bad = 0;
    for (int isa = 0; isa < ISA_COUNT; isa++)
        for (size_t i = 0; i < sizeof sliced / sizeof *sliced; i++) {
            Device dev;
            Trial whole;
            if (!open_isa(&dev, isa_names[isa], 3)) continue;
            dev.exact = true;
            const Case *row = case_named(sliced[i].name);
            trial_create(&whole, row, row->large, 8);
            assert_int_equal(trial_run(&whole, &dev), OK);
            for (const char *letter = sliced[i].letters; *letter; letter++)
                bad += run_letter(&whole, isa_names[isa], *letter);
            trial_destroy(&whole);
        }
    assert_int_equal(bad, 0);
}

/* ---- what the table cannot say -------------------------------------------------------------- */

enum { COUNT = 4099, FIRST = 1237, PIECE = 1001 };

static Device device_of(const char *isa)
{
    Device dev = { 0 };
    return open_isa(&dev, isa, 2) ? dev : (Device){ 0 };
}

static void converted_slices_have_the_bits_of_the_whole(void **state)
{
    (void)state;
    static const DType types[] = { F32, BF16, F16 };
    static float numbers[COUNT];
    static char source[COUNT * 4], whole[COUNT * 4], piece[COUNT * 4];
    rng_fill_normal(rng_make(1, RNG_TEST, 0), 0, COUNT, numbers);
    for (int i = 0; i < ISA_COUNT * 9; i++) {
        const Device dev = device_of(isa_names[i / 9]);
        const DType from = types[i / 3 % 3], to = types[i % 3];
        const size_t from_bytes = dtype_bytes(from), to_bytes = dtype_bytes(to);
        if (!dev.table) continue;
        assert_int_equal(op_convert(&dev, tensor_of(source, from, SHAPE(COUNT)),
                                    tensor_of(numbers, F32, SHAPE(COUNT))),
                         OK);
        assert_int_equal(op_convert(&dev, tensor_of(whole, to, SHAPE(COUNT)),
                                    tensor_of(source, from, SHAPE(COUNT))),
                         OK);
        assert_int_equal(op_convert(&dev, tensor_of(piece, to, SHAPE(PIECE)),
                                    tensor_of(source + FIRST * from_bytes, from, SHAPE(PIECE))),
                         OK);
        assert_memory_equal(piece, whole + FIRST * to_bytes, PIECE * to_bytes);
    }
}

static void drawn_slices_have_the_bits_of_the_whole(void **state)
{
    (void)state;
    static float whole[COUNT], piece[COUNT];
    const Rng rng = rng_make(2, RNG_TEST, 7);
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        const Device dev = device_of(isa_names[isa]);
        if (!dev.table) continue;
        assert_int_equal(op_normal(&dev, tensor_of(whole, F32, SHAPE(COUNT)), rng, 0), OK);
        for (int64_t first = FIRST; first < FIRST + 5; first++) {
            assert_int_equal(
                op_normal(&dev, tensor_of(piece, F32, SHAPE(PIECE)), rng, (uint64_t)first), OK);
            assert_memory_equal(piece, whole + first, PIECE * sizeof(float));
        }
    }
}

static void looked_up_rows_do_not_know_of_each_other(void **state)
{
    (void)state;
    enum { ENTRIES = 7, WIDTH = 13, ROWS = 50 };
    float table[ENTRIES * WIDTH], whole[ROWS * WIDTH], piece[ROWS * WIDTH];
    int32_t ids[ROWS];
    rng_fill_normal(rng_make(3, RNG_TEST, 0), 0, ENTRIES * WIDTH, table);
    for (int i = 0; i < ROWS; i++) ids[i] = i * 5 % (ENTRIES + 1) - 1;
    const Tensor entries = tensor_of(table, F32, SHAPE(ENTRIES, WIDTH));
    for (int isa = 0; isa < ISA_COUNT; isa++) {
        const Device dev = device_of(isa_names[isa]);
        if (!dev.table) continue;
        assert_int_equal(op_embedding(&dev, tensor_of(whole, F32, SHAPE(ROWS, WIDTH)), entries,
                                      tensor_of(ids, I32, SHAPE(ROWS))),
                         OK);
        assert_int_equal(op_embedding(&dev, tensor_of(piece, F32, SHAPE(31, WIDTH)), entries,
                                      tensor_of(ids + 7, I32, SHAPE(31))),
                         OK);
        assert_memory_equal(piece, whole + 7 * WIDTH, 31 * WIDTH * sizeof(float));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(converted_slices_have_the_bits_of_the_whole),
        cmocka_unit_test(drawn_slices_have_the_bits_of_the_whole),
        cmocka_unit_test(looked_up_rows_do_not_know_of_each_other),
        cmocka_unit_test(slices_have_the_bits_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
