#include "core/base/log.h"
#include "core/codec/patch.h"
#include "data/ingest_pass.h"
#include "data/ordered.h"

#include <stdlib.h>
#include <string.h>

/* Encoded clips of one video may wait for their turn up to this many bytes; then the worker does.
 */
static const size_t pending_limit = (size_t)64 << 20;

typedef struct Encode {
    Ingest *job;
    DatasetWriter *writer;
    Progress progress;
    int64_t done; /* clips written */
    /* a VAE works on one clip at a time, with all cores */
    Device device;
    Group alone;
    CodecStream *stream; /* owned; for clips of one size, the last one's */
    int64_t height, width;
} Encode;

typedef struct PendingClip {
    int64_t start;
    float *tokens; /* owned; (tokens, patch) */
} PendingClip;

/* One video on its way through a worker. */
typedef struct EncodeVideo {
    Encode *encode;
    Ordered *order;
    int64_t item;
    const IngestVideo *video;
    PendingClip *pending; /* owned */
    int64_t pending_count, reserved;
    int64_t squared_error, values;
    Tensor *text;        /* owned; (captions) of the video, BF16; NULL: none */
    uint16_t *text_bits; /* owned */
} EncodeVideo;

/* (channels, T, h, w) of the video's clips */
static Shape latent_shape(const EncodeVideo *v)
{
    return codec_latent_shape(&v->encode->job->codec, v->video->frames, v->video->size.height,
                              v->video->size.width);
}

/* (tokens, patch) of the video's clips */
static Shape token_shape(const EncodeVideo *v)
{
    const Shape z = latent_shape(v);
    return SHAPE(z.dims[1] * (z.dims[2] / PATCH_SIDE) * (z.dims[3] / PATCH_SIDE),
                 z.dims[0] * PATCH_VALUES);
}

/* ---- writing, in this video's turn ---------------------------------------------------------- */

static Status write_clip(EncodeVideo *v, const PendingClip *clip)
{
    const IngestVideo *video = v->video;
    const Shape z = latent_shape(v);
    const double fps = v->encode->job->opt->fps;
    const ClipRecord record = {
        .t = z.dims[1],
        .h = z.dims[2],
        .w = z.dims[3],
        .latents = tensor_of(clip->tokens, F32, token_shape(v)),
        .frames = video->frames,
        .fps = fps,
        .start_s = (double)clip->start / fps,
        .crop = { video->crop.x, video->crop.y, video->crop.width, video->crop.height },
        .source = video->source->name,
        .captions = (const char *const *)video->source->captions,
        .caption_count = video->source->caption_count,
        .text = v->text,
    };
    TRY(dataset_writer_add(v->encode->writer, &record));
    progress_update(&v->encode->progress, ++v->encode->done, video->source->name);
    return OK;
}

/* The embeddings of the video's captions, once. */
static Status read_text(EncodeVideo *v)
{
    const IngestText *text = &v->encode->job->text;
    const int64_t captions = v->video->source->caption_count;
    if (text->width == 0 || v->text) return OK;
    v->text = calloc((size_t)captions, sizeof *v->text);
    CHECK(v->text, ERR_MEMORY, "no memory for %lld captions", (long long)captions);
    return ingest_text_read(text, v->item, &v->text_bits, v->text);
}

static Status write_pending(EncodeVideo *v)
{
    TRY(ordered_wait(v->order, v->item));
    TRY(read_text(v));
    for (int64_t i = 0; i < v->pending_count; i++) {
        TRY(write_clip(v, &v->pending[i]));
        free(v->pending[i].tokens);
        v->pending[i].tokens = NULL;
    }
    v->pending_count = 0;
    return OK;
}

/* ---- encoding ------------------------------------------------------------------------------- */

static Status reserve_pending(EncodeVideo *v)
{
    if (v->pending_count < v->reserved) return OK;
    const int64_t reserved = v->reserved ? 2 * v->reserved : 16;
    PendingClip *pending = realloc(v->pending, (size_t)reserved * sizeof *pending);
    CHECK(pending, ERR_MEMORY, "no memory for %lld clips", (long long)reserved);
    v->pending = pending;
    v->reserved = reserved;
    return OK;
}

static void close_stream(Encode *encode)
{
    codec_stream_destroy(encode->stream);
    encode->stream = NULL;
}

/* A VAE at work on clips of this size; the one before goes, for either may be large. */
static Status use_stream(Encode *encode, int64_t height, int64_t width)
{
    if (encode->stream && encode->height == height && encode->width == width) return OK;
    close_stream(encode);
    encode->height = height;
    encode->width = width;
    return codec_stream_create(&encode->device, &encode->job->codec, false, &encode->alone, height,
                               width, &encode->stream);
}

