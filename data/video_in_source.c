/*
 * video_in_source: libav is asked for containers of moving pictures only, from local files only,
 * within limits. A playlist, a subtitle file or a PNG would otherwise pass for a video, and a
 * playlist could name other files.
 */
#include "data/video_in_source.h"

#include <libavcodec/avcodec.h>
#include <libavutil/display.h>
#include <libavutil/opt.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char formats[] = "mov,matroska,webm,avi,mpeg,mpegts,mpegvideo,ogg,flv,asf,mxf,gif,"
                              "h264,hevc,m4v,ivf,nut,rm,dv,yuv4mpegpipe,"
                              /* pictures: a video of one frame */
                              "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe";

/* Pictures of more than this many pixels are refused: 8192 x 8192. */
static const int64_t max_pixels = (int64_t)1 << 26;

const char *video_error_text(int code, char out[AV_ERROR_MAX_STRING_SIZE])
{
    return av_strerror(code, out, AV_ERROR_MAX_STRING_SIZE) == 0 ? out : "unknown error";
}

/* A stream's dimensions, before any decoder sees them; 0 x 0 is "not known yet". */
static Status check_dimensions(const char *path, const AVCodecParameters *p)
{
    CHECK(p->width >= 0 && p->height >= 0 && p->width <= VIDEO_MAX_SIDE &&
              p->height <= VIDEO_MAX_SIDE && (int64_t)p->width * p->height <= max_pixels,
          ERR_FORMAT, "%s: picture of %d x %d, limit is %d a side and %lld pixels", path, p->width,
          p->height, VIDEO_MAX_SIDE, (long long)max_pixels);
    return OK;
}

static Status check_streams(const VideoSource *source)
{
    for (unsigned i = 0; i < source->format->nb_streams; i++) {
        const AVCodecParameters *p = source->format->streams[i]->codecpar;
        if (p->codec_type == AVMEDIA_TYPE_VIDEO) TRY(check_dimensions(source->path, p));
    }
    return OK;
}

static Status open_container(VideoSource *source)
{
    /* fails with the reason that libav would hide, such as "permission denied" */
    const char *path = source->path;
    CHECK(access(path, R_OK) == 0, ERR_IO, "%s: %s", path, strerror(errno));

    const size_t size = strlen(path) + sizeof "file:";
    char *url = malloc(size);
    CHECK(url, ERR_MEMORY, "%s: no memory", path);
    snprintf(url, size, "file:%s", path);
    AVDictionary *options = NULL;
    av_dict_set(&options, "protocol_whitelist", "file", 0);
    av_dict_set(&options, "format_whitelist", formats, 0);
    av_dict_set(&options, "pattern_type", "none", 0); /* "%d" in a picture's name is no sequence */
    const int code = avformat_open_input(&source->format, url, NULL, &options);
    av_dict_free(&options);
    free(url);
    char text[AV_ERROR_MAX_STRING_SIZE];
    CHECK(code != AVERROR(EIO), ERR_IO, "%s: %s", path, video_error_text(code, text));
    CHECK(code != AVERROR(ENOMEM), ERR_MEMORY, "%s: no memory to open it", path);
    CHECK(code >= 0, ERR_FORMAT, "%s: not a video, or cut short before its index (%s)", path,
          code == AVERROR(EINVAL) ? "no known container" : video_error_text(code, text));
    return OK;
}

/* Looks into the streams, with decoders that know the limit on pixels. */
static Status probe_streams(VideoSource *source)
{
    const unsigned count = source->format->nb_streams;
    AVDictionary **options = calloc(count + 1, sizeof *options);
    CHECK(options, ERR_MEMORY, "%s: no memory", source->path);
    for (unsigned i = 0; i < count; i++) av_dict_set_int(&options[i], "max_pixels", max_pixels, 0);
    const int code = avformat_find_stream_info(source->format, options);
    for (unsigned i = 0; i < count; i++) av_dict_free(&options[i]);
    free(options);
    char text[AV_ERROR_MAX_STRING_SIZE];
    CHECK(code >= 0, ERR_FORMAT, "%s: truncated or damaged: %s", source->path,
          video_error_text(code, text));
    return OK;
}

