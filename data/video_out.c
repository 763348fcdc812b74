#include "data/video_out.h"

#include "core/base/file.h"
#include "data/video_file.h"
#include "data/video_folder.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FPS_MAX = 1000 };

struct VideoOut {
    VideoOutOptions options; /* title and comment are not kept */
    VideoFile *file;         /* owned; one of the two is there */
    VideoFolder *folder;     /* owned */
    int64_t frames;
};

Status video_format_parse(const char *name, VideoFormat *out)
{
    static const char *const names[] = { "mp4", "apng", "png" };

    for (int i = 0; i < 3; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (VideoFormat)i;
            return OK;
        }
    }
    return status_fail(ERR_USAGE, "unknown format \"%s\": use mp4, apng or png", name);
}

Status video_out_check_path(const char *path, VideoFormat format)
{
    if (format == VIDEO_FRAMES) return video_folder_check(path);
    CHECK(file_kind(path) != FILE_FOLDER, ERR_USAGE, "%s: is a folder, not a file to write", path);
    return OK;
}

Status video_out_open(const char *path, const VideoOutOptions *options, VideoOut **out)
{
    VideoOut *video;
    Status s;

    CHECK(isfinite(options->fps) && options->fps > 0 && options->fps <= FPS_MAX, ERR_USAGE,
          "%s: cannot write %g frames per second: use a number above 0, up to %d", path,
          options->fps, FPS_MAX);
    TRY(video_out_check_path(path, options->format));
    video = calloc(1, sizeof(*video));
    CHECK(video, ERR_MEMORY, "no memory to write %s", path);
    video->options = *options;
    video->options.title = video->options.comment = NULL;

    s = options->format == VIDEO_FRAMES ? video_folder_open(path, options, &video->folder)
                                        : video_file_open(path, options, &video->file);
    if (s != OK) {
        free(video);
        return s;
    }
    *out = video;
    return OK;
}

Status video_out_push(VideoOut *video, Tensor frames)
{
    const VideoOutOptions *o = &video->options;

    assert(frames.dtype == U8 && frames.ndim == 4 && frames.shape[3] == 3);
    assert(frames.shape[1] == o->height && frames.shape[2] == o->width);
    (void)o;
    for (int64_t i = 0; i < frames.shape[0]; i++) {
        const uint8_t *rgb = tensor_at(frames, i).data;
        TRY(video->file ? video_file_push(video->file, rgb)
                        : video_folder_push(video->folder, rgb));
        video->frames++;
    }
    return OK;
}

Status video_out_commit(VideoOut *video)
{
    Status s;

    if (video->frames == 0) {
        video_out_abort(video);
        return status_fail(ERR_USAGE, "a video without frames cannot be written");
    }
    s = video->file ? video_file_commit(video->file) : video_folder_commit(video->folder);
    free(video);
    return s;
}

void video_out_abort(VideoOut *video)
{
    if (!video) return;
    video_file_abort(video->file);
    video_folder_abort(video->folder);
    free(video);
}
