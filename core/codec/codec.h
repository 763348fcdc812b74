/*
 * codec: pixels to latents and back, whichever kind of codec does it.
 *
 * A model directory says which it is: codec/ holds a linear codec, vae/ a public Wan VAE, and a
 * model that was trained here on a VAE's latents has codec/vae.json say which VAE and where it was:
 * a VAE is large, public and not changed by training. All kinds take 4k + 1 frames, the first one
 * apart; sides are multiples of codec_side.
 */
#ifndef ZT_CORE_CODEC_CODEC_H
#define ZT_CORE_CODEC_CODEC_H

#include "core/base/file.h"
#include "core/codec/linear.h"
#include "core/codec/wan_coder.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CODEC_FRAMES = 4 }; /* pixel frames of each latent frame but the first */

typedef enum CodecKind { CODEC_LINEAR, CODEC_WAN } CodecKind;

/* All zero: none. */
typedef struct Codec {
    CodecKind kind;
    LinearCodec linear; /* owned, as is the VAE; the other one is zero */
    WanVae *wan;
    int64_t channels;        /* of a latent */
    int64_t stride[3];       /* pixel frames, rows and columns of a latent */
    char digest[DIGEST_HEX]; /* datasets and models carry it: the same digest, the same latents */
} Codec;

/* use: WAN_ENCODES, WAN_DECODES, both, or 0 for what a codec is and no more; with WAN_COUNTS, which
 * a plan adds, a VAE needs no weights and has no digest. Not collective. */

/* The same use on a device: one that counts wants no values. */
static inline int codec_use(const Device *dev, int use)
{
    return dev->counting ? use | WAN_COUNTS : use;
}

/* A model directory's. ERR_FORMAT when it has none, ERR_IO, ERR_MEMORY. */
Status codec_load(const char *model_dir, int use, Codec *out);
/* A VAE's folder, or that of a pipeline with a vae/ in it. */
Status codec_load_vae(const char *path, int use, Codec *out);
/* Whether there is one that codec_load_vae would take. ERR_IO. */
Status codec_find_vae(const char *path, bool *there);
/* Takes the linear codec over, which becomes none. */
void codec_take_linear(LinearCodec *linear, Codec *out);
void codec_destroy(Codec *codec);
/* As a folder of a model directory: a linear codec itself; of a VAE its digest and `vae`, where it
 * is. */
Status codec_save(const Codec *codec, const char *vae, const char *folder);

/* FOLDER/vae.json: a VAE of which a model only knows where it was, and its digest. */
typedef struct CodecReference {
    char vae[FILE_PATH_BYTES], digest[DIGEST_HEX];
} CodecReference;

Status codec_reference_read(const char *folder, CodecReference *out);
/* Digest of a model directory's codec, "" where it has none. A VAE that it only refers to need not
 * be there; one of its own is read. ERR_FORMAT, ERR_IO, ERR_MEMORY. */
Status codec_digest_of(const char *model_dir, char out[DIGEST_HEX]);

/* "linear" or "wan": what datasets say. */
const char *codec_name(CodecKind kind);
/* What both sides of a video must be multiples of: the stride, and the transformer's patch. */
int64_t codec_side(const Codec *codec);
/* ERR_USAGE says which sides or numbers of frames are the nearest; `what` begins the line. */
Status codec_check_size(const Codec *codec, const char *what, int64_t frames, int64_t height,
                        int64_t width);
/* (channels, T, h, w) of the latent of such a video. */
Shape codec_latent_shape(const Codec *codec, int64_t frames, int64_t height, int64_t width);
/* Pixel frames of latent frames [first, first + count): latent frame 0 gives 1, each other 4. */
int64_t codec_frames(int64_t first, int64_t count);

/* ---- at work -------------------------------------------------------------------------------- */

/* A codec in one direction, for videos of one size, one at a time. */
typedef struct CodecStream CodecStream;

/* dev, codec and group stay where they are. The ranks of the group share a Wan VAE's work; a linear
 * codec's is rank 0's. ERR_USAGE, ERR_MEMORY, ERR_DEVICE. Not collective. */
Status codec_stream_create(const Device *dev, const Codec *codec, bool decodes, Group *group,
                           int64_t height, int64_t width, CodecStream **out);
void codec_stream_destroy(CodecStream *stream);
/* Bytes that it holds beside the codec. */
size_t codec_stream_bytes(const CodecStream *stream);
const Codec *codec_of(const CodecStream *stream);
Group *codec_group(const CodecStream *stream);
/* NULL for a linear codec. */
WanCoder *codec_coder(CodecStream *stream);
/* Whether every rank of the group must make the calls below; otherwise rank 0 makes them alone. */
bool codec_is_shared(const CodecStream *stream);

/* frames (codec_frames(t, 1), height, width, 3) U8 = latent frame t of latent (channels, T, h, w)
 * F32. One after the other from 0 on. Whole on every rank. ERR_FORMAT. */
Status codec_decode(CodecStream *stream, Tensor frames, Tensor latent, int64_t t);
/* latent (channels, T, h, w) F32 = frames (4 (T - 1) + 1, height, width, 3) U8. Whole on every
 * rank. ERR_FORMAT. */
Status codec_encode(CodecStream *stream, Tensor latent, Tensor frames);

#ifdef __cplusplus
}
#endif
#endif
