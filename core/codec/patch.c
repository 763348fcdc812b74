/* patch: both directions walk the latent in its own order (patch.h has the index). */
#include "core/codec/patch.h"

#include <assert.h>

typedef struct PatchPlan {
    int64_t channels, frames, height, width; /* of the latent */
} PatchPlan;

static PatchPlan patch_plan(Tensor tokens, Tensor latent)
{
    const PatchPlan plan = { latent.shape[0], latent.shape[1], latent.shape[2], latent.shape[3] };
    assert(latent.ndim == 4 && plan.height % PATCH_SIDE == 0 && plan.width % PATCH_SIDE == 0);
    assert(tensor_width(tokens) == plan.channels * PATCH_VALUES);
    assert(tensor_count(tokens) == tensor_count(latent));
    (void)tokens;
    return plan;
}

/* Where latent value (c, t, h, w) lies in the tokens. */
static int64_t patch_index(const PatchPlan *plan, int64_t c, int64_t t, int64_t h, int64_t w)
{
    const int64_t row =
        (t * (plan->height / PATCH_SIDE) + h / PATCH_SIDE) * (plan->width / PATCH_SIDE) +
        w / PATCH_SIDE;
    return (row * plan->channels + c) * PATCH_VALUES + h % PATCH_SIDE * PATCH_SIDE + w % PATCH_SIDE;
}

void latent_to_tokens(Tensor tokens, Tensor latent)
{
    const PatchPlan plan = patch_plan(tokens, latent);
    const float *z = tensor_f32(latent);
    float *x = tensor_f32(tokens);
    for (int64_t c = 0; c < plan.channels; c++) {
        for (int64_t t = 0; t < plan.frames; t++) {
            for (int64_t h = 0; h < plan.height; h++) {
                for (int64_t w = 0; w < plan.width; w++) x[patch_index(&plan, c, t, h, w)] = *z++;
            }
        }
    }
}

void tokens_to_latent(Tensor latent, Tensor tokens)
{
    const PatchPlan plan = patch_plan(tokens, latent);
    const float *x = tensor_f32(tokens);
    float *z = tensor_f32(latent);
    for (int64_t c = 0; c < plan.channels; c++) {
        for (int64_t t = 0; t < plan.frames; t++) {
            for (int64_t h = 0; h < plan.height; h++) {
                for (int64_t w = 0; w < plan.width; w++) *z++ = x[patch_index(&plan, c, t, h, w)];
            }
        }
    }
}
