/* status, arena, tensor and clock: what everything stands on. */
#include "core/base/arena.h"
#include "core/base/clock.h"
#include "core/base/status.h"
#include "core/base/tensor.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <cmocka.h>

static Status check_positive(int value)
{
    CHECK(value > 0, ERR_FORMAT, "value %d is not positive", value);
    return OK;
}

static Status two_checks(int a, int b)
{
    Status s = OK;
    TRY_TO(done, s, check_positive(a));
    TRY_TO(done, s, check_positive(b));
    CHECK_TO(done, s, a != b, ERR_USAGE, "both are %d", a);
done:
    return s;
}

static void first_failure_keeps_its_message_on_the_way_up(void **state)
{
    (void)state;
    assert_int_equal(two_checks(1, 2), OK);
    assert_int_equal(two_checks(-1, -2), ERR_FORMAT);
    assert_string_equal(status_message(), "value -1 is not positive");
    assert_int_equal(two_checks(3, 3), ERR_USAGE);
    assert_string_equal(status_message(), "both are 3");
}

static void *fail_elsewhere(void *unused)
{
    (void)unused;
    (void)status_fail(ERR_IO, "another thread's");
    return NULL;
}

static void messages_belong_to_their_thread(void **state)
{
    (void)state;
    pthread_t thread;
    (void)status_fail(ERR_IO, "mine");
    assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_string_equal(status_message(), "mine");
}

