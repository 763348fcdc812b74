#include "data/latent_video.h"

#include "core/codec/patch.h"

#include <stdlib.h>

/* Every column of the sheet that shows one of frames [first, first + count). */
static Status draw_columns(Sheet *sheet, int row, Tensor frames, int64_t first, int64_t total)
{
    for (int column = 0; column < sheet->columns; column++) {
        const int64_t at = sheet_frame(column, sheet->columns, total) - first;
        if (at < 0 || at >= frames.shape[0]) continue;
        TRY(sheet_draw_frame(sheet, row, column, tensor_at(frames, at)));
    }
    return OK;
}

static Status push_groups(const LinearCodec *codec, Tensor latent, Tensor group, VideoOut *video,
                          Sheet *sheet, int sheet_row)
{
    const int64_t total = linear_codec_frames(0, latent.shape[1]);
    int64_t first = 0;

    for (int64_t t = 0; t < latent.shape[1]; t++) {
        const int64_t count = linear_codec_frames(t, 1);
        const Tensor frames = tensor_slice(group, 0, count);

        TRY(linear_codec_decode(codec, frames, latent, t, 1));
        if (video) TRY(video_out_push(video, frames));
        if (sheet) TRY(draw_columns(sheet, sheet_row, frames, first, total));
        first += count;
    }
    return OK;
}

Status latent_video_push(const LinearCodec *codec, LatentGrid grid, Tensor tokens, VideoOut *video,
                         Sheet *sheet, int sheet_row)
{
    const Shape latent_shape = SHAPE(codec->channels, grid.t, grid.h, grid.w);
    const Shape group_shape = SHAPE(LINEAR_FRAMES, grid.h * LINEAR_SIDE, grid.w * LINEAR_SIDE, 3);
    Tensor latent = tensor_of(NULL, F32, latent_shape);
    Tensor group = tensor_of(NULL, U8, group_shape);
    Status s = OK;

    latent.data = malloc(tensor_bytes(latent));
    group.data = malloc(tensor_bytes(group));
    if (!latent.data || !group.data) {
        s = status_fail(ERR_MEMORY, "no memory to decode a latent of %zu bytes",
                        tensor_bytes(latent));
    } else {
        tokens_to_latent(latent, tokens);
        s = push_groups(codec, latent, group, video, sheet, sheet_row);
    }
    free(latent.data);
    free(group.data);
    return s;
}

Status latent_video_write(const char *path, const VideoOutOptions *options,
                          const LinearCodec *codec, LatentGrid grid, Tensor tokens, Sheet *sheet,
                          int sheet_row)
{
    VideoOut *video = NULL;
    Status s;

    TRY(video_out_open(path, options, &video));
    s = latent_video_push(codec, grid, tokens, video, sheet, sheet_row);
    if (s != OK) {
        video_out_abort(video);
        return s;
    }
    return video_out_commit(video);
}
