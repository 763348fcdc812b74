/* Videos are written whole or not at all, the same bytes every time, and read back as they were. */
#include "core/base/file.h"
#include "data/video_in.h"
#include "data/video_out.h"
#include "tests/support/decode.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

enum { WIDTH = 64, HEIGHT = 48, FRAMES = 17 };

typedef struct Fixture {
    char folder[64], path[128];
    uint8_t frames[FRAMES][HEIGHT][WIDTH][3];
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof(*f));

    assert_non_null(f);
    strcpy(f->folder, "/tmp/zoetrope-video-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof(f->path), "%s/odd: name.mp4", f->folder);
    /* smooth in space, moving in time: what a codec keeps */
    for (int t = 0; t < FRAMES; t++) {
        for (int y = 0; y < HEIGHT; y++) {
            for (int x = 0; x < WIDTH; x++) {
                for (int c = 0; c < 3; c++) {
                    f->frames[t][y][x][c] =
                        (uint8_t)(128 + 80 * sin(0.1 * x + 0.07 * y + 0.3 * t + c));
                }
            }
        }
    }
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *f = *state;

    assert_int_equal(file_remove_tree(f->folder), OK);
    free(f);
    return 0;
}

static VideoOutOptions options_of(VideoFormat format)
{
    return (VideoOutOptions){ .format = format,
                              .width = WIDTH,
                              .height = HEIGHT,
                              .fps = 8,
                              .title = "a title",
                              .comment = "{\"seed\": 7, \"prompt\": \"caf\xc3\xa9\"}" };
}

/* In groups of 1, 4, 4, ...: as the codec gives them. */
static Status write_video(Fixture *f, const char *path, VideoOutOptions options)
{
    VideoOut *video = NULL;

    TRY(video_out_open(path, &options, &video));
    for (int t = 0; t < FRAMES;) {
        const int count = t == 0 ? 1 : 4;
        const Status s =
            video_out_push(video, tensor_of(f->frames[t], U8, SHAPE(count, HEIGHT, WIDTH, 3)));
        if (s != OK) {
            video_out_abort(video);
            return s;
        }
        t += count;
    }
    return video_out_commit(video);
}

static int entries(const char *folder)
{
    FileList list = { 0 };
    int count;

    assert_int_equal(file_list(folder, &list), OK);
    count = (int)list.count;
    file_list_destroy(&list);
    return count;
}

static bool holds(const char *path, const char *text)
{
    char *bytes = NULL;
    size_t length = 0;
    bool found;

    assert_int_equal(file_read(path, 1 << 24, &bytes, &length), OK);
    found = memmem(bytes, length, text, strlen(text)) != NULL;
    free(bytes);
    return found;
}

static double psnr_of_file(Fixture *f, const char *path)
{
    static uint8_t rgb[HEIGHT * WIDTH * 3];
    VideoReader *video = NULL;
    VideoCrop crop;
    bool end = false;
    double sum = 0;
    int count = 0;

    assert_int_equal(video_open(path, 1, &video), OK);
    assert_int_equal(video_info(video)->width, WIDTH);
    assert_int_equal(video_info(video)->height, HEIGHT);
    assert_int_equal(video_info(video)->frames, FRAMES);
    assert_true(fabs(video_info(video)->fps - 8) < 1e-6);
    assert_int_equal(video_set_output(video, 8, WIDTH, HEIGHT, &crop), OK);
    for (;;) {
        assert_int_equal(video_next(video, rgb, &end), OK);
        if (end) break;
        assert_true(count < FRAMES);
        for (int i = 0; i < HEIGHT * WIDTH * 3; i++) {
            const double d = (double)rgb[i] - ((uint8_t *)f->frames[count])[i];
            sum += d * d;
        }
        count++;
    }
    video_close(video);
    assert_int_equal(count, FRAMES);
    return 10 * log10(255 * 255 / (sum / (FRAMES * HEIGHT * WIDTH * 3) + 1e-12));
}

static void mp4_reads_back_with_size_count_rate_and_picture(void **state)
{
    Fixture *f = *state;

    assert_int_equal(write_video(f, f->path, options_of(VIDEO_MP4)), OK);
    /* crf 18 on smooth pictures, colours at half resolution: far above the 20 dB of a shifted or
     * swapped picture */
    assert_true(psnr_of_file(f, f->path) > 34);
    /* a player that honours the edit list must see the last frame, too */
    assert_int_equal(decode_file(f->path, WIDTH, HEIGHT, 0, NULL), FRAMES);
}

static void mp4_starts_fast_and_carries_the_request(void **state)
{
    Fixture *f = *state;
    char *bytes = NULL;
    size_t length = 0;
    const char *moov, *mdat;

    assert_int_equal(write_video(f, f->path, options_of(VIDEO_MP4)), OK);
    assert_int_equal(file_read(f->path, 1 << 24, &bytes, &length), OK);
    moov = memmem(bytes, length, "moov", 4);
    mdat = memmem(bytes, length, "mdat", 4);
    assert_true(moov && mdat && moov < mdat);
    free(bytes);
    assert_true(holds(f->path, "{\"seed\": 7, \"prompt\": \"caf\xc3\xa9\"}"));
    assert_true(holds(f->path, "a title"));
}

static void apng_reads_back_exactly_and_carries_the_request(void **state)
{
    static uint8_t rgb[FRAMES * HEIGHT * WIDTH * 3];
    Fixture *f = *state;

    snprintf(f->path, sizeof(f->path), "%s/a.apng", f->folder);
    assert_int_equal(write_video(f, f->path, options_of(VIDEO_APNG)), OK);
    assert_int_equal(decode_file(f->path, WIDTH, HEIGHT, FRAMES, rgb), FRAMES);
    assert_memory_equal(rgb, f->frames, sizeof(rgb)); /* lossless */
    assert_true(holds(f->path, "{\"seed\": 7, \"prompt\": \"caf\xc3\xa9\"}"));
}