static void long_messages_are_cut_not_lost(void **state)
{
    (void)state;
    char text[4000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    assert_int_equal(status_fail(ERR_FORMAT, "%s", text), ERR_FORMAT);
    assert_true(strlen(status_message()) > 500);
}

static void exit_codes_are_those_of_the_contract(void **state)
{
    (void)state;
    static const int expected[] = {
        [OK] = 0,         [ERR_USAGE] = 2,  [ERR_CONFIG] = 2, [ERR_FORMAT] = 3,   [ERR_IO] = 3,
        [ERR_MEMORY] = 4, [ERR_DEVICE] = 4, [ERR_COMM] = 4,   [ERR_DIVERGED] = 4, [ERR_STOPPED] = 75
    };
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_int_equal(status_exit_code((Status)i), expected[i]);
}

static void counting_predicts_what_is_used(void **state)
{
    (void)state;
    Arena counted = arena_counting("plan"), real = { 0 };
    Arena *arenas[] = { &counted, &real };
    for (int i = 0; i < 2; i++) {
        Arena *arena = arenas[i];
        if (i == 1) assert_int_equal(arena_create(&real, "real", counted.peak), OK);
        Tensor a, b, c;
        assert_int_equal(tensor_alloc(arena, F32, SHAPE(3, 5), "a", &a), OK);
        const size_t mark = arena_mark(arena);
        assert_int_equal(tensor_alloc(arena, BF16, SHAPE(100), "b", &b), OK);
        arena_release(arena, mark);
        assert_int_equal(tensor_alloc(arena, U8, SHAPE(7), "c", &c), OK);
        assert_true((a.data == NULL) == (i == 0));
        /* 60 and 200 bytes in units of 64: the peak was before the release */
        assert_int_equal(arena->peak, 64 + 256);
        assert_int_equal(arena->used, 64 + 64);
        assert_true(b.data == c.data);
    }
    arena_destroy(&real);
    assert_null(real.base);
}

static void memory_is_zeroed_and_aligned(void **state)
{
    (void)state;
    Arena arena;
    void *p = NULL, *q = NULL;
    assert_int_equal(arena_create(&arena, "a", 1000), OK);
    assert_int_equal(arena_alloc(&arena, 1, "p", &p), OK);
    assert_int_equal(arena_alloc(&arena, 900, "q", &q), OK);
    assert_int_equal((uintptr_t)p % ARENA_ALIGN, 0);
    assert_int_equal((uintptr_t)q % ARENA_ALIGN, 0);
    for (int i = 0; i < 900; i++) assert_int_equal(((char *)q)[i], 0);
    arena_destroy(&arena);
}

static void a_planned_arena_holds_as_much_as_a_real_one(void **state)
{
    (void)state;
    for (size_t size = 0; size <= 300; size += 60) {
        Arena planned = arena_planned("a", size), real;
        void *p = &planned;
        assert_int_equal(arena_create(&real, "a", size), OK);
        assert_int_equal(planned.size, real.size);
        assert_int_equal(arena_alloc(&planned, real.size, "all", &p), OK);
        assert_null(p);
        assert_int_equal(arena_alloc(&planned, 1, "more", &p), ERR_MEMORY);
        arena_destroy(&planned);
        arena_destroy(&real);
    }
}

static void add_bytes(void *context, const char *name, size_t bytes)
{
    if (strcmp(name, "seen") == 0) *(size_t *)context += bytes;
}

static void watchers_are_told_what_is_used(void **state)
{
    (void)state;
    size_t seen = 0;
    const ArenaWatcher watcher = { &seen, add_bytes };
    Arena arena = arena_counting("a");
    void *p;
    arena.watcher = &watcher;
    assert_int_equal(arena_alloc(&arena, 65, "seen", &p), OK);
    assert_int_equal(arena_alloc(&arena, 1, "other", &p), OK);
    assert_int_equal(seen, 2 * ARENA_ALIGN);
    assert_int_equal(arena.used, 3 * ARENA_ALIGN);
}

static void too_much_names_arena_and_tensor(void **state)
{
    (void)state;
    Arena arena;
    Tensor t = tensor_none();
    void *p = NULL;
    assert_int_equal(arena_create(&arena, "activations", 128), OK);
    assert_int_equal(tensor_alloc(&arena, F32, SHAPE(33), "attention.lse", &t), ERR_MEMORY);
    assert_string_equal(status_message(),
                        "arena activations: attention.lse needs 132 bytes, 128 of 128 are left");
    assert_null(t.data);
    assert_int_equal(arena.used, 0);
    /* a size that rounds past the end of the address space is not small */
    assert_int_equal(arena_alloc(&arena, SIZE_MAX - 3, "huge", &p), ERR_MEMORY);
    arena_destroy(&arena);
    assert_int_equal(arena_create(&arena, "impossible", (size_t)1 << 62), ERR_MEMORY);
    assert_string_equal(status_message(),
                        "arena impossible: 4398046511104.0 MiB could not be reserved");
    arena_destroy(NULL);
}

static void views_share_memory_and_know_their_shape(void **state)
{
    (void)state;
    float values[2 * 3 * 4];
    for (int i = 0; i < 24; i++) values[i] = (float)i;
    const Tensor t = tensor_of(values, F32, SHAPE(2, 3, 4));
    assert_int_equal(tensor_count(t), 24);
    assert_int_equal(tensor_bytes(t), 96);
    assert_int_equal(tensor_rows(t), 6);
    assert_int_equal(tensor_width(t), 4);
    assert_int_equal(t.shape[3], 1);

    const Tensor second = tensor_at(t, 1);
    assert_int_equal(second.ndim, 2);
    assert_true(tensor_f32(second)[0] == 12);
    assert_int_equal(second.shape[0], 3);
    assert_int_equal(second.shape[2], 1);

    const Tensor rows = tensor_slice(tensor_reshape(t, SHAPE(6, 4)), 2, 3);
    assert_true(tensor_f32(rows)[0] == 8);
    assert_int_equal(rows.shape[0], 3);
    assert_int_equal(tensor_count(tensor_slice(t, 2, 0)), 0);
    assert_int_equal(tensor_count(tensor_none()), 0);
}

static void descriptions_name_shape_and_type(void **state)
{
    (void)state;
    char text[96];
    assert_string_equal(tensor_describe(tensor_of(NULL, F32, SHAPE(8, 80, 256)), text),
                        "(8, 80, 256) F32");
    const int64_t big = INT64_C(-9223372036854775807);
    (void)tensor_describe(tensor_of(NULL, BF16, SHAPE(big, big, big, big, big)), text);
    assert_true(strlen(text) < sizeof text);
    static const size_t bytes[] = { 4, 2, 2, 8, 4, 8, 1 };
    static const char *const names[] = { "F32", "BF16", "F16", "F64", "I32", "I64", "U8" };
    for (int d = 0; d < DTYPE_COUNT; d++) {
        assert_int_equal(dtype_bytes((DType)d), bytes[d]);
        assert_string_equal(dtype_name((DType)d), names[d]);
    }
}

static void a_process_knows_its_age_whatever_its_name(void **state)
{
    (void)state;
    assert_int_equal(prctl(PR_SET_NAME, "a) 1 (2 3"), 0);
    const double before = clock_process_age(), start = clock_seconds();
    while (clock_seconds() - start < 0.05) {
    }
    const double after = clock_process_age();
    assert_true(before > 0 && before < 600);
    assert_true(after - before > 0.045 && after - before < 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_failure_keeps_its_message_on_the_way_up),
        cmocka_unit_test(messages_belong_to_their_thread),
        cmocka_unit_test(long_messages_are_cut_not_lost),
        cmocka_unit_test(exit_codes_are_those_of_the_contract),
        cmocka_unit_test(counting_predicts_what_is_used),
        cmocka_unit_test(memory_is_zeroed_and_aligned),
        cmocka_unit_test(a_planned_arena_holds_as_much_as_a_real_one),
        cmocka_unit_test(watchers_are_told_what_is_used),
        cmocka_unit_test(too_much_names_arena_and_tensor),
        cmocka_unit_test(views_share_memory_and_know_their_shape),
        cmocka_unit_test(descriptions_name_shape_and_type),
        cmocka_unit_test(a_process_knows_its_age_whatever_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