static Status choose_stream(VideoSource *source)
{
    const int index = av_find_best_stream(source->format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    CHECK(index >= 0, ERR_FORMAT, "%s: has no video stream", source->path);
    source->stream = source->format->streams[index];
    CHECK(!(source->stream->disposition & AV_DISPOSITION_ATTACHED_PIC), ERR_FORMAT,
          "%s: has no video stream, only a cover picture", source->path);
    const AVCodecParameters *p = source->stream->codecpar;
    CHECK(p->width > 0 && p->height > 0, ERR_FORMAT,
          "%s: truncated or damaged: its picture size cannot be found", source->path);
    return OK;
}

Status video_source_open(const char *path, VideoSource *out)
{
    /* libav speaks through our errors only */
    av_log_set_level(AV_LOG_QUIET);
    VideoSource source = { .path = path };
    Status s = OK;
    TRY_TO(failed, s, open_container(&source));
    TRY_TO(failed, s, check_streams(&source));
    TRY_TO(failed, s, probe_streams(&source));
    TRY_TO(failed, s, check_streams(&source));
    TRY_TO(failed, s, choose_stream(&source));
    *out = source;
    return OK;
failed:
    video_source_close(&source);
    return s;
}

void video_source_close(VideoSource *source)
{
    avformat_close_input(&source->format);
    source->stream = NULL;
}

/* ---- scanning ------------------------------------------------------------------------------- */

/* Times on one stream's clock, of its packets. */
typedef struct StreamScan {
    int64_t packets, shown; /* shown: not marked as "decode only" by an edit list */
    bool timed;
    double first_s, last_s, end_s;
} StreamScan;

static void scan_packet(StreamScan *scan, const AVStream *stream, const AVPacket *packet)
{
    scan->packets++;
    if (packet->flags & AV_PKT_FLAG_DISCARD) return;
    const int64_t pts = packet->pts != AV_NOPTS_VALUE ? packet->pts : packet->dts;
    if (pts == AV_NOPTS_VALUE) scan->timed = false;
    const double unit = av_q2d(stream->time_base);
    const double at = (double)(pts == AV_NOPTS_VALUE ? 0 : pts) * unit;
    const double end = at + (double)packet->duration * unit;
    if (scan->shown == 0 || at < scan->first_s) scan->first_s = at;
    if (scan->shown == 0 || at > scan->last_s) scan->last_s = at;
    if (scan->shown == 0 || end > scan->end_s) scan->end_s = end;
    scan->shown++;
}

/* Everything that the file's header promised must have been there. */
static Status check_complete(const VideoSource *source, const StreamScan *video, double end_s)
{
    const AVFormatContext *format = source->format;
    /* headers are a frame or two off in good files: a fiftieth and two frames, or half a second */
    const int64_t stated = source->stream->nb_frames;
    CHECK(stated <= 0 || video->packets + 2 + stated / 50 >= stated, ERR_FORMAT,
          "%s: truncated: %lld of %lld frames are there", source->path, (long long)video->packets,
          (long long)stated);
    if (format->duration == AV_NOPTS_VALUE ||
        format->duration_estimation_method != AVFMT_DURATION_FROM_STREAM) {
        return OK;
    }
    const double start_s =
        format->start_time == AV_NOPTS_VALUE ? 0 : (double)format->start_time / AV_TIME_BASE;
    const double stated_s = (double)format->duration / AV_TIME_BASE;
    CHECK(!video->timed || end_s - start_s >= stated_s - fmax(0.5, stated_s / 50), ERR_FORMAT,
          "%s: truncated: %.2f of %.2f seconds are there", source->path, end_s - start_s, stated_s);
    return OK;
}

static int quarter_turns(const AVStream *stream)
{
    const uint8_t *matrix = NULL;
    /* newer versions keep side data with the codec's parameters, and drop the older call */
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)
    const AVPacketSideData *side =
        av_packet_side_data_get(stream->codecpar->coded_side_data,
                                stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    if (side && side->size >= 9 * sizeof(int32_t)) matrix = side->data;
#else
    size_t size = 0;
    matrix = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
    if (size < 9 * sizeof(int32_t)) matrix = NULL;
#endif
    if (!matrix) return 0;
    int32_t values[9];
    memcpy(values, matrix, sizeof values);
    const double degrees = av_display_rotation_get(values); /* counter-clockwise */
    return isfinite(degrees) ? (int)(lround(-degrees / 90) % 4 + 4) % 4 : 0;
}

/* Shown size: pixels made square by widening, then turned. */
static Status take_size(const VideoSource *source, VideoScan *scan)
{
    const AVCodecParameters *p = source->stream->codecpar;
    const AVRational ratio = av_guess_sample_aspect_ratio(source->format, source->stream, NULL);
    const double aspect = ratio.num > 0 && ratio.den > 0 ? av_q2d(ratio) : 1;
    const double width = fmax(1, round(p->width * aspect));
    CHECK(aspect >= 0.1 && aspect <= 10 && width <= VIDEO_MAX_SIDE, ERR_FORMAT,
          "%s: pixels with an aspect ratio of %d:%d on %d x %d", source->path, ratio.num, ratio.den,
          p->width, p->height);
    scan->quarter_turns = quarter_turns(source->stream);
    const bool sideways = scan->quarter_turns % 2 == 1;
    scan->info.width = sideways ? p->height : (int)width;
    scan->info.height = sideways ? (int)width : p->height;
    return OK;
}

static Status take_times(const VideoSource *source, const StreamScan *video, VideoScan *scan)
{
    VideoInfo *info = &scan->info;
    AVRational rate = source->stream->avg_frame_rate;
    if (rate.num <= 0 || rate.den <= 0) rate = source->stream->r_frame_rate;
    const double stated_fps = rate.num > 0 && rate.den > 0 ? av_q2d(rate) : 25;
    const double span = video->last_s - video->first_s;

    info->frames = video->shown;
    scan->timed = video->timed && (video->shown == 1 || span > 0);
    scan->first_s = scan->timed ? video->first_s : 0;
    scan->last_s = scan->timed ? span : (double)(video->shown - 1) / stated_fps;
    info->fps = scan->timed && video->shown > 1 ? (double)(video->shown - 1) / span : stated_fps;
    /* the last frame stays as long as its packet says, or as long as the average one */
    const double end = scan->timed ? video->end_s - video->first_s : 0;
    info->duration_s = end > scan->last_s ? end : scan->last_s + 1 / info->fps;
    CHECK(isfinite(info->fps) && info->fps > 0 && info->duration_s < 1e6, ERR_FORMAT,
          "%s: timestamps make no sense: %g frames/s, %g s", source->path, info->fps,
          info->duration_s);
    return OK;
}

Status video_source_scan(VideoSource *source, VideoScan *out)
{
    StreamScan video = { .timed = true };
    double end_s = 0; /* of any stream */
    int code;
    AVPacket *packet = av_packet_alloc();
    CHECK(packet, ERR_MEMORY, "%s: no memory", source->path);
    bool damaged = false;
    while ((code = av_read_frame(source->format, packet)) >= 0) {
        const AVStream *stream = source->format->streams[packet->stream_index];
        StreamScan other = { .timed = true };
        StreamScan *scan = stream == source->stream ? &video : &other;
        if (scan == &video && packet->flags & AV_PKT_FLAG_CORRUPT) damaged = true;
        scan_packet(scan, stream, packet);
        if (scan->shown > 0 && scan->end_s > end_s) end_s = scan->end_s;
        av_packet_unref(packet);
    }
    av_packet_free(&packet);

    char text[AV_ERROR_MAX_STRING_SIZE];
    CHECK(code == AVERROR_EOF && !damaged, ERR_FORMAT,
          "%s: truncated or damaged after %lld frames (%s)", source->path, (long long)video.packets,
          damaged ? "a packet is cut" : video_error_text(code, text));
    TRY(check_complete(source, &video, end_s));
    CHECK(video.shown > 0, ERR_FORMAT, "%s: the video stream has no frames", source->path);
    VideoScan scan = { 0 };
    TRY(take_size(source, &scan));
    TRY(take_times(source, &video, &scan));
    *out = scan;
    return OK;
}
