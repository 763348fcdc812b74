#include "core/base/log.h"
#include "core/base/ordered.h"
#include "core/codec/condition.h"
#include "core/codec/patch.h"
#include "core/image/clip_vision.h"
#include "data/ingest_pass.h"

#include <stdlib.h>
#include <string.h>

/* Encoded clips of one video may wait for their turn up to this many bytes; then the worker does.
 */
static const size_t pending_limit = (size_t)64 << 20;

/* Clips whose pictures go through the image encoder together: 1 or 2 each. */
enum { PICTURES_TOGETHER = 8 };

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
    float *tokens;     /* owned; (tokens, patch) */
    float *condition;  /* owned; the same of its condition; NULL: none */
    uint8_t *pictures; /* owned; (known frames, height, width, 3), to be encoded; NULL: none */
    float *image;      /* owned; (image rows, width); NULL: none, or not yet */
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
    const IngestImage *image = &v->encode->job->image;
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
        .condition = tensor_of(clip->condition, F32, token_shape(v)),
        .image = tensor_of(clip->image, F32, SHAPE(image->rows, image->width)),
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

static void free_clip(PendingClip *clip)
{
    free(clip->tokens);
    free(clip->condition);
    free(clip->pictures);
    free(clip->image);
    *clip = (PendingClip){ 0 };
}

/* The image tokens of clips [first, first + count): the encoder's layers are read once for all. */
static Status encode_pictures(EncodeVideo *v, int64_t first, int64_t count)
{
    const Ingest *job = v->encode->job;
    const KnownFrames known = condition_known(job->opt->condition);
    const int64_t frames = known.before + known.after, rows = job->image.rows;
    const Shape frame = SHAPE(v->video->size.height, v->video->size.width, 3);
    const size_t bytes = (size_t)(rows * job->image.width) * sizeof(float);
    Tensor pictures[2 * PICTURES_TOGETHER];
    float *tokens = malloc((size_t)count * bytes);
    CHECK(tokens, ERR_MEMORY, "no memory for the image tokens of %lld clips", (long long)count);
    for (int64_t i = 0; i < count * frames; i++) {
        const int64_t at = i % frames * frame.dims[0] * frame.dims[1] * 3;
        pictures[i] = tensor_of(v->pending[first + i / frames].pictures + at, U8, frame);
    }
    Status s = clip_vision_encode(
        &v->encode->device, job->opt->image_encoder, F32, pictures, count * frames,
        tensor_of(tokens, F32, SHAPE(count * frames, rows / frames, job->image.width)));
    for (int64_t i = 0; s == OK && i < count; i++) {
        PendingClip *clip = &v->pending[first + i];
        clip->image = malloc(bytes);
        if (clip->image)
            memcpy(clip->image, (const char *)tokens + (size_t)i * bytes, bytes);
        else
            s = status_fail(ERR_MEMORY, "no memory for image tokens of %zu bytes", bytes);
    }
    free(tokens);
    return s;
}

static Status write_pending(EncodeVideo *v)
{
    TRY(ordered_wait(v->order, v->item));
    TRY(read_text(v));
    for (int64_t i = 0; i < v->pending_count; i++) {
        const int64_t left = v->pending_count - i;
        if (v->pending[i].pictures && i % PICTURES_TOGETHER == 0)
            TRY(encode_pictures(v, i, left < PICTURES_TOGETHER ? left : PICTURES_TOGETHER));
        TRY(write_clip(v, &v->pending[i]));
        free_clip(&v->pending[i]);
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

/* The clip's frames that its condition knows: views. */
static void known_frames(EncodeVideo *v, Tensor frames, Tensor *before, Tensor *after)
{
    const KnownFrames known = condition_known(v->encode->job->opt->condition);
    *before = tensor_slice(frames, 0, known.before);
    *after = known.after > 0 ? tensor_slice(frames, frames.shape[0] - known.after, known.after)
                             : tensor_none();
}

/* Its first frame, and its last, with grey between, as latents; and the frames themselves, where
 * the image encoder is to see them. latent: room. */
static Status add_condition(EncodeVideo *v, PendingClip *clip, Tensor latent, Tensor frames)
{
    Tensor before, after;
    if (v->encode->job->opt->condition == CONDITION_NONE) return OK;
    known_frames(v, frames, &before, &after);
    TRY(use_stream(v->encode, frames.shape[1], frames.shape[2]));
    Tensor grey = tensor_of(NULL, F32, SHAPE(1, frames.shape[1], frames.shape[2], 3));
    grey.data = calloc((size_t)tensor_count(grey), sizeof(float));
    CHECK(grey.data, ERR_MEMORY, "no memory for a frame of %zu bytes", tensor_bytes(grey));
    const Status s = condition_encode(codec_coder(v->encode->stream), latent, before, after, grey);
    free(grey.data);
    TRY(s);
    latent_to_tokens(tensor_of(clip->condition, F32, token_shape(v)), latent);
    if (!clip->pictures) return OK;
    memcpy(clip->pictures, before.data, tensor_bytes(before));
    if (after.data) memcpy(clip->pictures + tensor_bytes(before), after.data, tensor_bytes(after));
    return OK;
}

static Status encode_clip(EncodeVideo *v, PendingClip *clip, Tensor frames)
{
    const Tensor tokens = tensor_of(clip->tokens, F32, token_shape(v));
    float *values = malloc(tensor_bytes(tokens));
    CHECK(values, ERR_MEMORY, "no memory for a latent of %zu bytes", tensor_bytes(tokens));
    const Tensor latent = tensor_of(values, F32, latent_shape(v));
    Status s = encode_frames(v, latent, frames);
    if (s == OK) s = measure_loss(v, latent, frames);
    if (s == OK) latent_to_tokens(tokens, latent);
    if (s == OK) s = add_condition(v, clip, latent, frames);
    free(values);
    return s;
}

/* Room for one clip; *bytes of it. */
static Status reserve_clip(const EncodeVideo *v, PendingClip *clip, size_t *bytes)
{
    const Ingest *job = v->encode->job;
    const size_t tokens = tensor_bytes(tensor_of(NULL, F32, token_shape(v)));
    const size_t frame = (size_t)(v->video->size.height * v->video->size.width * 3);
    const bool condition = job->opt->condition != CONDITION_NONE, image = job->image.width > 0;
    clip->tokens = malloc(tokens);
    clip->condition = condition ? malloc(tokens) : NULL;
    clip->pictures = image ? malloc(2 * frame) : NULL;
    *bytes = (condition ? 2 : 1) * tokens + (image ? 2 * frame : 0);
    CHECK(clip->tokens && (!condition || clip->condition) && (!image || clip->pictures), ERR_MEMORY,
          "no memory for a clip of %zu bytes", *bytes);
    return OK;
}

static Status take_clip(void *context, int64_t start, Tensor frames)
{
    EncodeVideo *v = context;
    PendingClip clip = { .start = start };
    size_t bytes = 0;
    TRY(reserve_pending(v));
    Status s = reserve_clip(v, &clip, &bytes);
    if (s == OK) s = encode_clip(v, &clip, frames);
    if (s != OK) {
        free_clip(&clip);
        return s;
    }
    v->pending[v->pending_count++] = clip;
    const bool full = (size_t)v->pending_count * bytes >= pending_limit;
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
    for (int64_t i = 0; i < v.pending_count; i++) free_clip(&v.pending[i]);
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
