/* Which bucket a video goes to, where its clips begin, and work that finishes in order. */
#include "data/ingest_plan.h"
#include "data/ordered.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void assert_size(const OptionSizes *sizes, int width, int height, int64_t want_width,
                        int64_t want_height)
{
    const OptionSize size = ingest_choose_size(sizes, width, height);
    assert_int_equal(size.width, want_width);
    assert_int_equal(size.height, want_height);
}

static void size_is_that_of_the_nearest_aspect_ratio(void **state)
{
    (void)state;
    const OptionSizes sizes = { 3, { { 64, 64 }, { 128, 64 }, { 64, 128 } } };
    assert_size(&sizes, 640, 640, 64, 64);
    assert_size(&sizes, 1920, 1080, 128, 64); /* 16:9 is nearer to 2:1 than to 1:1, as ratios go */
    assert_size(&sizes, 1080, 1920, 64, 128);
    assert_size(&sizes, 640, 480, 64, 64);
    assert_size(&sizes, 10000, 10, 128, 64);
}

static void of_one_aspect_ratio_the_largest_that_does_not_enlarge(void **state)
{
    (void)state;
    const OptionSizes sizes = { 3, { { 128, 128 }, { 32, 32 }, { 64, 64 } } };
    assert_size(&sizes, 1000, 1000, 128, 128);
    assert_size(&sizes, 100, 100, 64, 64);
    assert_size(&sizes, 200, 120, 64, 64);
    assert_size(&sizes, 20, 20, 32, 32); /* enlarged the least */
}

static void frames_are_the_longest_that_fit(void **state)
{
    (void)state;
    const OptionInts frames = { 3, { 17, 81, 33 } };
    assert_int_equal(ingest_choose_frames(&frames, 1000), 81);
    assert_int_equal(ingest_choose_frames(&frames, 80), 33);
    assert_int_equal(ingest_choose_frames(&frames, 17), 17);
    assert_int_equal(ingest_choose_frames(&frames, 16), 0);
}

static void chosen_clips_spread_over_the_video(void **state)
{
    (void)state;
    assert_int_equal(ingest_clip_start(3, 10, 10, 17), 51);
    assert_int_equal(ingest_clip_start(0, 3, 10, 4), 0);
    assert_int_equal(ingest_clip_start(1, 3, 10, 4), 12);
    assert_int_equal(ingest_clip_start(2, 3, 10, 4), 24);
}

enum { ITEMS = 40 };

typedef struct Trace {
    int64_t order[ITEMS], count;
    int64_t fails; /* items from here on fail */
} Trace;

/* Later items are quicker, so that without waiting they would finish first. */
static Status trace_item(Ordered *order, void *context, int worker, int64_t item)
{
    Trace *trace = context;
    (void)worker;
    usleep((useconds_t)(ITEMS - item) * 50);
    if (item >= trace->fails) return status_fail(ERR_FORMAT, "item %lld", (long long)item);
    TRY(ordered_wait(order, item));
    trace->order[trace->count++] = item;
    return OK;
}

static void many_workers_finish_in_order(void **state)
{
    (void)state;
    for (int workers = 1; workers <= 8; workers *= 2) {
        Trace trace = { .fails = ITEMS };
        assert_int_equal(ordered_run(ITEMS, workers, trace_item, &trace), OK);
        assert_int_equal(trace.count, ITEMS);
        for (int64_t i = 0; i < ITEMS; i++) assert_int_equal(trace.order[i], i);
    }
}

static void the_first_failure_in_order_is_the_answer(void **state)
{
    (void)state;
    for (int workers = 1; workers <= 8; workers *= 2) {
        Trace trace = { .fails = 20 };
        assert_int_equal(ordered_run(ITEMS, workers, trace_item, &trace), ERR_FORMAT);
        assert_string_equal(status_message(), "item 20");
        assert_int_equal(trace.count, 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_is_that_of_the_nearest_aspect_ratio),
        cmocka_unit_test(of_one_aspect_ratio_the_largest_that_does_not_enlarge),
        cmocka_unit_test(frames_are_the_longest_that_fit),
        cmocka_unit_test(chosen_clips_spread_over_the_video),
        cmocka_unit_test(many_workers_finish_in_order),
        cmocka_unit_test(the_first_failure_in_order_is_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
