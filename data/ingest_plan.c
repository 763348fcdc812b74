#include "data/ingest_plan.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* How far two aspect ratios are apart: 2:1 and 1:2 are as far from 1:1. */
static double aspect_distance(OptionSize size, int width, int height)
{
    return fabs(log((double)size.width / (double)size.height) - log((double)width / height));
}

/* Of two sizes with the same aspect ratio. */
static bool is_better_area(OptionSize a, OptionSize b, int width, int height)
{
    const bool a_fits = a.width <= width && a.height <= height;
    const bool b_fits = b.width <= width && b.height <= height;
    if (a_fits != b_fits) return a_fits;
    return a_fits ? a.width > b.width : a.width < b.width;
}

OptionSize ingest_choose_size(const OptionSizes *sizes, int width, int height)
{
    OptionSize best = sizes->items[0];
    for (int i = 1; i < sizes->count; i++) {
        const OptionSize size = sizes->items[i];
        const double gain =
            aspect_distance(best, width, height) - aspect_distance(size, width, height);
        const bool same_aspect = size.width * best.height == best.width * size.height;
        if (same_aspect ? is_better_area(size, best, width, height) : gain > 0) best = size;
    }
    return best;
}

int64_t ingest_choose_frames(const OptionInts *frames, int64_t available)
{
    int64_t best = 0;
    for (int i = 0; i < frames->count; i++) {
        const int64_t n = frames->items[i];
        if (n <= available && n > best) best = n;
    }
    return best;
}

int64_t ingest_clip_start(int64_t clip, int64_t clips, int64_t windows, int64_t stride)
{
    return clip * windows / clips * stride;
}

/* The window of frames that moves over the video. */
typedef struct Window {
    uint8_t *pixels; /* owned; (capacity, height, width, 3) */
    int64_t capacity;
    size_t frame_bytes;
    int64_t first, count; /* frames that it holds */
} Window;

/* Makes the window hold frames [start, start + capacity): start never goes back. */
static Status window_move(Window *w, VideoReader *reader, const char *path, int64_t start)
{
    const int64_t drop = start - w->first < w->count ? start - w->first : w->count;
    memmove(w->pixels, w->pixels + (size_t)drop * w->frame_bytes,
            (size_t)(w->count - drop) * w->frame_bytes);
    w->first += drop;
    w->count -= drop;
    while (w->first < start || w->count < w->capacity) {
        bool end;
        TRY(video_next(reader, w->pixels + (size_t)w->count * w->frame_bytes, &end));
        CHECK(!end, ERR_FORMAT, "%s: ends at frame %lld, before its timestamps do", path,
              (long long)(w->first + w->count));
        /* frames between two clips are read into the same place and forgotten */
        if (w->first < start)
            w->first++;
        else
            w->count++;
    }
    return OK;
}

/* Frames of the video, or of as much of it as was asked for. */
static int64_t usable_frames(const IngestOptions *opt, const VideoReader *reader)
{
    const int64_t all = video_count_frames(reader, opt->fps);
    const double most = opt->seconds * opt->fps;
    return opt->seconds > 0 && most < (double)all ? (int64_t)most : all;
}

static Status cut_clips(const IngestOptions *opt, VideoReader *reader, IngestVideo *video,
                        IngestClipFn on_clip, void *context)
{
    const int64_t available = usable_frames(opt, reader);
    const int64_t stride = opt->stride > 0 ? opt->stride : video->frames;
    const int64_t windows = 1 + (available - video->frames) / stride;
    const bool some = opt->max_clips > 0 && opt->max_clips < windows;
    video->clips = some ? opt->max_clips : windows;

    const size_t frame_bytes = (size_t)video->size.width * (size_t)video->size.height * 3;
    Window w = { .capacity = video->frames, .frame_bytes = frame_bytes };
    w.pixels = malloc((size_t)video->frames * frame_bytes);
    CHECK(w.pixels, ERR_MEMORY, "%s: no memory for %lld frames of %lld x %lld",
          video->source->video, (long long)video->frames, (long long)video->size.width,
          (long long)video->size.height);
    const Tensor frames =
        tensor_of(w.pixels, U8, SHAPE(video->frames, video->size.height, video->size.width, 3));
    Status s = OK;
    for (int64_t clip = 0; s == OK && clip < video->clips; clip++) {
        const int64_t start = ingest_clip_start(clip, video->clips, windows, stride);
        s = window_move(&w, reader, video->source->video, start);
        if (s == OK) s = on_clip(context, start, frames);
    }
    free(w.pixels);
    return s;
}

static Status choose_bucket(const IngestOptions *opt, const VideoReader *reader, IngestVideo *video)
{
    const VideoInfo *info = video_info(reader);
    const int64_t available = usable_frames(opt, reader);
    video->size = ingest_choose_size(&opt->sizes, info->width, info->height);
    video->frames = ingest_choose_frames(&opt->frames, available);
    if (video->frames > 0) return OK;
    int64_t least = opt->frames.items[0];
    for (int i = 1; i < opt->frames.count; i++) {
        if (opt->frames.items[i] < least) least = opt->frames.items[i];
    }
    return status_fail(ERR_FORMAT,
                       "%s: shorter than a clip: %.2f s are %lld frames at %g fps, a "
                       "clip has %lld",
                       video->source->video, info->duration_s, (long long)available, opt->fps,
                       (long long)least);
}

Status ingest_cut_video(const IngestOptions *opt, int threads, IngestVideo *video,
                        IngestClipFn on_clip, void *context)
{
    VideoReader *reader;
    TRY(video_open(video->source->video, threads, &reader));
    Status s = choose_bucket(opt, reader, video);
    if (s == OK) {
        s = video_set_output(reader, opt->fps, (int)video->size.width, (int)video->size.height,
                             &video->crop);
    }
    if (s == OK) s = cut_clips(opt, reader, video, on_clip, context);
    video_close(reader);
    return s;
}
