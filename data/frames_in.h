/*
 * frames_in: a few frames of a picture or video file, whole in memory, at a wanted size.
 */
#ifndef ZT_DATA_FRAMES_IN_H
#define ZT_DATA_FRAMES_IN_H

#include "core/base/status.h"
#include "core/base/tensor.h"

#include <stdbool.h>

/* RGB frames; all zero: none. */
typedef struct Frames {
    Tensor rgb; /* owned; (count, height, width, 3) U8 */
} Frames;

/* Which frames of a file. */
typedef struct FramesWanted {
    const char *what;      /* "--image": begins errors */
    double fps;            /* frames are those nearest to multiples of 1 / fps */
    int64_t width, height; /* the picture covers them, and is cropped at the centre; 0: as it is */
    int64_t least, most;   /* frames; fewer is an error, more are left out */
    bool from_end;         /* the last ones rather than the first */
} FramesWanted;

/* ERR_USAGE for too few frames, ERR_IO, ERR_FORMAT (not a picture or video), ERR_MEMORY; one line
 * that names option and file. */
Status frames_read(const char *path, const FramesWanted *wanted, Frames *out);
/* A picture's or video's own size, as shown. */
Status frames_size(const char *path, const char *what, int64_t *width, int64_t *height);
void frames_destroy(Frames *frames);

#endif
