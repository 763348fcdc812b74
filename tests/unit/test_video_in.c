/* Decoding: frames at the right times, the right part of the picture, and bad files named.
 *
 * Videos are YUV4MPEG2 written here byte by byte: every picture is one flat grey whose level tells
 * its number, so that what comes out says which frame was chosen. */
#include "core/base/file.h"
#include "data/video_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { FRAMES = 40, FPS = 20, WIDTH = 64, HEIGHT = 32 };

typedef struct Fixture {
    char folder[64], path[128];
} Fixture;

static int set_up(void **state)
{
    Fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    strcpy(f->folder, "/tmp/zoetrope-video-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/a.y4m", f->folder);
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

/* Luma of frame `i`, and the grey that it becomes: (luma - 16) * 255 / 219. */
static int luma_of(int i)
{
    return 30 + 4 * i;
}

static int grey_of(int i)
{
    return ((luma_of(i) - 16) * 255 + 109) / 219;
}

/* The left quarter of the picture is black. aspect: of the pixels. */
static void write_video(const Fixture *f, int frames, const char *aspect)
{
    FILE *file = fopen(f->path, "wb");
    assert_non_null(file);
    fprintf(file, "YUV4MPEG2 W%d H%d F%d:1 Ip A%s C444\n", WIDTH, HEIGHT, FPS, aspect);
    for (int i = 0; i < frames; i++) {
        fprintf(file, "FRAME\n");
        for (int k = 0; k < WIDTH * HEIGHT; k++) {
            fputc(k % WIDTH < WIDTH / 4 ? 16 : luma_of(i), file);
        }
        for (int k = 0; k < 2 * WIDTH * HEIGHT; k++) fputc(128, file);
    }
    assert_int_equal(fclose(file), 0);
}

static VideoReader *open_video(const Fixture *f)
{
    VideoReader *video;
    if (video_open(f->path, 1, &video) != OK) fail_msg("%s", status_message());
    return video;
}

static void info_is_what_the_file_holds(void **state)
{
    const Fixture *f = *state;
    write_video(f, FRAMES, "1:1");
    VideoReader *video = open_video(f);
    const VideoInfo *info = video_info(video);
    assert_int_equal(info->width, WIDTH);
    assert_int_equal(info->height, HEIGHT);
    assert_int_equal(info->frames, FRAMES);
    assert_true(info->fps > FPS - 0.01 && info->fps < FPS + 0.01);
    assert_true(info->duration_s > 1.999 && info->duration_s < 2.001);
    video_close(video);
}

/* Frame shown at i / fps: the nearest in time, the earlier of two that are as near. */
static void every_rate_gives_the_nearest_frames(void **state)
{
    const Fixture *f = *state;
    write_video(f, FRAMES, "1:1");
    const double rates[] = { 20, 10, 8, 5, 30, 60, 1, 0.4 };
    for (size_t r = 0; r < sizeof rates / sizeof *rates; r++) {
        VideoReader *video = open_video(f);
        VideoCrop crop;
        const int64_t count = video_count_frames(video, rates[r]);
        assert_int_equal(count, (int64_t)(2 * rates[r] + 0.999));
        assert_int_equal(video_set_output(video, rates[r], 32, 32, &crop), OK);
        for (int64_t i = 0; i < count; i++) {
            uint8_t rgb[32 * 32 * 3];
            bool end;
            assert_int_equal(video_next(video, rgb, &end), OK);
            assert_false(end);
            const double at = (double)i / rates[r] * FPS;
            int nearest = (int)(at + 0.5 - 1e-6);
            if (nearest > FRAMES - 1) nearest = FRAMES - 1;
            /* rounding of two conversions */
            assert_in_range(rgb[(16 * 32 + 24) * 3], grey_of(nearest) - 1, grey_of(nearest) + 1);
        }
        uint8_t rgb[32 * 32 * 3];
        bool end;
        assert_int_equal(video_next(video, rgb, &end), OK);
        assert_true(end);
        video_close(video);
    }
}

static VideoCrop crop_of(const Fixture *f, int width, int height)
{
    VideoReader *video = open_video(f);
    VideoCrop crop;
    assert_int_equal(video_set_output(video, 10, width, height, &crop), OK);
    video_close(video);
    return crop;
}

static void the_middle_of_the_picture_is_kept(void **state)
{
    const Fixture *f = *state;
    write_video(f, 3, "1:1");
    VideoCrop crop = crop_of(f, 32, 32); /* 64x32 to a square */
    assert_int_equal(crop.x, 16);
    assert_int_equal(crop.y, 0);
    assert_int_equal(crop.width, 32);
    assert_int_equal(crop.height, 32);
    crop = crop_of(f, 64, 16); /* wider than the picture */
    assert_int_equal(crop.x, 0);
    assert_int_equal(crop.y, 8);
    assert_int_equal(crop.width, 64);
    assert_int_equal(crop.height, 16);

    /* the black quarter, columns 0 .. 15, is what the square cuts away */
    VideoReader *video = open_video(f);
    uint8_t rgb[32 * 32 * 3];
    bool end;
    assert_int_equal(video_set_output(video, 10, 32, 32, &crop), OK);
    assert_int_equal(video_next(video, rgb, &end), OK);
    for (int i = 0; i < 32 * 32 * 3; i++) {
        assert_in_range(rgb[i], grey_of(0) - 1, grey_of(0) + 1);
    }
    video_close(video);
}

static void wide_pixels_are_made_square(void **state)
{
    const Fixture *f = *state;
    write_video(f, 3, "2:1");
    VideoReader *video = open_video(f);
    assert_int_equal(video_info(video)->width, 2 * WIDTH);
    assert_int_equal(video_info(video)->height, HEIGHT);
    video_close(video);
    const VideoCrop crop = crop_of(f, 64, 64);
    assert_int_equal(crop.x, 48);
    assert_int_equal(crop.width, 32);
}

/* The message must name the file and say `what`. */
static void refuse(const char *path, Status status, const char *what)
{
    VideoReader *video;
    assert_int_equal(video_open(path, 1, &video), status);
    if (!strstr(status_message(), path) || !strstr(status_message(), what)) {
        fail_msg("%s: \"%s\" in: %s", path, what, status_message());
    }
}

static void put(const Fixture *f, const char *text)
{
    assert_int_equal(file_write(f->path, text, strlen(text)), OK);
}

static void what_is_no_video_is_refused(void **state)
{
    const Fixture *f = *state;
    refuse("/nonexistent/a.mp4", ERR_IO, "No such file");
    refuse(f->folder, ERR_FORMAT, "not a video");
    put(f, "");
    refuse(f->path, ERR_FORMAT, "not a video");
    put(f, "a caption, and no video at all\n");
    refuse(f->path, ERR_FORMAT, "not a video");
    /* a playlist is not followed to other files or hosts */
    put(f, "#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n");
    refuse(f->path, ERR_FORMAT, "not a video");
    put(f, "ffconcat version 1.0\nfile /etc/passwd\n");
    refuse(f->path, ERR_FORMAT, "not a video");
}

static void absurd_headers_are_refused_before_allocation(void **state)
{
    const Fixture *f = *state;
    put(f, "YUV4MPEG2 W100000 H100000 F20:1 Ip A1:1 C420\nFRAME\n");
    refuse(f->path, ERR_FORMAT, "");
    put(f, "YUV4MPEG2 W20000 H16 F20:1 Ip A1:1 C420\nFRAME\n");
    refuse(f->path, ERR_FORMAT, "20000 x 16");
    put(f, "YUV4MPEG2 W16000 H16000 F20:1 Ip A1:1 C420\nFRAME\n");
    refuse(f->path, ERR_FORMAT, "16000 x 16000");
}

static void a_video_without_frames_is_refused(void **state)
{
    const Fixture *f = *state;
    put(f, "YUV4MPEG2 W64 H32 F20:1 Ip A1:1 C444\n");
    refuse(f->path, ERR_FORMAT, "no frames");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(info_is_what_the_file_holds),       TEST(every_rate_gives_the_nearest_frames),
        TEST(the_middle_of_the_picture_is_kept), TEST(wide_pixels_are_made_square),
        TEST(what_is_no_video_is_refused),       TEST(absurd_headers_are_refused_before_allocation),
        TEST(a_video_without_frames_is_refused),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
