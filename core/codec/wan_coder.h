/*
 * wan_coder: a Wan VAE at work on clips of one size, forward only, a frame at a time.
 *
 * Every convolution over time keeps the two frames it last saw, so memory does not grow with a
 * clip's duration, and a clip may end wherever it likes. What the reference computes in chunks of
 * 1, 4, 4, ... frames is the same thing: all is causal. Here a frame goes through the whole net
 * before the next one enters it.
 *
 * Rows are shared out over the ranks of a group, with the bits of one rank. Frames and latents at
 * this interface are whole on every rank, going in and coming out.
 */
#ifndef ZT_CORE_CODEC_WAN_CODER_H
#define ZT_CORE_CODEC_WAN_CODER_H

#include "core/codec/wan_vae.h"
#include "core/group.h"
#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct WanCoder WanCoder;

/* For one direction, whose weights the VAE must hold; dev, vae and group stay where they are.
 * height, width: of the frames, multiples of wan_stride. Not collective. ERR_USAGE for sizes,
 * ERR_MEMORY, ERR_DEVICE. */
Status wan_coder_create(const Device *dev, const WanVae *vae, bool decodes, Group *group,
                        int64_t height, int64_t width, WanCoder **out);
void wan_coder_destroy(WanCoder *coder);
/* Bytes that it holds beside the weights. */
size_t wan_coder_bytes(const WanCoder *coder);

/* Pixel frames of latent frame t: 1 or 4. */
int64_t wan_frames(int64_t t);

/* frames (wan_frames(t), height, width, 3) U8, or F32 in [-1, 1] = latent frame t of latent
 * (z_dim, T, h, w) F32, normalised. One after the other; 0 begins a clip. Collective. ERR_FORMAT on
 * sizes or an order that do not fit. */
Status wan_decode(WanCoder *coder, Tensor frames, Tensor latent, int64_t t);
/* latent (z_dim, T, h, w) F32: its frame *t, and ++*t, as often as frames (any, height, width, 3)
 * U8 or F32 complete one: the first does, and each fourth after it. *t 0 begins a clip. Collective.
 * ERR_FORMAT on sizes, or more frames than the latent has room for. */
Status wan_encode(WanCoder *coder, Tensor latent, int64_t *t, Tensor frames);

#ifdef __cplusplus
}
#endif
#endif
