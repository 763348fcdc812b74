/*
 * linear: the codec that is fitted to the data in closed form, 4x8x8, causal in the first frame.
 *
 * 1 + 4n pixel frames <-> 1 + n latent frames: the first frame is repeated to fill its block of
 * four. A block is 4 * 8 * 8 * 3 values, index ((frame * 8 + row) * 8 + column) * 3 + colour, with
 * pixels scaled to [-1, 1]:
 *
 *     latent[c] = scale[c] * dot(basis[c], block - mean)
 *     block     = mean + sum over c of basis[c] * latent[c] / scale[c]
 *
 * The basis is the leading principal components of the blocks. A channel is scaled by one over the
 * square root of its standard deviation and all by one number to unit variance together: less than
 * whitening, so that what matters most to the eye still has most of the variance.
 */
#ifndef ZT_CORE_CODEC_LINEAR_H
#define ZT_CORE_CODEC_LINEAR_H

#include "core/base/status.h"
#include "core/base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    LINEAR_FRAMES = 4, /* pixel frames of a block */
    LINEAR_SIDE = 8,   /* pixel rows and columns of a block */
    LINEAR_BLOCK = LINEAR_FRAMES * LINEAR_SIDE * LINEAR_SIDE * 3,
    LINEAR_CHANNELS_DEFAULT = 48,
};

typedef struct LinearCodec {
    int64_t channels; /* 1 .. LINEAR_BLOCK */
    float *basis;     /* (channels, LINEAR_BLOCK) orthonormal rows; owned, as are the two below */
    float *mean;      /* (LINEAR_BLOCK) */
    float *scale;     /* (channels) positive, finite */
    char digest[65];  /* SHA-256 of the bytes of basis, mean, scale: datasets and models carry it */
} LinearCodec;

/* Copies parameters that lie elsewhere, such as in a dataset: basis (channels, LINEAR_BLOCK), mean
 * (LINEAR_BLOCK), scale (channels), F32. `what` names the place in errors. ERR_FORMAT: wrong
 * shapes, values that are not finite, a scale that is not positive, or another digest than `digest`
 * (may be NULL). */
Status linear_codec_create(LinearCodec *out, Tensor basis, Tensor mean, Tensor scale,
                           const char *digest, const char *what);
void linear_codec_destroy(LinearCodec *codec);
/* Views of the parameters. */
Tensor linear_codec_basis(const LinearCodec *codec);
Tensor linear_codec_mean(const LinearCodec *codec);
Tensor linear_codec_scale(const LinearCodec *codec);

/* ---- fitting -------------------------------------------------------------------------------- */

/* Sum of blocks and of their outer products, in double. */
typedef struct LinearFit LinearFit;

Status linear_codec_fit_create(LinearFit **out);
/* Adds every block of one clip; frames (1 + 4n, height, width, 3) U8, sides multiples of 8. */
Status linear_codec_fit_add(LinearFit *fit, Tensor frames);
/* fit += other: clips fitted apart, put together in an order the caller chooses. */
void linear_codec_fit_merge(LinearFit *fit, const LinearFit *other);
/* Forgets every block. */
void linear_codec_fit_clear(LinearFit *fit);
/* ERR_CONFIG: channels out of range. ERR_FORMAT: fewer than two blocks were added. */
Status linear_codec_fit_finish(const LinearFit *fit, int64_t channels, LinearCodec *out);
void linear_codec_fit_destroy(LinearFit *fit);

/* ---- coding --------------------------------------------------------------------------------- */

/* Pixel frames of latent frames [first, first + count): latent frame 0 gives 1, each other 4. */
int64_t linear_codec_frames(int64_t first, int64_t count);

/* latent (channels, T, height / 8, width / 8) F32 = frames (1 + 4 (T - 1), height, width, 3) U8.
 * One thread: callers run clips side by side. ERR_FORMAT on sizes that do not fit. */
Status linear_codec_encode(const LinearCodec *codec, Tensor latent, Tensor frames);
/* frames (linear_codec_frames(first, count), height, width, 3) U8 = latent frames [first,
 * first + count) of latent (channels, T, height / 8, width / 8) F32: any range gives the bytes that
 * the whole gives. The first frame is the average of its four. OpenMP threads. */
Status linear_codec_decode(const LinearCodec *codec, Tensor frames, Tensor latent, int64_t first,
                           int64_t count);

/* ---- files ---------------------------------------------------------------------------------- */

/* Writes folder/config.json and folder/linear_codec.safetensors; makes the folder if need be. */
Status linear_codec_save(const LinearCodec *codec, const char *folder);
/* Reads them back; a digest that differs from the parameters' is ERR_FORMAT. */
Status linear_codec_load(const char *folder, LinearCodec *out);

#ifdef __cplusplus
}
#endif
#endif
