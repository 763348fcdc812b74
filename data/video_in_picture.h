/* video_in_picture: a decoded frame as upright RGB of the wanted size (video_in.h). */
#ifndef ZT_DATA_VIDEO_IN_PICTURE_H
#define ZT_DATA_VIDEO_IN_PICTURE_H

#include "core/base/status.h"
#include "data/video_in.h"

#include <libavutil/frame.h>
#include <libswscale/swscale.h>

typedef struct Picture {
    const char *path;  /* view: what errors name */
    int width, height; /* of the output */
    int quarter_turns; /* clockwise, to put the picture upright */
    VideoCrop crop;    /* of the picture as shown */
    int coded_width, coded_height;
    int left, top, right, bottom; /* coded pixels cut away */
    int format;                   /* of the frames that scaler is set up for; -1: none yet */
    struct SwsContext *scaler;    /* owned */
    uint8_t *sideways; /* owned: a scaled picture before it is turned; NULL when upright */
} Picture;

/* info: size as shown; coded sizes are those of the frames to come. ERR_MEMORY. */
Status picture_create(const char *path, const VideoInfo *info, int quarter_turns, int coded_width,
                      int coded_height, int width, int height, Picture *out);
void picture_destroy(Picture *picture);
/* rgb (height, width, 3) = frame, cropped, scaled and turned; the frame is left cropped. */
Status picture_convert(Picture *picture, AVFrame *frame, uint8_t *rgb);

#endif
