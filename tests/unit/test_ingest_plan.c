/* Which bucket a video goes to and where its clips begin. */
#include "data/ingest_plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_is_that_of_the_nearest_aspect_ratio),
        cmocka_unit_test(of_one_aspect_ratio_the_largest_that_does_not_enlarge),
        cmocka_unit_test(frames_are_the_longest_that_fit),
        cmocka_unit_test(chosen_clips_spread_over_the_video),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
