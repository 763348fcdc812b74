/*
 * video_in_picture: crop in the coded picture, scale with Lanczos (which widens its filter when it
 * shrinks, so nothing aliases), turn last, when the picture is small.
 */
#include "data/video_in_picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The largest centred rectangle of the wanted aspect ratio inside the picture as shown. */
static VideoCrop cover_crop(int shown_width, int shown_height, int width, int height)
{
    VideoCrop crop = { 0, 0, shown_width, shown_height };
    const double wanted = (double)width / height;
    if ((double)shown_width / shown_height > wanted) {
        crop.width = (int)fmax(1, round(shown_height * wanted));
    } else {
        crop.height = (int)fmin(shown_height, fmax(1, round(shown_width / wanted)));
    }
    crop.x = (shown_width - crop.width) / 2;
    crop.y = (shown_height - crop.height) / 2;
    return crop;
}

/* Coded pixels to cut on both sides of an axis, from the kept share of it; the near edge falls on a
 * chroma sample (chroma is at most four times coarser). */
static void cut_axis(int coded, int kept, int shown, int *near_edge, int *far_edge)
{
    const int size = (int)fmin(coded, fmax(1, round((double)coded * kept / shown)));
    *near_edge = (coded - size) / 2 / 4 * 4;
    *far_edge = coded - size - *near_edge;
}

Status picture_create(const char *path, const VideoInfo *info, int quarter_turns, int coded_width,
                      int coded_height, int width, int height, Picture *out)
{
    Picture p = { .path = path,
                  .width = width,
                  .height = height,
                  .quarter_turns = quarter_turns,
                  .crop = cover_crop(info->width, info->height, width, height),
                  .coded_width = coded_width,
                  .coded_height = coded_height,
                  .format = -1 };
    const bool sideways = quarter_turns % 2 == 1;
    cut_axis(coded_width, sideways ? p.crop.height : p.crop.width,
             sideways ? info->height : info->width, &p.left, &p.right);
    cut_axis(coded_height, sideways ? p.crop.width : p.crop.height,
             sideways ? info->width : info->height, &p.top, &p.bottom);
    if (quarter_turns != 0) {
        p.sideways = malloc((size_t)width * (size_t)height * 3);
        CHECK(p.sideways, ERR_MEMORY, "%s: no memory for a frame of %d x %d", path, width, height);
    }
    *out = p;
    return OK;
}

void picture_destroy(Picture *picture)
{
    sws_freeContext(picture->scaler);
    free(picture->sideways);
    *picture = (Picture){ 0 };
}

/* The matrix from YUV: as the stream says, or as its size suggests (BT.709 from 720 rows on). */
static const int *color_matrix(const AVFrame *frame, int rows)
{
    if (frame->colorspace != AVCOL_SPC_UNSPECIFIED && frame->colorspace != AVCOL_SPC_RGB) {
        return sws_getCoefficients((int)frame->colorspace);
    }
    return sws_getCoefficients(rows >= 720 ? SWS_CS_ITU709 : SWS_CS_ITU601);
}

static Status prepare_scaler(Picture *p, const AVFrame *frame)
{
    if (p->scaler && p->format == frame->format) return OK;
    sws_freeContext(p->scaler);
    const bool sideways = p->quarter_turns % 2 == 1;
    p->scaler = sws_getContext(
        frame->width, frame->height, (enum AVPixelFormat)frame->format,
        sideways ? p->height : p->width, sideways ? p->width : p->height, AV_PIX_FMT_RGB24,
        SWS_LANCZOS | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND | SWS_BITEXACT,
        NULL, NULL, NULL);
    CHECK(p->scaler, ERR_FORMAT, "%s: cannot scale %d x %d pixels of format %d to %d x %d", p->path,
          frame->width, frame->height, frame->format, p->width, p->height);
    p->format = frame->format;
    /* fails for formats that have no matrix, such as RGB: nothing to set then */
    sws_setColorspaceDetails(p->scaler, color_matrix(frame, p->coded_height),
                             frame->color_range == AVCOL_RANGE_JPEG,
                             sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    return OK;
}

/* rgb (height, width, 3) = the picture in p->sideways, turned clockwise */
static void turn_upright(const Picture *p, uint8_t *rgb)
{
    const bool sideways = p->quarter_turns % 2 == 1;
    const int from_width = sideways ? p->height : p->width;
    const int from_height = sideways ? p->width : p->height;
    for (int y = 0; y < p->height; y++) {
        for (int x = 0; x < p->width; x++) {
            const int from_x = p->quarter_turns == 1   ? y
                               : p->quarter_turns == 2 ? from_width - 1 - x
                                                       : from_width - 1 - y;
            const int from_y = p->quarter_turns == 1   ? from_height - 1 - x
                               : p->quarter_turns == 2 ? from_height - 1 - y
                                                       : x;
            const size_t to = (size_t)y * (size_t)p->width + (size_t)x;
            const size_t from = (size_t)from_y * (size_t)from_width + (size_t)from_x;
            memcpy(rgb + 3 * to, p->sideways + 3 * from, 3);
        }
    }
}

Status picture_convert(Picture *p, AVFrame *frame, uint8_t *rgb)
{
    CHECK(frame->width == p->coded_width && frame->height == p->coded_height, ERR_FORMAT,
          "%s: the picture changes from %d x %d to %d x %d on the way", p->path, p->coded_width,
          p->coded_height, frame->width, frame->height);
    frame->crop_left = (size_t)p->left;
    frame->crop_right = (size_t)p->right;
    frame->crop_top = (size_t)p->top;
    frame->crop_bottom = (size_t)p->bottom;
    CHECK(av_frame_apply_cropping(frame, AV_FRAME_CROP_UNALIGNED) >= 0, ERR_FORMAT,
          "%s: cannot crop pixels of format %d", p->path, frame->format);
    TRY(prepare_scaler(p, frame));

    const bool sideways = p->quarter_turns % 2 == 1;
    uint8_t *out[4] = { p->sideways ? p->sideways : rgb };
    const int strides[4] = { 3 * (sideways ? p->height : p->width) };
    const int rows = sws_scale(p->scaler, (const uint8_t *const *)frame->data, frame->linesize, 0,
                               frame->height, out, strides);
    CHECK(rows == (sideways ? p->width : p->height), ERR_DEVICE, "%s: libswscale failed: %d",
          p->path, rows);
    if (p->sideways) turn_upright(p, rgb);
    return OK;
}
