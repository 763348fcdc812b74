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

Status latent_video_agree(const CodecStream *codec, Status own)
{
    float ranks[ERR_STOPPED + 1] = { 0 }; /* with each status */
    if (!codec_is_shared(codec)) return own;
    ranks[own] = 1;
    TRY(group_all_reduce(codec_group(codec), tensor_of(ranks, F32, SHAPE(ERR_STOPPED + 1))));
    for (int code = OK + 1; own == OK && code <= ERR_STOPPED; code++)
        CHECK(ranks[code] == 0, (Status)code, "another rank of those that decode a video failed");
    return own;
}

static Status give_frames(VideoOut *video, Sheet *sheet, int sheet_row, Tensor frames,
                          int64_t first, int64_t total)
{
    if (video) TRY(video_out_push(video, frames));
    return sheet ? draw_columns(sheet, sheet_row, frames, first, total) : OK;
}

static Status push_groups(CodecStream *codec, Tensor latent, Tensor group, VideoOut *video,
                          Sheet *sheet, int sheet_row)
{
    const int64_t total = codec_frames(0, latent.shape[1]);
    int64_t first = 0;

    for (int64_t t = 0; t < latent.shape[1]; t++) {
        const int64_t count = codec_frames(t, 1);
        const Tensor frames = tensor_slice(group, 0, count);

        TRY(codec_decode(codec, frames, latent, t));
        TRY(latent_video_agree(codec, give_frames(video, sheet, sheet_row, frames, first, total)));
        first += count;
    }
    return OK;
}

Status latent_video_push(CodecStream *codec, LatentGrid grid, Tensor tokens, VideoOut *video,
                         Sheet *sheet, int sheet_row)
{
    const Codec *c = codec_of(codec);
    const Shape latent_shape = SHAPE(c->channels, grid.t, grid.h, grid.w);
    const Shape group_shape = SHAPE(CODEC_FRAMES, grid.h * c->stride[1], grid.w * c->stride[2], 3);
    Tensor latent = tensor_of(NULL, F32, latent_shape);
    Tensor group = tensor_of(NULL, U8, group_shape);
    Status s = OK;

    latent.data = malloc(tensor_bytes(latent));
    group.data = malloc(tensor_bytes(group));
    if (!latent.data || !group.data)
        s = status_fail(ERR_MEMORY, "no memory to decode a latent of %zu bytes",
                        tensor_bytes(latent));
    s = latent_video_agree(codec, s);
    if (s == OK) {
        tokens_to_latent(latent, tokens);
        s = push_groups(codec, latent, group, video, sheet, sheet_row);
    }
    free(latent.data);
    free(group.data);
    return s;
}

Status latent_video_write(const char *path, const VideoOutOptions *options, CodecStream *codec,
                          LatentGrid grid, Tensor tokens, Sheet *sheet, int sheet_row)
{
    const bool writes = !codec_is_shared(codec) || codec_group(codec)->rank == 0;
    VideoOut *video = NULL;
    Status s;

    s = latent_video_agree(codec, writes ? video_out_open(path, options, &video) : OK);
    if (s == OK)
        s = latent_video_push(codec, grid, tokens, video, writes ? sheet : NULL, sheet_row);
    if (s != OK) {
        video_out_abort(video);
        return s;
    }
    return latent_video_agree(codec, video ? video_out_commit(video) : OK);
}