static Status encode_frames(EncodeVideo *v, Tensor latent, Tensor frames)
{
    const Codec *codec = &v->encode->job->codec;
    if (codec->kind == CODEC_LINEAR) return linear_codec_encode(&codec->linear, latent, frames);
    TRY(use_stream(v->encode, frames.shape[1], frames.shape[2]));
    return codec_encode(v->encode->stream, latent, frames);
}

static Status decode_frames(EncodeVideo *v, Tensor frames, Tensor latent)
{
    Encode *e = v->encode;
    const Codec *codec = &e->job->codec;
    CodecStream *stream;
    Status s = OK;
    if (codec->kind == CODEC_LINEAR)
        return linear_codec_decode(&codec->linear, frames, latent, 0, latent.shape[1]);
    close_stream(e);
    TRY(codec_stream_create(&e->device, codec, true, &e->alone, frames.shape[1], frames.shape[2],
                            &stream));
    for (int64_t t = 0; t < latent.shape[1] && s == OK; t++)
        s = codec_decode(stream, tensor_slice(frames, codec_frames(0, t), codec_frames(t, 1)),
                         latent, t);
    codec_stream_destroy(stream);
    return s;
}

/* What the codec loses on this clip, by decoding it again. A VAE's is known, and decoding takes
 * longer than encoding: one clip shows that it is the right one. */
static Status measure_loss(EncodeVideo *v, Tensor latent, Tensor frames)
{
    const bool is_wan = v->encode->job->codec.kind == CODEC_WAN;
    const int64_t count = tensor_count(frames);
    if (is_wan && (v->encode->job->values > 0 || v->values > 0)) return OK;
    const uint8_t *before = frames.data;
    uint8_t *after = malloc((size_t)count);
    CHECK(after, ERR_MEMORY, "no memory for a decoded clip of %lld bytes", (long long)count);
    Tensor decoded = frames;
    decoded.data = after;
    const Status s = decode_frames(v, decoded, latent);
    for (int64_t i = 0; s == OK && i < count; i++) {
        const int difference = (int)before[i] - (int)after[i];
        v->squared_error += difference * difference;
    }
    v->values += count;
    free(after);
    return s;
}

/* tokens = the clip, encoded */
static Status encode_clip(EncodeVideo *v, Tensor tokens, Tensor frames)
{
    float *values = malloc(tensor_bytes(tokens));
    CHECK(values, ERR_MEMORY, "no memory for a latent of %zu bytes", tensor_bytes(tokens));
    const Tensor latent = tensor_of(values, F32, latent_shape(v));
    Status s = encode_frames(v, latent, frames);
    if (s == OK) s = measure_loss(v, latent, frames);
    if (s == OK) latent_to_tokens(tokens, latent);
    free(values);
    return s;
}

static Status take_clip(void *context, int64_t start, Tensor frames)
{
    EncodeVideo *v = context;
    Tensor tokens = tensor_of(NULL, F32, token_shape(v));
    TRY(reserve_pending(v));
    tokens.data = malloc(tensor_bytes(tokens));
    CHECK(tokens.data, ERR_MEMORY, "no memory for a latent of %zu bytes", tensor_bytes(tokens));
    const Status s = encode_clip(v, tokens, frames);
    if (s != OK) {
        free(tokens.data);
        return s;
    }
    v->pending[v->pending_count++] = (PendingClip){ start, tokens.data };
    const bool full = (size_t)v->pending_count * tensor_bytes(tokens) >= pending_limit;
    return full ? write_pending(v) : OK;
}

static Status encode_video(Ordered *order, void *context, int worker, int64_t item)
{
    (void)worker;
    Encode *encode = context;
    Ingest *job = encode->job;
    if (job->videos[item].problem) return OK;

    /* cut as in the first pass; the choice of bucket is a function of the same file */
    IngestVideo video = job->videos[item];
    EncodeVideo v = { .encode = encode, .order = order, .item = item, .video = &video };
    Status s = ingest_cut_video(job->opt, job->decoder_threads, &video, take_clip, &v);
    if (s == OK) s = write_pending(&v);
    if (s == OK && video.clips != job->videos[item].clips) {
        s = status_fail(ERR_FORMAT, "%s: changed while it was read", video.source->video);
    }
    if (s == OK) {
        job->squared_error += v.squared_error;
        job->values += v.values;
    }
    for (int64_t i = 0; i < v.pending_count; i++) free(v.pending[i].tokens);
    free(v.pending);
    free(v.text);
    free(v.text_bits);
    return s;
}

Status ingest_encode(Ingest *job, DatasetWriter *writer)
{
    const bool is_wan = job->codec.kind == CODEC_WAN;
    Encode encode = { .job = job, .writer = writer, .alone = group_self() };
    TRY(device_open(&encode.device, "cpu", NULL, 0, false));
    progress_begin(&encode.progress, "encode", "clips", job->clips);
    const Status s = ordered_run(job->list.count, is_wan ? 1 : job->workers, encode_video, &encode);
    progress_end(&encode.progress);
    close_stream(&encode);
    return s;
}
