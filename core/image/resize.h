/*
 * resize: a picture made larger or smaller by cubic convolution (a = -1/2), as Pillow does it.
 *
 * When a side shrinks, the kernel widens with it, so that nothing aliases. Each pass rounds to
 * bytes; weights are fixed-point numbers of 22 bits. Rows first, then columns; the other way round
 * where columns shrink, and more than rows: the same bytes as PIL.Image.resize(BICUBIC) of Pillow
 * 13. (Before it rows were first always, which changes the last bit of some.) Not collective.
 */
#ifndef ZT_CORE_IMAGE_RESIZE_H
#define ZT_CORE_IMAGE_RESIZE_H

#include "core/base/arena.h"
#include "core/base/tensor.h"

/* out (height, width, channels) U8 from in (height, width, channels) U8. */
Status image_resize(Tensor out, Tensor in, Arena *scratch);
/* Adds what image_resize takes to a counting arena. */
Status image_resize_scratch(Arena *count, int64_t out_height, int64_t out_width, int64_t in_height,
                            int64_t in_width, int64_t channels);

#endif