static void frames_become_numbered_pictures(void **state)
{
    static uint8_t rgb[HEIGHT * WIDTH * 3];
    Fixture *f = *state;
    char frame[256];

    snprintf(f->path, sizeof(f->path), "%s/frames", f->folder);
    assert_int_equal(write_video(f, f->path, options_of(VIDEO_FRAMES)), OK);
    assert_int_equal(entries(f->path), FRAMES);
    assert_int_equal(entries(f->folder), 1);
    snprintf(frame, sizeof(frame), "%s/frame-00017.png", f->path);
    assert_int_equal(decode_file(frame, WIDTH, HEIGHT, 1, rgb), 1);
    assert_memory_equal(rgb, f->frames[FRAMES - 1], sizeof(rgb));
    assert_true(holds(frame, "{\"seed\": 7, \"prompt\": \"caf\xc3\xa9\"}"));
    /* what is there is never replaced */
    assert_int_equal(write_video(f, f->path, options_of(VIDEO_FRAMES)), ERR_USAGE);
    assert_int_equal(entries(f->path), FRAMES);
}

static void the_same_frames_give_the_same_bytes(void **state)
{
    Fixture *f = *state;

    for (int format = VIDEO_MP4; format <= VIDEO_APNG; format++) {
        char *first = NULL, *second = NULL;
        size_t first_length = 0, second_length = 0;

        assert_int_equal(write_video(f, f->path, options_of((VideoFormat)format)), OK);
        assert_int_equal(file_read(f->path, 1 << 24, &first, &first_length), OK);
        sleep(1); /* a time of day in the file would differ */
        assert_int_equal(write_video(f, f->path, options_of((VideoFormat)format)), OK);
        assert_int_equal(file_read(f->path, 1 << 24, &second, &second_length), OK);
        assert_int_equal(first_length, second_length);
        assert_memory_equal(first, second, first_length);
        free(first);
        free(second);
    }
}

static void odd_sizes_and_rates_are_refused(void **state)
{
    Fixture *f = *state;
    VideoOutOptions odd = options_of(VIDEO_MP4), rate = options_of(VIDEO_MP4);
    VideoOut *video = NULL;

    odd.width = 63;
    assert_int_equal(video_out_open(f->path, &odd, &video), ERR_USAGE);
    assert_non_null(strstr(status_message(), "63x48"));
    rate.fps = 0;
    assert_int_equal(video_out_open(f->path, &rate, &video), ERR_USAGE);
    rate.fps = NAN;
    assert_int_equal(video_out_open(f->path, &rate, &video), ERR_USAGE);
    assert_int_equal(entries(f->folder), 0);
}

static void no_frames_abort_and_missing_folders_leave_nothing(void **state)
{
    Fixture *f = *state;
    const VideoOutOptions options = options_of(VIDEO_MP4);
    VideoOut *video = NULL;
    char path[256];

    assert_int_equal(video_out_open(f->path, &options, &video), OK);
    assert_int_equal(video_out_commit(video), ERR_USAGE);
    assert_int_equal(entries(f->folder), 0);

    assert_int_equal(video_out_open(f->path, &options, &video), OK);
    assert_int_equal(
        video_out_push(video, tensor_of(f->frames, U8, SHAPE(FRAMES, HEIGHT, WIDTH, 3))), OK);
    video_out_abort(video);
    assert_int_equal(entries(f->folder), 0);

    snprintf(path, sizeof(path), "%s/absent/a.mp4", f->folder);
    assert_int_equal(video_out_open(path, &options, &video), ERR_IO);
    assert_int_equal(entries(f->folder), 0);
}

/* A file size limit stands for a full disk: a write is refused in the middle. */
static void a_full_disk_is_named_and_leaves_the_old_file(void **state)
{
    Fixture *f = *state;
    struct rlimit old, tight;
    char *before = NULL, *after = NULL;
    size_t before_length = 0, after_length = 0;

    assert_int_equal(write_video(f, f->path, options_of(VIDEO_MP4)), OK);
    assert_int_equal(file_read(f->path, 1 << 24, &before, &before_length), OK);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    for (int format = VIDEO_MP4; format <= VIDEO_FRAMES; format++) {
        char path[256];
        Status s;

        snprintf(path, sizeof(path), "%s%s", f->path, format == VIDEO_FRAMES ? "-frames" : "");
        tight.rlim_cur = 1000;
        setrlimit(RLIMIT_FSIZE, &tight);
        s = write_video(f, path, options_of((VideoFormat)format));
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(s, ERR_IO);
        assert_non_null(strstr(status_message(), strerror(EFBIG)));
        assert_int_equal(entries(f->folder), 1);
    }
    assert_int_equal(file_read(f->path, 1 << 24, &after, &after_length), OK);
    assert_int_equal(before_length, after_length);
    assert_memory_equal(before, after, before_length);
    free(before);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(mp4_reads_back_with_size_count_rate_and_picture, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(mp4_starts_fast_and_carries_the_request, set_up, tear_down),
        cmocka_unit_test_setup_teardown(apng_reads_back_exactly_and_carries_the_request, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(frames_become_numbered_pictures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_frames_give_the_same_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(odd_sizes_and_rates_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_frames_abort_and_missing_folders_leave_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_full_disk_is_named_and_leaves_the_old_file, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("video_out", tests, NULL, NULL);
}
