/*
 * latent_video: latent tokens to frames, one group of frames at a time.
 *
 * A latent frame gives one pixel frame (the first) or four; only those are in memory at once, and
 * each group goes to the video file, and where wanted to a contact sheet, before the next is made.
 *
 * Ranks may share the decoding (codec_is_shared): then all of the stream's group make the call with
 * the same tokens, and rank 0 alone has a file and a sheet. What fails on one ends it on all.
 */
#ifndef ZT_DATA_LATENT_VIDEO_H
#define ZT_DATA_LATENT_VIDEO_H

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/codec/codec.h"
#include "data/sheet.h"
#include "data/video_out.h"

typedef struct LatentGrid {
    int64_t t, h, w; /* latent frames, rows, columns */
} LatentGrid;

/* tokens (t * h/2 * w/2, channels * 4) F32. video or sheet may be NULL. sheet_row: where its frames
 * go. ERR_MEMORY and what video_out_push returns. */
Status latent_video_push(CodecStream *codec, LatentGrid grid, Tensor tokens, VideoOut *video,
                         Sheet *sheet, int sheet_row);

/* own, or, where it is OK, what another rank that shares the decoding failed with. Collective over
 * them; without sharing, own. */
Status latent_video_agree(const CodecStream *codec, Status own);

/* Opens, pushes and commits one file; an error leaves nothing. sheet may be NULL. */
Status latent_video_write(const char *path, const VideoOutOptions *options, CodecStream *codec,
                          LatentGrid grid, Tensor tokens, Sheet *sheet, int sheet_row);

#endif
