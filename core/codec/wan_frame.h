/*
 * wan_frame: one frame's activations on one rank, channels innermost, and what is done to them
 * besides convolutions.
 *
 * The rows of an image are shared out over the ranks of a group, whole latent rows to each; finer
 * resolutions follow. A frame has a row more above and below its own: a neighbour's, or zeros at
 * the image's edge. Functions that fill them are collective, all others are not.
 */
#ifndef ZT_CORE_CODEC_WAN_FRAME_H
#define ZT_CORE_CODEC_WAN_FRAME_H

#include "core/codec/wan_config.h"
#include "core/group.h"
#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which latent rows are this rank's, and which ranks have the next ones; -1: the image ends. Where
 * there are fewer rows than ranks, the last ranks have none. */
typedef struct WanRows {
    Group *group; /* view */
    int64_t first, count, all;
    int above, below;
} WanRows;

WanRows wan_rows(Group *group, int64_t all);
/* Rows of one rank of the group. */
int64_t wan_rows_of(const WanRows *rows, int rank);

typedef struct WanFrame {
    float *halo; /* (rows + 2, width, channels); view */
    int64_t rows, width, channels;
} WanFrame;

static inline int64_t wan_row_count(WanFrame f)
{
    return f.width * f.channels;
}

/* Row 0, below the halo. */
static inline float *wan_row0(WanFrame f)
{
    return f.halo + wan_row_count(f);
}

/* (rows * width, channels): without the halo. */
static inline Tensor wan_pixels(WanFrame f)
{
    return tensor_of(wan_row0(f), F32, SHAPE(f.rows * f.width, f.channels));
}

size_t wan_frame_bytes(int64_t rows, int64_t width, int64_t channels);

/* Fills the halo. Collective over the group. */
Status wan_fill_halo(const WanRows *rows, WanFrame f);
void wan_copy(const Device *dev, WanFrame to, WanFrame from);
/* to = x / max(|x|, 1e-12) sqrt(channels) gamma over channels, then SiLU where asked for.
 * ss (rows * width) is room. */
Status wan_norm(const Device *dev, WanFrame to, WanFrame x, Tensor gamma, bool silu, Tensor ss);

/* Shortcuts of 2.2 (spec 8). time: factor in time, 1 or 2; a: which frame of them this one is;
 * side: factor in space. */
typedef struct WanShortcut {
    int time, a, side;
} WanShortcut;

/* out (rows / side, width / side) += the frame's share of the average of x */
void wan_average_down(const Device *dev, WanFrame out, WanFrame x, WanShortcut shortcut);
/* out (rows side, width side) += x, repeated */
void wan_repeat_up(const Device *dev, WanFrame out, WanFrame x, WanShortcut shortcut);

/* ---- pixels and latents --------------------------------------------------------------------- */

/* A picture is (height, width, 3) F32 in [-1, 1] or U8; these rows of it are the frame's: channel
 * (colour patch + column) patch + row of a frame. */
void wan_take_picture(const Device *dev, const WanConfig *config, WanFrame f, Tensor picture,
                      int64_t first_row);
/* Clamped. */
void wan_give_picture(const Device *dev, const WanConfig *config, Tensor picture, int64_t first_row,
                      WanFrame f);
/* f = rows from `first_row` on of frame t of latent (channels, T, h, w), no longer normalised */
void wan_take_latent(const WanConfig *config, WanFrame f, Tensor latent, int64_t t,
                     int64_t first_row);
/* out (rows, width, z_dim) = the means of f, normalised */
void wan_give_means(const WanConfig *config, float *out, WanFrame f);

#ifdef __cplusplus
}
#endif
#endif
