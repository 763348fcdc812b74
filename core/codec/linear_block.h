/* linear_block: where the pixels of a block lie. Shared by the fit and the coding of linear.h. */
#ifndef ZT_CORE_CODEC_LINEAR_BLOCK_H
#define ZT_CORE_CODEC_LINEAR_BLOCK_H

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/codec/linear.h"

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { LINEAR_ROW = LINEAR_SIDE * 3 }; /* contiguous bytes of a block's row */

/* frames (1 + 4n, height, width, 3) U8, sides multiples of LINEAR_SIDE */
static inline Status linear_check_frames(Tensor frames)
{
    const int64_t *n = frames.shape;
    const int is_rgb = frames.ndim == 4 && frames.dtype == U8 && n[3] == 3;
    char what[96];
    CHECK(is_rgb && n[0] >= 1 && n[0] % LINEAR_FRAMES == 1 && n[1] >= LINEAR_SIDE &&
              n[2] >= LINEAR_SIDE && n[1] % LINEAR_SIDE == 0 && n[2] % LINEAR_SIDE == 0,
          ERR_FORMAT,
          "linear codec: frames are %s, want (1 + 4n, height, width, 3) U8 with sides that are "
          "multiples of %d",
          tensor_describe(frames, what), (int)LINEAR_SIDE);
    return OK;
}

/* Pixel frame that frame `f` of latent frame `t`'s blocks shows: the first repeats itself. */
static inline int64_t linear_block_frame(int64_t t, int64_t f)
{
    return t == 0 ? 0 : LINEAR_FRAMES * (t - 1) + 1 + f;
}

/* First byte of the block's row `y` in frame `f`, in frames (any, height, width, 3). */
static inline int64_t linear_block_offset(Tensor frames, int64_t frame, int64_t by, int64_t bx,
                                          int64_t y)
{
    const int64_t row = frame * frames.shape[1] + by * LINEAR_SIDE + y;
    return (row * frames.shape[2] + bx * LINEAR_SIDE) * 3;
}

/* block (LINEAR_BLOCK) = block (by, bx) of latent frame t */
static inline void linear_block_read(Tensor frames, int64_t t, int64_t by, int64_t bx,
                                     uint8_t *block)
{
    const uint8_t *pixels = (const uint8_t *)frames.data;
    for (int64_t f = 0; f < LINEAR_FRAMES; f++) {
        const int64_t frame = linear_block_frame(t, f);
        for (int64_t y = 0; y < LINEAR_SIDE; y++, block += LINEAR_ROW) {
            memcpy(block, pixels + linear_block_offset(frames, frame, by, bx, y), LINEAR_ROW);
        }
    }
}

#ifdef __cplusplus
}
#endif
#endif
