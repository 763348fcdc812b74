/*
 * condition: what image-to-video models read beside the noise (spec 6): which frames of the video
 * are known, and the latents of a video that has grey for all others.
 *
 *   x_t = [ noise | mask | condition ]        channels, in this order (spec 17, 15)
 *
 * The mask has a channel for each of the four pixel frames of a latent frame; latent frame 0 has
 * one pixel frame, which stands in all four. Patches are slowest in channels (core/codec/patch.h),
 * so that channels one after the other are columns one after the other.
 */
#ifndef ZT_CORE_CODEC_CONDITION_H
#define ZT_CORE_CODEC_CONDITION_H

#include "core/codec/patch.h"
#include "core/codec/wan_coder.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CONDITION_MASK = 4, CONDITION_MASK_COLUMNS = CONDITION_MASK * PATCH_VALUES };

/* What a dataset's clips come with. */
typedef enum ConditionKind {
    CONDITION_NONE,
    CONDITION_FIRST,
    CONDITION_FIRST_LAST,
    CONDITION_KINDS
} ConditionKind;

/* "none", "first", "first-last" */
const char *condition_name(ConditionKind kind);

/* Pixel frames that are known: [0, before) and [frames - after, frames). */
typedef struct KnownFrames {
    int64_t before, after;
} KnownFrames;

KnownFrames condition_known(ConditionKind kind);

/* latent (z_dim, T, h, w) F32 = the VAE's of a video of 4 (T - 1) + 1 frames: before (frames,
 * height, width, 3) U8 at its start, after at its end, either none, and grey (1, height, width, 3)
 * F32, zeros in [-1, 1], between. Collective over the coder's group. ERR_FORMAT. */
Status condition_encode(WanCoder *coder, Tensor latent, Tensor before, Tensor after, Tensor grey);

/* Which of a video's tokens are placed. */
typedef struct ConditionPart {
    KnownFrames known;
    int64_t t;            /* latent frames of the video */
    int64_t frame_tokens; /* of one of them */
    int64_t first;        /* token: latents' row 0 */
} ConditionPart;

/* Columns [column, ...) of x (rows, width) F32 = mask, then latents (rows, z_dim * 4) F32 of the
 * condition: 16 and z_dim * 4 of them. */
Status condition_place(const Device *dev, Tensor x, int64_t column, Tensor latents,
                       const ConditionPart *part);

#ifdef __cplusplus
}
#endif
#endif
