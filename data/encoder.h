/*
 * encoder: RGB pictures through one of libav's encoders.
 *
 * For video_out and png only. One thread and libav's bit-exact switches: the packets are a function
 * of the pictures and the options.
 */
#ifndef ZT_DATA_ENCODER_H
#define ZT_DATA_ENCODER_H

#include "core/base/status.h"

#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>

#include <stdbool.h>
#include <stdint.h>

typedef enum EncoderKind { ENCODER_H264, ENCODER_APNG, ENCODER_PNG } EncoderKind;

typedef struct EncoderOptions {
    EncoderKind kind;
    int width, height;
    AVRational fps;
    bool global_header; /* the container wants the codec's headers once, not in the stream */
} EncoderOptions;

typedef struct Encoder {
    AVCodecContext *codec;  /* owned, as is all below */
    struct SwsContext *sws; /* RGB24 -> the codec's pixel format */
    AVFrame *frame;
    AVPacket *packet; /* what encoder_receive got */
    int64_t next;     /* number of the next picture */
    uint8_t *picture; /* owned; one RGB picture and the bytes that swscale reads beyond its end */
} Encoder;

/* ERR_USAGE: a size that the codec cannot take. ERR_DEVICE: libav lacks the encoder or refuses. */
Status encoder_open(Encoder *encoder, const EncoderOptions *options);
/* rgb (height, width, 3), or NULL after the last picture. */
Status encoder_send(Encoder *encoder, const uint8_t *rgb);
/* encoder->packet = the next packet, in the codec's time base; *got false: send more, or done. */
Status encoder_receive(Encoder *encoder, bool *got);
void encoder_close(Encoder *encoder);

/* libav's words for one of its error codes. */
const char *encoder_error(int code, char out[AV_ERROR_MAX_STRING_SIZE]);

#endif
