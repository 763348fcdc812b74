#include "data/video_file.h"

#include "core/base/file.h"
#include "data/encoder.h"
#include "data/png.h"

#include <libavformat/avformat.h>
#include <libavutil/avstring.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { IO_BUFFER = 64 << 10 };

struct VideoFile {
    FileWriter writer;
    int write_errno; /* why a write failed, 0 when none did */
    Encoder encoder;
    AVFormatContext *format; /* owned; its pb is ours, too */
    AVStream *stream;        /* view */
    char *comment;           /* owned: for the first packet of an animated PNG; or NULL */
};

/* ---- what libav writes through --------------------------------------------------------------- */

static int io_write(void *opaque, uint8_t *bytes, int size)
{
    VideoFile *file = opaque;

    for (int done = 0; done < size;) {
        const ssize_t n = write(file->writer.fd, bytes + done, (size_t)(size - done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            file->write_errno = errno;
            return AVERROR(errno);
        }
        done += (int)n;
    }
    return size;
}

static int64_t io_seek(void *opaque, int64_t offset, int whence)
{
    VideoFile *file = opaque;
    off_t at;

    if (whence & AVSEEK_SIZE) return AVERROR(ENOSYS);
    at = lseek(file->writer.fd, offset, whence & ~AVSEEK_FORCE);
    return at < 0 ? AVERROR(errno) : at;
}

static Status io_open(VideoFile *file)
{
    unsigned char *buffer = av_malloc(IO_BUFFER);

    file->format->pb =
        buffer ? avio_alloc_context(buffer, IO_BUFFER, 1, file, NULL, io_write, io_seek) : NULL;
    if (!file->format->pb) {
        av_free(buffer);
        return status_fail(ERR_MEMORY, "no memory to write %s", file->writer.path);
    }
    file->format->flags |= AVFMT_FLAG_CUSTOM_IO;
    return OK;
}

static void io_close(VideoFile *file)
{
    if (!file->format || !file->format->pb) return;
    av_freep(&file->format->pb->buffer);
    avio_context_free(&file->format->pb);
}

/* ---- container ------------------------------------------------------------------------------- */

/* rc 0, or what failed: the file system's reason before libav's. */
static Status check_libav(const VideoFile *file, int rc)
{
    char why[AV_ERROR_MAX_STRING_SIZE];

    CHECK(file->write_errno == 0, ERR_IO, "%s: write: %s", file->writer.path,
          strerror(file->write_errno));
    CHECK(rc >= 0, ERR_IO, "%s: %s", file->writer.path, encoder_error(rc, why));
    return OK;
}

static Status open_format(VideoFile *file, const VideoOutOptions *o)
{
    const bool mp4 = o->format == VIDEO_MP4;
    const char *name = mp4 ? "mp4" : "apng";

    CHECK(avformat_alloc_output_context2(&file->format, NULL, name, NULL) >= 0, ERR_DEVICE,
          "this libavformat cannot write %s", name);
    /* no library versions, no times */
    file->format->flags |= AVFMT_FLAG_BITEXACT;
    if (o->title) av_dict_set(&file->format->metadata, "title", o->title, 0);
    if (o->comment) av_dict_set(&file->format->metadata, "comment", o->comment, 0);
    if (!mp4 && o->comment) {
        file->comment = strdup(o->comment);
        CHECK(file->comment, ERR_MEMORY, "no memory to write %s", file->writer.path);
    }
    /* faststart reads the file back by name; "file:" because a name may hold a colon */
    file->format->url = av_asprintf("file:%s", file->writer.temporary);
    CHECK(file->format->url, ERR_MEMORY, "no memory to write %s", file->writer.path);
    return io_open(file);
}

static Status open_stream(VideoFile *file, const VideoOutOptions *o)
{
    const EncoderOptions encoder = {
        .kind = o->format == VIDEO_MP4 ? ENCODER_H264 : ENCODER_APNG,
        .width = o->width,
        .height = o->height,
        .fps = av_d2q(o->fps, 100000),
        .global_header = (file->format->oformat->flags & AVFMT_GLOBALHEADER) != 0,
    };
    AVDictionary *settings = NULL;
    int rc;

    TRY(encoder_open(&file->encoder, &encoder));
    file->stream = avformat_new_stream(file->format, NULL);
    CHECK(file->stream, ERR_MEMORY, "no memory to write %s", file->writer.path);
    file->stream->time_base = file->encoder.codec->time_base;
    file->stream->avg_frame_rate = encoder.fps;
    rc = avcodec_parameters_from_context(file->stream->codecpar, file->encoder.codec);
    TRY(check_libav(file, rc));

    av_dict_set(&settings, "movflags", "+faststart", 0);
    av_dict_set(&settings, "plays", "0", 0); /* an animated PNG starts over for ever */
    rc = avformat_write_header(file->format, &settings);
    av_dict_free(&settings);
    return check_libav(file, rc);
}

Status video_file_open(const char *path, const VideoOutOptions *options, VideoFile **out)
{
    VideoFile *file = calloc(1, sizeof(*file));
    Status s = OK;

    CHECK(file, ERR_MEMORY, "no memory to write %s", path);
    file_writer_none(&file->writer);
    TRY_TO(failed, s, file_writer_open(&file->writer, path));
    TRY_TO(failed, s, open_format(file, options));
    TRY_TO(failed, s, open_stream(file, options));
    *out = file;
    return OK;
failed:
    video_file_abort(file);
    return s;
}

/* The muxer of animated PNGs copies the chunks before the first picture from the first packet:
 * the only place where a comment can be added. */
static Status attach_comment(VideoFile *file)
{
    AVPacket *packet = file->encoder.packet;
    unsigned char *chunk = NULL;
    size_t old_size = 0, chunk_size = 0;
    const uint8_t *old = av_packet_get_side_data(packet, AV_PKT_DATA_NEW_EXTRADATA, &old_size);
    uint8_t *joined;

    if (!file->comment || !old) return OK;
    TRY(png_comment_chunk(file->comment, &chunk, &chunk_size));
    joined = av_mallocz(old_size + chunk_size + AV_INPUT_BUFFER_PADDING_SIZE);
    if (joined) {
        memcpy(joined, old, old_size);
        memcpy(joined + old_size, chunk, chunk_size);
    }
    free(chunk);
    /* replaces the old one; the packet owns it from here */
    if (!joined || av_packet_add_side_data(packet, AV_PKT_DATA_NEW_EXTRADATA, joined,
                                           old_size + chunk_size) < 0) {
        av_free(joined);
        return status_fail(ERR_MEMORY, "no memory to write %s", file->writer.path);
    }
    free(file->comment);
    file->comment = NULL;
    return OK;
}

static Status write_packets(VideoFile *file)
{
    AVPacket *packet = file->encoder.packet;
    bool got = false;

    for (;;) {
        TRY(encoder_receive(&file->encoder, &got));
        if (!got) return OK;
        TRY(attach_comment(file));
        av_packet_rescale_ts(packet, file->encoder.codec->time_base, file->stream->time_base);
        packet->stream_index = file->stream->index;
        TRY(check_libav(file, av_interleaved_write_frame(file->format, packet)));
    }
}

Status video_file_push(VideoFile *file, const uint8_t *rgb)
{
    TRY(encoder_send(&file->encoder, rgb));
    return write_packets(file);
}

static Status finish(VideoFile *file)
{
    int rc;

    TRY(encoder_send(&file->encoder, NULL));
    TRY(write_packets(file));
    rc = av_write_trailer(file->format);
    avio_flush(file->format->pb);
    if (rc >= 0) rc = file->format->pb->error;
    TRY(check_libav(file, rc));
    return file_writer_commit(&file->writer);
}

Status video_file_commit(VideoFile *file)
{
    const Status s = finish(file);

    video_file_abort(file);
    return s;
}

void video_file_abort(VideoFile *file)
{
    if (!file) return;
    encoder_close(&file->encoder);
    io_close(file);
    avformat_free_context(file->format);
    file_writer_abandon(&file->writer);
    free(file->comment);
    free(file);
}
