/*
 * video_out: frames to a video file, streamed.
 *
 * Owns libav's encoding half. The bytes are a function of the frames and the options alone: no
 * times, no library names, one thread. The file is written as PATH.tmp, synced and renamed by
 * video_out_commit; until then, and after an error, nothing is under PATH.
 */
#ifndef ZT_DATA_VIDEO_OUT_H
#define ZT_DATA_VIDEO_OUT_H

#include "core/base/status.h"
#include "core/base/tensor.h"

typedef enum VideoFormat {
    VIDEO_MP4,    /* H.264, yuv420p, faststart */
    VIDEO_APNG,   /* animated PNG: lossless, for small previews */
    VIDEO_FRAMES, /* a folder of frame-00001.png ... */
} VideoFormat;

/* "mp4", "apng", "png". ERR_USAGE lists the names. */
Status video_format_parse(const char *name, VideoFormat *out);

typedef struct VideoOutOptions {
    VideoFormat format;
    int width, height; /* of MP4: even */
    double fps;
    const char *title;   /* UTF-8, or NULL */
    const char *comment; /* UTF-8, or NULL: the request's parameters as JSON */
} VideoOutOptions;

typedef struct VideoOut VideoOut;

/* Whether a video may be put under this name: ERR_USAGE for a folder where a file should be, a file
 * where a folder should be, and a folder of frames that is not empty. */
Status video_out_check_path(const char *path, VideoFormat format);

/* Everything is checked before anything is written. ERR_USAGE for sizes, rates and what
 * video_out_check_path says; ERR_IO; ERR_DEVICE when libav has no such encoder. */
Status video_out_open(const char *path, const VideoOutOptions *options, VideoOut **out);
/* frames (frames, height, width, 3) U8, RGB; any number of them. */
Status video_out_push(VideoOut *video, Tensor frames);
/* Finishes, syncs and renames; frees `video` whatever happens. ERR_USAGE when no frame came. */
Status video_out_commit(VideoOut *video);
/* Drops what was written and frees `video`; NULL is fine. */
void video_out_abort(VideoOut *video);

#endif
