#include "data/encoder.h"

#include <libavutil/opt.h>

#include <stdio.h>
#include <string.h>

enum { ENCODER_MAX_SIDE = 16384 };

/* The encoders of a kind in order of preference, with the settings that each needs. */
typedef struct EncoderRow {
    EncoderKind kind;
    const char *name;
    enum AVPixelFormat format;
    const char *keys[3], *values[3];
    double bits_per_pixel; /* for encoders without a quality setting */
} EncoderRow;

static const EncoderRow encoder_rows[] = {
    /* crf 18: visually lossless; what the model draws should not be blurred once more */
    { ENCODER_H264, "libx264", AV_PIX_FMT_YUV420P, { "preset", "crf" }, { "medium", "18" }, 0 },
    { ENCODER_H264, "libopenh264", AV_PIX_FMT_YUV420P, { "profile" }, { "high" }, 0.5 },
    { ENCODER_APNG, "apng", AV_PIX_FMT_RGB24, { "pred" }, { "mixed" }, 0 },
    { ENCODER_PNG, "png", AV_PIX_FMT_RGB24, { "pred" }, { "mixed" }, 0 },
};

const char *encoder_error(int code, char out[AV_ERROR_MAX_STRING_SIZE])
{
    if (av_strerror(code, out, AV_ERROR_MAX_STRING_SIZE) < 0) {
        snprintf(out, AV_ERROR_MAX_STRING_SIZE, "libav error %d", code);
    }
    return out;
}

static const AVCodec *find_codec(EncoderKind kind, const EncoderRow **row)
{
    for (size_t i = 0; i < sizeof(encoder_rows) / sizeof(encoder_rows[0]); i++) {
        const EncoderRow *candidate = &encoder_rows[i];
        const AVCodec *codec =
            candidate->kind == kind ? avcodec_find_encoder_by_name(candidate->name) : NULL;
        if (codec) {
            *row = candidate;
            return codec;
        }
    }
    return NULL;
}

static Status check_size(const EncoderOptions *o)
{
    CHECK(o->width > 0 && o->height > 0 && o->width <= ENCODER_MAX_SIDE &&
              o->height <= ENCODER_MAX_SIDE,
          ERR_USAGE, "cannot encode %dx%d pictures: sides must be 1 to %d", o->width, o->height,
          ENCODER_MAX_SIDE);
    /* yuv420p has one colour sample for 2x2 pixels */
    CHECK(o->kind != ENCODER_H264 || (o->width % 2 == 0 && o->height % 2 == 0), ERR_USAGE,
          "cannot encode %dx%d as H.264 yuv420p: both sides must be even", o->width, o->height);
    return OK;
}

static Status open_codec(Encoder *encoder, const EncoderOptions *o)
{
    const EncoderRow *row = NULL;
    const AVCodec *codec = find_codec(o->kind, &row);
    AVDictionary *settings = NULL;
    AVCodecContext *c;
    char why[AV_ERROR_MAX_STRING_SIZE];
    int rc;

    CHECK(codec, ERR_DEVICE, "this libavcodec has no %s",
          o->kind == ENCODER_H264 ? "H.264 encoder (libx264 or libopenh264): install a build that "
                                    "has one, or write apng or png"
                                  : "PNG encoder");
    c = encoder->codec = avcodec_alloc_context3(codec);
    CHECK(c, ERR_MEMORY, "no memory for the %s encoder", row->name);

    c->width = o->width;
    c->height = o->height;
    c->pix_fmt = row->format;
    c->time_base = av_inv_q(o->fps);
    c->framerate = o->fps;
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if (o->global_header) c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    if (row->format == AV_PIX_FMT_YUV420P) {
        /* what swscale's default matrix is; players that do not look at it guess the same */
        c->colorspace = AVCOL_SPC_SMPTE170M;
        c->color_range = AVCOL_RANGE_MPEG;
    }
    if (row->bits_per_pixel > 0) {
        c->bit_rate = (int64_t)(row->bits_per_pixel * o->width * o->height * av_q2d(o->fps));
    }
    for (int i = 0; i < 3 && row->keys[i]; i++) {
        av_dict_set(&settings, row->keys[i], row->values[i], 0);
    }

    rc = avcodec_open2(c, codec, &settings);
    av_dict_free(&settings);
    CHECK(rc == 0, ERR_DEVICE, "the %s encoder refuses %dx%d pictures at %d/%d per second: %s",
          row->name, o->width, o->height, o->fps.num, o->fps.den, encoder_error(rc, why));
    return OK;
}

