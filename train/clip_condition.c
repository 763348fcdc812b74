#include "train/clip_condition.h"

/* First and last where there is a position for each picture's tokens; a model that reads latents
 * alone is told by the mask. */
static bool takes(const DitConfig *dit, ConditionKind kind)
{
    if (dit->image_dim == 0) return kind != CONDITION_NONE;
    return kind == (dit->pos_embed_seq_len > 0 ? CONDITION_FIRST_LAST : CONDITION_FIRST);
}

static const char *kinds(const DitConfig *dit)
{
    if (dit->image_dim == 0) return "first or first-last";
    return condition_name(dit->pos_embed_seq_len > 0 ? CONDITION_FIRST_LAST : CONDITION_FIRST);
}

Status clip_condition_check(const DitConfig *dit, const char *model, const Dataset *ds)
{
    const DatasetInfo *info = dataset_info(ds);
    const long long in = dit->in_channels, out = dit->out_channels;
    const bool beside = in > out, image = dit->image_rows > 0;
    if (!beside && !image) return OK;
    CHECK(!beside || in == 2 * out + CONDITION_MASK, ERR_CONFIG,
          "%s: in_channels is %lld; an image-to-video model with %lld latent channels has %lld",
          model, in, out, 2 * out + CONDITION_MASK);
    CHECK(takes(dit, info->condition), ERR_CONFIG,
          "%s: its clips' condition is %s, the image-to-video model %s reads %s: ingest with "
          "--condition %s%s",
          dataset_dir(ds), condition_name(info->condition), model, kinds(dit), kinds(dit),
          image ? " --image-encoder DIR" : "");
    CHECK(!image || info->image_width > 0, ERR_CONFIG,
          "%s: has no image tokens of its clips, which the model %s reads: ingest with "
          "--image-encoder %s",
          dataset_dir(ds), model, model);
    CHECK(!image || (info->image_rows == dit->image_rows && info->image_width == dit->image_dim),
          ERR_CONFIG,
          "%s: its clips have %lld image tokens of %lld values, %s reads %lld of %lld: ingest with "
          "its own --image-encoder",
          dataset_dir(ds), (long long)info->image_rows, (long long)info->image_width, model,
          (long long)dit->image_rows, (long long)dit->image_dim);
    return OK;
}
