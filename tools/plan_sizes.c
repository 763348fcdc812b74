#include "tools/plan_parts.h"

#include "core/base/file.h"
#include "core/codec/codec.h"
#include "core/codec/patch.h"
#include "infer/settings.h"

#include <stdlib.h>
#include <unistd.h>

/* The codec of the clips, counted: of the model that training begins from, the VAE that is named,
 * or a linear one of the channels that the options say. */
static Status find_codec(const PlanOptions *o, const TrainConfig *config, Codec *out)
{
    bool there = false;
    if (config->from[0]) return codec_load(config->from, WAN_COUNTS, out);
    if (config->codec == CODEC_WAN) TRY(codec_find_vae(config->codec_vae, &there));
    if (there) return codec_load_vae(config->codec_vae, WAN_COUNTS, out);
    *out = (Codec){ .channels = o->channels > 0 ? o->channels : LINEAR_CHANNELS_DEFAULT,
                    .stride = { LINEAR_FRAMES, LINEAR_SIDE, LINEAR_SIDE } };
    return OK;
}

static Status find_channels(const PlanOptions *o, const TrainConfig *config, Codec *out)
{
    TRY(find_codec(o, config, out));
    if (o->channels == 0 || o->channels == out->channels) return OK;
    const Status s =
        status_fail(ERR_USAGE, "--channels %lld: %s has %lld", (long long)o->channels,
                    config->from[0] ? config->from : config->codec_vae, (long long)out->channels);
    codec_destroy(out);
    return s;
}

static Status bucket_of(const Codec *codec, OptionSize size, int64_t frames, DatasetBucket *out)
{
    TRY(codec_check_size(codec, "--size", frames, size.height, size.width));
    const Shape z = codec_latent_shape(codec, frames, size.height, size.width);
    *out =
        (DatasetBucket){ .t = z.dims[1],
                         .h = z.dims[2],
                         .w = z.dims[3],
                         .tokens = z.dims[1] * (z.dims[2] / PATCH_SIDE) * (z.dims[3] / PATCH_SIDE),
                         .patch = z.dims[0] * PATCH_VALUES };
    return OK;
}

/* Every size with every number of frames, as ingest's buckets are; the model's own where the
 * options name none. */
static Status fill_buckets(const PlanOptions *o, const TrainConfig *config, const Codec *codec,
                           PlanSizes *out)
{
    const ModelDefaults *d = model_defaults(&config->base);
    OptionSizes sizes = o->sizes;
    OptionInts frames = o->frames;
    if (sizes.count == 0) sizes.items[sizes.count++] = d->size;
    if (frames.count == 0) frames.items[frames.count++] = d->frames;
    const int count = sizes.count * frames.count;
    out->channels = codec->channels;
    out->assumed = calloc((size_t)count, sizeof *out->assumed);
    CHECK(out->assumed, ERR_MEMORY, "no memory for %d sizes", count);
    for (int i = 0; i < count; i++)
        TRY(bucket_of(codec, sizes.items[i / frames.count], frames.items[i % frames.count],
                      &out->assumed[i]));
    out->train_sizes = (BucketList){ out->assumed, count };
    if (config->data.heldout[0]) out->heldout_sizes = out->train_sizes;
    return OK;
}

static Status assume(const PlanOptions *o, const TrainConfig *config, PlanSizes *out)
{
    Codec codec;
    TRY(find_channels(o, config, &codec));
    const Status s = fill_buckets(o, config, &codec, out);
    codec_destroy(&codec);
    return s;
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
