#include "data/frames_in.h"

#include "data/video_in.h"

#include <stdio.h>
#include <stdlib.h>

/* The same failure, with the option that named the file. */
static Status named(const char *what, Status status)
{
    char why[1024];
    if (status == OK) return OK;
    (void)snprintf(why, sizeof why, "%s", status_message());
    return status_fail(status, "%s %s", what, why);
}

/* Skips what comes before the wanted frames, then keeps them. */
static Status read_all(VideoReader *video, const char *path, int64_t skip, Tensor rgb)
{
    bool end = false;
    for (int64_t i = 0; i < skip + rgb.shape[0]; i++) {
        const int64_t at = i < skip ? 0 : i - skip;
        TRY(video_next(video, tensor_at(rgb, at).data, &end));
        CHECK(!end, ERR_FORMAT, "%s: ends after %lld frames", path, (long long)i);
    }
    return OK;
}

static Status read_wanted(VideoReader *video, const char *path, const FramesWanted *w, Frames *out)
{
    const VideoInfo *info = video_info(video);
    const int64_t width = w->width > 0 ? w->width : info->width;
    const int64_t height = w->height > 0 ? w->height : info->height;
    VideoCrop crop;
    const int64_t there = video_count_frames(video, w->fps);
    const int64_t count = there < w->most ? there : w->most;
    CHECK(there >= w->least, ERR_USAGE, "%s: has %lld frames at %g a second, %lld are wanted", path,
          (long long)there, w->fps, (long long)w->least);
    TRY(video_set_output(video, w->fps, (int)width, (int)height, &crop));
    out->rgb = tensor_of(NULL, U8, SHAPE(count, height, width, 3));
    out->rgb.data = malloc(tensor_bytes(out->rgb));
    CHECK(out->rgb.data, ERR_MEMORY, "%s: no memory for %lld frames", path, (long long)count);
    return read_all(video, path, w->from_end ? there - count : 0, out->rgb);
}

Status frames_read(const char *path, const FramesWanted *wanted, Frames *out)
{
    VideoReader *video = NULL;
    Frames frames = { 0 };
    Status s = video_open(path, 1, &video);
    if (s == OK) s = read_wanted(video, path, wanted, &frames);
    video_close(video);
    if (s == OK)
        *out = frames;
    else
        frames_destroy(&frames);
    return named(wanted->what, s);
}

Status frames_size(const char *path, const char *what, int64_t *width, int64_t *height)
{
    VideoReader *video = NULL;
    const Status s = video_open(path, 1, &video);
    if (s == OK) {
        *width = video_info(video)->width;
        *height = video_info(video)->height;
    }
    video_close(video);
    return named(what, s);
}

void frames_destroy(Frames *frames)
{
    free(frames->rgb.data);
    *frames = (Frames){ 0 };
}
