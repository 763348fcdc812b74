#include "tests/support/decode.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>

#include <stdio.h>

typedef struct Decoder {
    AVFormatContext *format;
    AVCodecContext *codec;
    AVFrame *frame;
    AVPacket *packet;
} Decoder;

static int open_decoder(Decoder *d, const char *path)
{
    char url[4096];
    const AVCodec *codec;

    snprintf(url, sizeof(url), "file:%s", path);
    if (avformat_open_input(&d->format, url, NULL, NULL) < 0) return -1;
    if (avformat_find_stream_info(d->format, NULL) < 0 || d->format->nb_streams != 1) return -1;
    codec = avcodec_find_decoder(d->format->streams[0]->codecpar->codec_id);
    d->codec = codec ? avcodec_alloc_context3(codec) : NULL;
    d->frame = av_frame_alloc();
    d->packet = av_packet_alloc();
    if (!d->codec || !d->frame || !d->packet) return -1;
    if (avcodec_parameters_to_context(d->codec, d->format->streams[0]->codecpar) < 0) return -1;
    return avcodec_open2(d->codec, codec, NULL);
}

static int keep_frame(const AVFrame *frame, int width, int height, uint8_t *rgb)
{
    const int stride = 3 * width;
    struct SwsContext *sws;

    if (frame->width != width || frame->height != height) return -1;
    sws = sws_getContext(width, height, frame->format, width, height, AV_PIX_FMT_RGB24,
                         SWS_BICUBIC | SWS_ACCURATE_RND, NULL, NULL, NULL);
    if (!sws) return -1;
    sws_scale(sws, (const uint8_t *const *)frame->data, frame->linesize, 0, height, &rgb, &stride);
    sws_freeContext(sws);
    return 0;
}

static int decode_all(Decoder *d, int width, int height, int frames_max, uint8_t *rgb)
{
    const size_t frame_bytes = (size_t)3 * (size_t)width * (size_t)height;
    int frames = 0, more = 1;

    while (more) {
        more = av_read_frame(d->format, d->packet) == 0;
        if (avcodec_send_packet(d->codec, more ? d->packet : NULL) < 0) return -1;
        av_packet_unref(d->packet);
        while (avcodec_receive_frame(d->codec, d->frame) == 0) {
            if (frames < frames_max &&
                keep_frame(d->frame, width, height, rgb + (size_t)frames * frame_bytes) < 0) {
                return -1;
            }
            frames++;
        }
    }
    return frames;
}

int decode_file(const char *path, int width, int height, int frames_max, uint8_t *rgb)
{
    Decoder d = { 0 };
    int frames = -1;

    if (open_decoder(&d, path) >= 0) frames = decode_all(&d, width, height, frames_max, rgb);
    av_packet_free(&d.packet);
    av_frame_free(&d.frame);
    avcodec_free_context(&d.codec);
    avformat_close_input(&d.format);
    return frames;
}
