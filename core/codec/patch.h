/*
 * patch: latents <-> tokens in data order (spec 4.1).
 *
 * A token is a 1x2x2 patch of the latent; its values have the index c * 4 + ph * 2 + pw (channel
 * slowest), tokens are ordered t, h, w. The model's head writes another order (channel fastest):
 * that one belongs to the model.
 */
#ifndef ZT_CORE_CODEC_PATCH_H
#define ZT_CORE_CODEC_PATCH_H

#include "core/base/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PATCH_SIDE = 2, PATCH_VALUES = PATCH_SIDE * PATCH_SIDE };

/* tokens (t * h/2 * w/2, channels * 4) F32 = latent (channels, t, h, w) F32; h, w even. */
void latent_to_tokens(Tensor tokens, Tensor latent);
/* the inverse */
void tokens_to_latent(Tensor latent, Tensor tokens);

#ifdef __cplusplus
}
#endif
#endif