/* swscale's vector code reads up to a vector beyond the last row */
enum { OVERREAD = 64 };

static Status open_buffers(Encoder *encoder)
{
    const AVCodecContext *c = encoder->codec;
    /* bit-exact, accurate rounding: no dependence on the machine's vector width */
    const int flags = SWS_BICUBIC | SWS_FULL_CHR_H_INP | SWS_ACCURATE_RND | SWS_BITEXACT;

    encoder->picture = av_mallocz((size_t)c->width * (size_t)c->height * 3 + OVERREAD);
    encoder->sws = sws_getContext(c->width, c->height, AV_PIX_FMT_RGB24, c->width, c->height,
                                  c->pix_fmt, flags, NULL, NULL, NULL);
    encoder->frame = av_frame_alloc();
    encoder->packet = av_packet_alloc();
    CHECK(encoder->picture && encoder->sws && encoder->frame && encoder->packet, ERR_MEMORY,
          "no memory to encode %dx%d pictures", c->width, c->height);

    encoder->frame->width = c->width;
    encoder->frame->height = c->height;
    encoder->frame->format = c->pix_fmt;
    encoder->frame->colorspace = c->colorspace;
    encoder->frame->color_range = c->color_range;
    CHECK(av_frame_get_buffer(encoder->frame, 0) == 0, ERR_MEMORY,
          "no memory to encode %dx%d pictures", c->width, c->height);
    return OK;
}

Status encoder_open(Encoder *encoder, const EncoderOptions *options)
{
    Status s;

    memset(encoder, 0, sizeof(*encoder));
    TRY(check_size(options));
    /* x264 tells its settings at level info; what is wrong comes back as an error code */
    av_log_set_level(AV_LOG_FATAL);

    s = open_codec(encoder, options);
    if (s == OK) s = open_buffers(encoder);
    if (s != OK) encoder_close(encoder);
    return s;
}

Status encoder_send(Encoder *encoder, const uint8_t *rgb)
{
    char why[AV_ERROR_MAX_STRING_SIZE];
    int rc;

    if (!rgb) {
        rc = avcodec_send_frame(encoder->codec, NULL);
    } else {
        AVFrame *frame = encoder->frame;
        const uint8_t *const planes[4] = { encoder->picture };
        const int strides[4] = { 3 * frame->width };

        memcpy(encoder->picture, rgb, (size_t)frame->width * (size_t)frame->height * 3);
        /* the codec may still hold the last picture */
        rc = av_frame_make_writable(frame);
        CHECK(rc == 0, ERR_MEMORY, "no memory for picture %lld", (long long)encoder->next);
        sws_scale(encoder->sws, planes, strides, 0, frame->height, frame->data, frame->linesize);
        frame->pts = encoder->next++;
        rc = avcodec_send_frame(encoder->codec, frame);
    }
    CHECK(rc == 0, ERR_DEVICE, "encoding failed at picture %lld: %s", (long long)encoder->next,
          encoder_error(rc, why));
    return OK;
}

Status encoder_receive(Encoder *encoder, bool *got)
{
    char why[AV_ERROR_MAX_STRING_SIZE];
    const int rc = avcodec_receive_packet(encoder->codec, encoder->packet);

    *got = rc == 0;
    if (rc == AVERROR(EAGAIN) || rc == AVERROR_EOF) return OK;
    CHECK(rc == 0, ERR_DEVICE, "encoding failed at picture %lld: %s", (long long)encoder->next,
          encoder_error(rc, why));
    /* or the container would have to guess how long the last picture stays */
    encoder->packet->duration = 1;
    return OK;
}

void encoder_close(Encoder *encoder)
{
    avcodec_free_context(&encoder->codec);
    sws_freeContext(encoder->sws);
    av_frame_free(&encoder->frame);
    av_packet_free(&encoder->packet);
    av_free(encoder->picture);
    memset(encoder, 0, sizeof(*encoder));
}
