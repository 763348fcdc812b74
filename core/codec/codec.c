#include "core/codec/codec.h"

#include "core/codec/patch.h"

#include <stdlib.h>
#include <string.h>

void codec_take_linear(LinearCodec *linear, Codec *out)
{
    *out = (Codec){ .kind = CODEC_LINEAR,
                    .linear = *linear,
                    .channels = linear->channels,
                    .stride = { LINEAR_FRAMES, LINEAR_SIDE, LINEAR_SIDE } };
    memcpy(out->digest, linear->digest, sizeof out->digest);
    *linear = (LinearCodec){ 0 };
}

void codec_destroy(Codec *codec)
{
    if (!codec) return;
    linear_codec_destroy(&codec->linear);
    wan_vae_destroy(codec->wan);
    *codec = (Codec){ 0 };
}

const char *codec_name(CodecKind kind)
{
    return kind == CODEC_WAN ? "wan" : "linear";
}

int64_t codec_side(const Codec *codec)
{
    return codec->stride[1] * PATCH_SIDE;
}

Status codec_check_size(const Codec *codec, const char *what, int64_t frames, int64_t height,
                        int64_t width)
{
    const int64_t side = codec_side(codec), less = frames - (frames + 3) % CODEC_FRAMES;
    CHECK(height % side == 0 && width % side == 0, ERR_USAGE,
          "%s: %lldx%lld: both sides must be multiples of %lld (%lldx%lld codec, %dx%d patch)",
          what, (long long)width, (long long)height, (long long)side, (long long)codec->stride[1],
          (long long)codec->stride[2], PATCH_SIDE, PATCH_SIDE);
    CHECK(frames % CODEC_FRAMES == 1, ERR_USAGE,
          "%s: %lld frames: want 4k + 1, the nearest are %lld and %lld", what, (long long)frames,
          (long long)less, (long long)less + CODEC_FRAMES);
    return OK;
}

Shape codec_latent_shape(const Codec *codec, int64_t frames, int64_t height, int64_t width)
{
    return SHAPE(codec->channels, 1 + (frames - 1) / codec->stride[0], height / codec->stride[1],
                 width / codec->stride[2]);
}

int64_t codec_frames(int64_t first, int64_t count)
{
    return linear_codec_frames(first, count);
}

/* ---- at work --------------------------------------------------------------------------------- */

struct CodecStream {
    const Codec *codec;
    Group *group;
    WanCoder *coder; /* owned; NULL for a linear codec */
};

Status codec_stream_create(const Device *dev, const Codec *codec, bool decodes, Group *group,
                           int64_t height, int64_t width, CodecStream **out)
{
    CodecStream *s = calloc(1, sizeof *s);
    CHECK(s, ERR_MEMORY, "no memory for a codec's state");
    *s = (CodecStream){ .codec = codec, .group = group };
    Status status = OK;
    if (codec->kind == CODEC_WAN)
        status = wan_coder_create(dev, codec->wan, decodes, group, height, width, &s->coder);
    if (status == OK)
        *out = s;
    else
        codec_stream_destroy(s);
    return status;
}

void codec_stream_destroy(CodecStream *stream)
{
    if (!stream) return;
    wan_coder_destroy(stream->coder);
    free(stream);
}

size_t codec_stream_bytes(const CodecStream *stream)
{
    return stream->coder ? wan_coder_bytes(stream->coder) : 0;
}

const Codec *codec_of(const CodecStream *stream)
{
    return stream->codec;
}

Group *codec_group(const CodecStream *stream)
{
    return stream->group;
}

WanCoder *codec_coder(CodecStream *stream)
{
    return stream->coder;
}

bool codec_is_shared(const CodecStream *stream)
{
    return stream->coder && stream->group->size > 1;
}

Status codec_decode(CodecStream *stream, Tensor frames, Tensor latent, int64_t t)
{
    if (stream->coder) return wan_decode(stream->coder, frames, latent, t);
    return linear_codec_decode(&stream->codec->linear, frames, latent, t, 1);
}

Status codec_encode(CodecStream *stream, Tensor latent, Tensor frames)
{
    int64_t done = 0;
    if (!stream->coder) return linear_codec_encode(&stream->codec->linear, latent, frames);
    TRY(wan_encode(stream->coder, latent, &done, frames));
    CHECK(done == latent.shape[1] && frames.shape[0] % CODEC_FRAMES == 1, ERR_FORMAT,
          "VAE: %lld frames do not make %lld latent frames", (long long)frames.shape[0],
          (long long)latent.shape[1]);
    return OK;
}
