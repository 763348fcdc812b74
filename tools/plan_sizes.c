#include "tools/plan_parts.h"

#include "core/base/file.h"
#include "core/codec/linear.h"
#include "core/codec/patch.h"

#include <stdlib.h>
#include <unistd.h>

/* What ingest takes by default. */
enum { SIDE_DEFAULT = 64, FRAMES_DEFAULT = 17 };

static Status check_size(OptionSize size, int64_t frames)
{
    enum { SIDE = LINEAR_SIDE * PATCH_SIDE };
    CHECK(frames % LINEAR_FRAMES == 1, ERR_USAGE, "--frames %lld: want 4k + 1", (long long)frames);
    CHECK(size.width % SIDE == 0 && size.height % SIDE == 0, ERR_USAGE,
          "--size %lldx%lld: both sides must be multiples of %d (8x8 codec, 2x2 patch)",
          (long long)size.width, (long long)size.height, SIDE);
    return OK;
}

static DatasetBucket bucket_of(OptionSize size, int64_t frames, int64_t channels)
{
    const int64_t t = 1 + (frames - 1) / LINEAR_FRAMES, h = size.height / LINEAR_SIDE,
                  w = size.width / LINEAR_SIDE;
    return (DatasetBucket){ .t = t,
                            .h = h,
                            .w = w,
                            .tokens = t * (h / PATCH_SIDE) * (w / PATCH_SIDE),
                            .patch = channels * PATCH_SIDE * PATCH_SIDE };
}

/* Every size with every number of frames, as ingest's buckets are. */
static Status assume(const PlanOptions *o, const TrainConfig *config, PlanSizes *out)
{
    OptionSizes sizes = o->sizes;
    OptionInts frames = o->frames;
    if (sizes.count == 0) sizes.items[sizes.count++] = (OptionSize){ SIDE_DEFAULT, SIDE_DEFAULT };
    if (frames.count == 0) frames.items[frames.count++] = FRAMES_DEFAULT;
    const int count = sizes.count * frames.count;
    out->channels = o->channels > 0 ? o->channels : LINEAR_CHANNELS_DEFAULT;
    out->assumed = calloc((size_t)count, sizeof *out->assumed);
    CHECK(out->assumed, ERR_MEMORY, "no memory for %d sizes", count);
    for (int i = 0; i < count; i++) {
        const OptionSize size = sizes.items[i / frames.count];
        const int64_t n = frames.items[i % frames.count];
        TRY(check_size(size, n));
        out->assumed[i] = bucket_of(size, n, out->channels);
    }
    out->train_sizes = (BucketList){ out->assumed, count };
    if (config->data.heldout[0]) out->heldout_sizes = out->train_sizes;
    return OK;
}

static Status open_datasets(const TrainConfig *config, PlanSizes *out)
{
    TRY(dataset_open(config->data.train, &out->train));
    out->train_sizes = dataset_bucket_list(out->train);
    out->channels = dataset_info(out->train)->channels;
    if (!config->data.heldout[0]) return OK;
    TRY(dataset_open(config->data.heldout, &out->heldout));
    out->heldout_sizes = dataset_bucket_list(out->heldout);
    return OK;
}

Status plan_sizes_find(const PlanOptions *o, const TrainConfig *config, PlanSizes *out)
{
    char path[FILE_PATH_BYTES];
    PlanSizes sizes = { 0 };
    TRY(file_join(path, config->data.train, "dataset.json"));
    const bool asked = o->sizes.count > 0 || o->frames.count > 0 || o->channels > 0;
    const Status status = asked || access(path, F_OK) != 0 ? assume(o, config, &sizes)
                                                           : open_datasets(config, &sizes);
    if (status != OK) {
        plan_sizes_destroy(&sizes);
        return status;
    }
    *out = sizes;
    return OK;
}

void plan_sizes_destroy(PlanSizes *sizes)
{
    dataset_close(sizes->train);
    dataset_close(sizes->heldout);
    free(sizes->assumed);
    *sizes = (PlanSizes){ 0 };
}
