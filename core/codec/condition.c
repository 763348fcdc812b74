#include "core/codec/condition.h"

#include <assert.h>

const char *condition_name(ConditionKind kind)
{
    static const char *const names[CONDITION_KINDS] = { "none", "first", "first-last" };
    return names[kind];
}

KnownFrames condition_known(ConditionKind kind)
{
    return (KnownFrames){ kind != CONDITION_NONE, kind == CONDITION_FIRST_LAST };
}

static int64_t pixel_frames(int64_t t)
{
    return 1 + WAN_FRAMES * (t - 1);
}

Status condition_encode(WanCoder *coder, Tensor latent, Tensor before, Tensor after, Tensor grey)
{
    const int64_t frames = pixel_frames(latent.shape[1]);
    const int64_t first = before.data ? before.shape[0] : 0, last = after.data ? after.shape[0] : 0;
    int64_t done = 0;
    assert(first + last <= frames);
    if (first > 0) TRY(wan_encode(coder, latent, &done, before));
    for (int64_t i = first; i < frames - last; i++) TRY(wan_encode(coder, latent, &done, grey));
    return last > 0 ? wan_encode(coder, latent, &done, after) : OK;
}

/* Mask channel j of latent frame t: pixel frame 4 t - 3 + j, and the first one four times. */
static float mask_value(KnownFrames known, int64_t frames, int64_t t, int64_t j)
{
    const int64_t pixel = t == 0 ? 0 : CONDITION_MASK * t - (CONDITION_MASK - 1) + j;
    return pixel < known.before || pixel >= frames - known.after ? 1.0f : 0.0f;
}

static void place_mask(Tensor x, int64_t column, int64_t rows, const ConditionPart *part)
{
    const int64_t frames = pixel_frames(part->t), width = tensor_width(x);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t t = (part->first + i) / part->frame_tokens;
        float *row = tensor_f32(x) + i * width + column;
        for (int64_t k = 0; k < CONDITION_MASK_COLUMNS; k++)
            row[k] = mask_value(part->known, frames, t, k / PATCH_VALUES);
    }
}

Status condition_place(const Device *dev, Tensor x, int64_t column, Tensor latents,
                       const ConditionPart *part)
{
    place_mask(x, column, tensor_rows(latents), part);
    return op_place_columns(dev, x, latents, column + CONDITION_MASK_COLUMNS);
}
