/*
 * video_in: videos as RGB frames at a wanted rate and size. Owner of libav for decoding.
 *
 * A video is first scanned: every packet's timestamp is read (no decoding), so that the length is
 * what the file holds and not what its header promises; then it is decoded from the start, frame
 * after frame. Output frame i is the one on screen nearest to the time i / fps. The picture is
 * turned upright, its pixels made square, resized to cover the wanted size and cropped at the
 * centre. Only local files are opened, whatever a playlist inside may ask for.
 */
#ifndef ZT_DATA_VIDEO_IN_H
#define ZT_DATA_VIDEO_IN_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { VIDEO_MAX_SIDE = 16384 }; /* pixels; beyond it a header is taken for hostile */

typedef struct VideoInfo {
    int width, height; /* as shown: upright, square pixels */
    double fps;        /* average */
    double duration_s; /* from the first frame to the end of the last */
    int64_t frames;    /* coded frames */
} VideoInfo;

typedef struct VideoCrop {
    int x, y, width, height; /* part of the picture as shown that the output covers */
} VideoCrop;

typedef struct VideoReader VideoReader;

/* Opens and scans. threads: of the decoder. ERR_IO: cannot be read; ERR_FORMAT: not a video, no
 * video stream, no frames, absurd dimensions, truncated. Every message names the file. */
Status video_open(const char *path, int threads, VideoReader **out);
const VideoInfo *video_info(const VideoReader *video);
/* Frames that video_next will give at this rate. */
int64_t video_count_frames(const VideoReader *video, double fps);

/* Chooses rate and size of the output, once, before the first video_next. */
Status video_set_output(VideoReader *video, double fps, int width, int height, VideoCrop *crop);
/* rgb (height, width, 3) = the next frame; *end and nothing written after the last one.
 * ERR_FORMAT: a frame that cannot be decoded, or data missing. */
Status video_next(VideoReader *video, uint8_t *rgb, bool *end);
void video_close(VideoReader *video);

#ifdef __cplusplus
}
#endif
#endif
