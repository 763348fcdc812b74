/* video_in: decoding in order, and choosing the frames that a wanted rate shows. */
#include "data/video_in.h"

#include "data/video_in_picture.h"
#include "data/video_in_source.h"

#include <libavcodec/avcodec.h>

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct VideoReader {
    char *path; /* owned */
    int threads;
    VideoScan scan;

    /* since video_set_output */
    VideoSource source;
    AVCodecContext *decoder; /* owned */
    AVPacket *packet;        /* owned */
    AVFrame *before,
        *after; /* owned: the frames around the wanted time; after has no data at the end */
    double before_s, after_s;
    int64_t decoded; /* frames that came out of the decoder */
    bool drained;    /* the decoder was told that there is no more */
    bool ended;      /* after holds nothing: before is the last frame */
    Picture picture;
    double fps;
    int64_t next, count; /* output frames */
};

Status video_open(const char *path, int threads, VideoReader **out)
{
    VideoReader *v = calloc(1, sizeof *v);
    char *copy = strdup(path);
    if (!v || !copy) {
        free(v);
        free(copy);
        return status_fail(ERR_MEMORY, "%s: no memory to open it", path);
    }
    v->path = copy;
    v->threads = threads;
    Status s = video_source_open(copy, &v->source);
    if (s == OK) s = video_source_scan(&v->source, &v->scan);
    video_source_close(&v->source);
    if (s != OK) {
        video_close(v);
        return s;
    }
    *out = v;
    return OK;
}

void video_close(VideoReader *video)
{
    if (!video) return;
    picture_destroy(&video->picture);
    av_frame_free(&video->before);
    av_frame_free(&video->after);
    av_packet_free(&video->packet);
    avcodec_free_context(&video->decoder);
    video_source_close(&video->source);
    free(video->path);
    free(video);
}

const VideoInfo *video_info(const VideoReader *video)
{
    return &video->scan.info;
}

int64_t video_count_frames(const VideoReader *video, double fps)
{
    /* output times i / fps before the end; a thousandth of a frame absorbs rounded timestamps */
    return (int64_t)fmax(1, ceil(video->scan.info.duration_s * fps - 1e-3));
}

static Status open_decoder(VideoReader *v)
{
    const AVCodecParameters *p = v->source.stream->codecpar;
    const AVCodec *codec = avcodec_find_decoder(p->codec_id);
    CHECK(codec, ERR_FORMAT, "%s: libav here has no decoder for %s", v->path,
          avcodec_get_name(p->codec_id));
    v->decoder = avcodec_alloc_context3(codec);
    v->packet = av_packet_alloc();
    v->before = av_frame_alloc();
    v->after = av_frame_alloc();
    CHECK(v->decoder && v->packet && v->before && v->after &&
              avcodec_parameters_to_context(v->decoder, p) >= 0,
          ERR_MEMORY, "%s: no memory to decode it", v->path);
    v->decoder->thread_count = v->threads;
    v->decoder->flags |= AV_CODEC_FLAG_UNALIGNED; /* crop to the very pixel, as the header says */
    v->decoder->pkt_timebase = v->source.stream->time_base;
    v->decoder->max_pixels = (int64_t)p->width * p->height * 2 + (1 << 20);
    const int code = avcodec_open2(v->decoder, codec, NULL);
    char text[AV_ERROR_MAX_STRING_SIZE];
    CHECK(code >= 0, ERR_FORMAT, "%s: %s decoder: %s", v->path, codec->name,
          video_error_text(code, text));
    return OK;
}

Status video_set_output(VideoReader *v, double fps, int width, int height, VideoCrop *crop)
{
    assert(!v->decoder && fps > 0 && width > 0 && height > 0);
    TRY(video_source_open(v->path, &v->source));
    for (unsigned i = 0; i < v->source.format->nb_streams; i++) {
        AVStream *stream = v->source.format->streams[i];
        if (stream != v->source.stream) stream->discard = AVDISCARD_ALL;
    }
    TRY(open_decoder(v));
    const AVCodecParameters *p = v->source.stream->codecpar;
    TRY(picture_create(v->path, &v->scan.info, v->scan.quarter_turns, p->width, p->height, width,
                       height, &v->picture));
    v->fps = fps;
    v->count = video_count_frames(v, fps);
    *crop = v->picture.crop;
    return OK;
}

