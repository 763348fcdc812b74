/*
 * reference_parts: what infer/references.c is made of that stands on its own: tensors of
 * references, the noise of another program, pictures as the image encoder's tokens. Not collective:
 * every rank makes the same.
 */
#ifndef ZT_INFER_REFERENCE_PARTS_H
#define ZT_INFER_REFERENCE_PARTS_H

#include "infer/references.h"

/* F32 zeros on the heap. ERR_MEMORY. */
Status reference_tensor(Shape shape, Tensor *out);
/* tokens (tokens, channels * 4), new, of latent (channels, T, h, w). */
Status reference_tokens(Tensor latent, Tensor *tokens);

/* out->noise from --noise, where it is given. ERR_FORMAT for another shape than the video's. */
Status reference_noise(const Engine *engine, const InferOptions *options, References *out);
/* out->image from --image and --last-image, where the model reads image tokens. */
Status reference_pictures(Engine *engine, const InferOptions *options, References *out);

#endif
