/* video_in_source: the container of a video: opening it safely, and what it holds (video_in.h). */
#ifndef ZT_DATA_VIDEO_IN_SOURCE_H
#define ZT_DATA_VIDEO_IN_SOURCE_H

#include "core/base/status.h"
#include "data/video_in.h"

#include <libavformat/avformat.h>

typedef struct VideoSource {
    const char *path; /* view */
    AVFormatContext *format;
    AVStream *stream; /* the video stream, in format */
} VideoSource;

/* What reading every packet told. */
typedef struct VideoScan {
    VideoInfo info;
    int quarter_turns; /* clockwise, 0 to 3, that put the picture upright */
    bool timed;        /* packets carry timestamps; otherwise frames are counted at info.fps */
    double first_s;    /* time of the first frame on the stream's clock */
    double last_s;     /* time of the last frame, from the first */
} VideoScan;

/* ERR_IO, ERR_FORMAT with the file named. */
Status video_source_open(const char *path, VideoSource *out);
/* Reads to the end of the file: the source is then used up. */
Status video_source_scan(VideoSource *source, VideoScan *out);
void video_source_close(VideoSource *source);

/* libav's text for an error code; valid until the thread's next call. */
const char *video_error_text(int code, char out[AV_ERROR_MAX_STRING_SIZE]);

#endif
