/*
 * clip_vision: a picture as the tokens that Wan's image-to-video models read (spec 10): the hidden
 * state of CLIP's vision tower before its last layer, class token first.
 *
 *   x = LN(patches W + position);  x += O attention(LN1(x));  x += W2 act(W1 LN2(x) + b1) + b2
 *
 * The last layer, the norm behind it and the projection are not computed. Layers are in memory one
 * at a time: a picture passes each once, and what is read is 2.5 GB for the public tower, in F32.
 * One or two pictures a video: a rank computes them whole, for itself or for all. Not collective.
 */
#ifndef ZT_CORE_IMAGE_CLIP_VISION_H
#define ZT_CORE_IMAGE_CLIP_VISION_H

#include "core/base/digest.h"
#include "core/device.h"
#include "core/image/clip_config.h"

/* tokens (count, clip_tokens, hidden_size) F32 of pictures (count), each (height, width, 3) U8 RGB
 * of any size, as image_processor/ of the model directory prepares them. dtype: F32 or, unless
 * numerics are exact, BF16, of the weights in memory. ERR_FORMAT, ERR_CONFIG, ERR_IO, ERR_MEMORY.
 */
Status clip_vision_encode(const Device *dev, const char *model_dir, DType dtype,
                          const Tensor *pictures, int64_t count, Tensor tokens);
/* Bytes that it takes while it runs. ERR_FORMAT, ERR_IO: the configuration's. */
Status clip_vision_bytes(const Device *dev, const char *model_dir, DType dtype, int64_t count,
                         size_t *bytes);
/* The same as clip_vision_encode from pixels (count, 3, image_size, image_size) F32 that are
 * prepared already. */
Status clip_vision_encode_pixels(const Device *dev, const char *model_dir, DType dtype,
                                 Tensor pixels, Tensor tokens);

/* rows and width of a picture's tokens, and which encoder it is: SHA-256 of the processor's and the
 * tower's sizes and of all weights that are used, read whole once. ERR_FORMAT, ERR_IO, ERR_MEMORY.
 */
Status clip_vision_describe(const char *model_dir, int64_t *rows, int64_t *width, Digest *digest);

#endif