static Status damaged(const VideoReader *v, const char *why)
{
    return status_fail(ERR_FORMAT, "%s: truncated or damaged after %lld of %lld frames (%s)",
                       v->path, (long long)v->decoded, (long long)v->scan.info.frames, why);
}

/* Gives the decoder the next packet of the video, or the news that there is none. */
static Status feed_decoder(VideoReader *v)
{
    char text[AV_ERROR_MAX_STRING_SIZE];
    int code;
    for (;;) {
        code = av_read_frame(v->source.format, v->packet);
        if (code < 0 || v->packet->stream_index == v->source.stream->index) break;
        av_packet_unref(v->packet);
    }
    if (code < 0 && code != AVERROR_EOF) return damaged(v, video_error_text(code, text));
    const bool end = code == AVERROR_EOF;
    code = avcodec_send_packet(v->decoder, end ? NULL : v->packet);
    av_packet_unref(v->packet);
    v->drained = end;
    return code >= 0 ? OK : damaged(v, video_error_text(code, text));
}

/* v->after = the next frame in order of showing, or v->ended. */
static Status decode_frame(VideoReader *v)
{
    char text[AV_ERROR_MAX_STRING_SIZE];
    int code;
    while ((code = avcodec_receive_frame(v->decoder, v->after)) == AVERROR(EAGAIN)) {
        TRY(feed_decoder(v));
    }
    if (code == AVERROR_EOF) {
        v->ended = true;
        return OK;
    }
    if (code < 0) return damaged(v, video_error_text(code, text));
    if (v->after->decode_error_flags || v->after->flags & AV_FRAME_FLAG_CORRUPT) {
        return damaged(v, "a picture cannot be decoded");
    }
    const int64_t pts = v->after->best_effort_timestamp;
    if (v->scan.timed && pts != AV_NOPTS_VALUE) {
        v->after_s = (double)pts * av_q2d(v->source.stream->time_base) - v->scan.first_s;
    } else {
        v->after_s = (double)v->decoded / v->scan.info.fps;
    }
    v->decoded++;
    return OK;
}

/* The pictures must reach as far as the packets did, give or take what decoders hold back. */
static Status check_end(const VideoReader *v)
{
    if (v->decoded == 0) return status_fail(ERR_FORMAT, "%s: no frame can be decoded", v->path);
    const double slack = fmax(0.25, 3 / v->scan.info.fps);
    return v->before_s >= v->scan.last_s - slack ? OK : damaged(v, "pictures are missing");
}

Status video_next(VideoReader *v, uint8_t *rgb, bool *end)
{
    *end = v->next == v->count;
    if (*end) return OK;
    const double wanted = (double)v->next / v->fps;
    if (v->decoded == 0) TRY(decode_frame(v));
    while (!v->ended && v->after_s < wanted) {
        AVFrame *swap = v->before;
        v->before = v->after;
        v->before_s = v->after_s;
        v->after = swap;
        TRY(decode_frame(v));
        if (v->ended) TRY(check_end(v));
    }
    if (v->decoded == 0) return check_end(v);

    /* a picture may be shown several times: convert a second reference, which cropping changes */
    const bool has_before = v->before->data[0] != NULL;
    const bool use_before = v->ended || (has_before && wanted - v->before_s <= v->after_s - wanted);
    AVFrame *shown = av_frame_clone(use_before ? v->before : v->after);
    CHECK(shown, ERR_MEMORY, "%s: no memory for a frame", v->path);
    const Status s = picture_convert(&v->picture, shown, rgb);
    av_frame_free(&shown);
    TRY(s);
    v->next++;
    return OK;
}
