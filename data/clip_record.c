#include "data/clip_record.h"

#include "core/base/bf16.h"
#include "core/base/json_writer.h"
#include "data/shard.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static Status check_text(const char *dir, const char *what, const char *text, const char *source)
{
    CHECK(text[0] != '\0' && json_utf8_valid(text, strlen(text)), ERR_FORMAT,
          "%s: %s of a clip of %s is empty or not UTF-8", dir, what, source);
    return OK;
}

/* Every caption has its embedding, finite, or none has. */
static Status check_embeddings(const char *dir, const DatasetInfo *info, const ClipRecord *clip)
{
    char shape[96];
    CHECK((clip->text != NULL) == (info->text_width > 0), ERR_FORMAT,
          "%s: a clip of %s comes %s embeddings of its captions", dir, clip->source,
          clip->text != NULL ? "with" : "without");
    for (int64_t i = 0; clip->text != NULL && i < clip->caption_count; i++) {
        const Tensor t = clip->text[i];
        CHECK(t.dtype == BF16 && t.ndim == 2 && t.shape[0] >= 1 && t.shape[0] <= info->text_rows &&
                  t.shape[1] == info->text_width,
              ERR_FORMAT, "%s: a caption of %s has the embedding %s, not up to %lld rows of %lld",
              dir, clip->source, tensor_describe(t, shape), (long long)info->text_rows,
              (long long)info->text_width);
        for (int64_t k = 0; k < tensor_count(t); k++)
            CHECK(isfinite(float_of_bf16(((const uint16_t *)t.data)[k])), ERR_FORMAT,
                  "%s: a caption of %s has an embedding that is not finite", dir, clip->source);
    }
    return OK;
}

/* A condition and its image tokens are there where they should be, in the right shape. */
static Status check_condition(const char *dir, const DatasetInfo *info, const ClipRecord *clip)
{
    const struct {
        const char *name;
        Tensor given;
        bool wanted;
        Shape shape;
    } parts[] = {
        { "condition", clip->condition, info->condition != CONDITION_NONE,
          SHAPE(clip->latents.shape[0], clip->latents.shape[1]) },
        { "image", clip->image, info->image_width > 0, SHAPE(info->image_rows, info->image_width) },
    };
    for (int i = 0; i < 2; i++) {
        const Tensor t = parts[i].given;
        char shape[96];
        CHECK((t.data != NULL) == parts[i].wanted, ERR_FORMAT, "%s: a clip of %s comes %s %s", dir,
              clip->source, t.data != NULL ? "with" : "without", parts[i].name);
        CHECK(t.data == NULL ||
                  (t.dtype == F32 && t.ndim == 2 && t.shape[0] == parts[i].shape.dims[0] &&
                   t.shape[1] == parts[i].shape.dims[1]),
              ERR_FORMAT, "%s: the %s of a clip of %s is %s, not (%lld, %lld) F32", dir,
              parts[i].name, clip->source, tensor_describe(t, shape),
              (long long)parts[i].shape.dims[0], (long long)parts[i].shape.dims[1]);
    }
    return OK;
}

Status clip_record_check(const char *dir, const DatasetInfo *info, const ClipRecord *clip,
                         DatasetBucket *bucket)
{
    TRY(check_text(dir, "the source", clip->source, clip->source));
    char shape[96];
    CHECK(clip->latents.ndim == 2 && clip->latents.dtype == F32 && clip->latents.data != NULL,
          ERR_FORMAT, "%s: latents of %s are %s, not (tokens, patch) F32", dir, clip->source,
          tensor_describe(clip->latents, shape));
    *bucket = (DatasetBucket){ .t = clip->t,
                               .h = clip->h,
                               .w = clip->w,
                               .tokens = clip->latents.shape[0],
                               .patch = clip->latents.shape[1] };
    TRY(shard_check_bucket(bucket, info, clip->source));
    CHECK(clip->frames >= 1 && isfinite(clip->fps) && clip->fps > 0 && isfinite(clip->start_s),
          ERR_FORMAT, "%s: a clip of %s has %lld frames at %g per second from %g s", dir,
          clip->source, (long long)clip->frames, clip->fps, clip->start_s);
    CHECK(clip->caption_count >= 1, ERR_FORMAT, "%s: a clip of %s has no caption", dir,
          clip->source);
    for (int64_t i = 0; i < clip->caption_count; i++) {
        TRY(check_text(dir, "a caption", clip->captions[i], clip->source));
    }
    TRY(check_embeddings(dir, info, clip));
    return check_condition(dir, info, clip);
}
