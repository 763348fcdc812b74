/*
 * clip_input: a picture as the image encoder takes it: resized, its middle cut out, scaled and
 * normalised, as transformers' CLIPImageProcessor does it with Pillow.
 *
 * Resizing works on bytes (core/image/resize.h): what follows starts from rounded values. Not
 * collective.
 */
#ifndef ZT_CORE_IMAGE_CLIP_INPUT_H
#define ZT_CORE_IMAGE_CLIP_INPUT_H

#include "core/base/tensor.h"
#include "core/image/clip_config.h"

/* pixels (3, image_size, image_size) F32 from picture (height, width, 3) U8 RGB. ERR_FORMAT when
 * what the processor leaves of it is another size; ERR_MEMORY. */
Status clip_input(const ClipProcessor *processor, Tensor picture, Tensor pixels);

#endif
