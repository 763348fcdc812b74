#include "data/ingest.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/image/clip_vision.h"
#include "data/dataset.h"
#include "data/ingest_pass.h"
#include "data/ingest_summary.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the dataset grows, and where it goes when it is whole. */
typedef struct Output {
    char final[FILE_PATH_BYTES], partial[FILE_PATH_BYTES];
} Output;

/* An empty folder may be replaced; anything else is somebody's. */
static Status check_free(const char *path)
{
    const FileKind kind = file_kind(path);
    if (kind == FILE_ABSENT) return OK;
    FileList list = { 0 };
    if (kind == FILE_FOLDER) TRY(file_list(path, &list));
    const bool is_empty = kind == FILE_FOLDER && list.count == 0;
    file_list_destroy(&list);
    CHECK(is_empty, ERR_USAGE, "--out %s: exists already; remove it or choose another name", path);
    return OK;
}

/* Before any work: the disk must take the dataset where it is wanted. */
static Status output_open(const char *path, Output *out)
{
    Output o;
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    CHECK(length < FILE_PATH_BYTES - sizeof ".partial", ERR_USAGE, "--out: path of %zu bytes",
          length);
    snprintf(o.final, sizeof o.final, "%.*s", (int)length, path);
    snprintf(o.partial, sizeof o.partial, "%.*s.partial", (int)length, path);
    TRY(check_free(o.final));

    char parent[FILE_PATH_BYTES];
    snprintf(parent, sizeof parent, "%s", o.final);
    char *slash = strrchr(parent, '/');
    if (slash) slash[slash == parent] = 0;
    CHECK(!slash || file_kind(parent) == FILE_FOLDER, ERR_IO, "--out %s: there is no folder %s",
          path, parent);
    /* what an interrupted ingest has left */
    TRY(file_remove_tree(o.partial));
    TRY(file_make_folders(o.partial));
    *out = o;
    return OK;
}

/* The codec of a dataset, or a codec folder as models have it. */
static Status find_linear(const char *path, LinearCodec *out)
{
    char weights[FILE_PATH_BYTES];
    TRY(file_join(weights, path, "linear_codec.safetensors"));
    if (file_kind(weights) == FILE_REGULAR) return linear_codec_load(path, out);
    Dataset *ds;
    TRY(dataset_open(path, &ds));
    const DatasetInfo *info = dataset_info(ds);
    const Status s =
        strcmp(info->codec, "linear") == 0
            ? linear_codec_create(out, info->basis, info->mean, info->scale, info->codec_digest,
                                  path)
            : status_fail(ERR_FORMAT, "--codec %s: its codec is \"%s\", want \"linear\"", path,
                          info->codec);
    dataset_close(ds);
    return s;
}

/* Takes the codec that is there already, if any, and checks that it can take the clips. */
static Status take_codec(Ingest *job)
{
    const IngestOptions *opt = job->opt;
    LinearCodec linear;
    if (opt->vae) TRY(codec_load_vae(opt->vae, WAN_ENCODES | WAN_DECODES, &job->codec));
    for (int i = 0; opt->vae && i < opt->sizes.count; i++)
        TRY(codec_check_size(&job->codec, "--size", opt->frames.items[0],
                             opt->sizes.items[i].height, opt->sizes.items[i].width));
    if (!opt->codec) return OK;
    TRY(find_linear(opt->codec, &linear));
    codec_take_linear(&linear, &job->codec);
    return OK;
}

/* Which image encoder there is, and how many tokens it makes of a clip. */
static Status take_image_encoder(Ingest *job)
{
    const KnownFrames known = condition_known(job->opt->condition);
    IngestImage *image = &job->image;
    Digest digest;
    if (!job->opt->image_encoder) return OK;
    TRY(clip_vision_describe(job->opt->image_encoder, &image->rows, &image->width, &digest));
    image->rows *= known.before + known.after;
    digest_hex(&digest, image->digest);
    return OK;
}

/* A VAE is too large to travel with its latents: its digest does. */
static DatasetInfo describe_dataset(const Ingest *job)
{
    const Codec *codec = &job->codec;
    const IngestText *text = &job->text;
    DatasetInfo info = {
        .codec = codec_name(codec->kind),
        .codec_digest = codec->digest,
        .channels = codec->channels,
        .patch = { 1, 2, 2 },
        .stride = { codec->stride[0], codec->stride[1], codec->stride[2] },
        .fps = job->opt->fps,
    };
    if (codec->kind == CODEC_LINEAR) {
        info.basis = linear_codec_basis(&codec->linear);
        info.mean = linear_codec_mean(&codec->linear);
        info.scale = linear_codec_scale(&codec->linear);
    }
    info.condition = job->opt->condition;
    info.image_digest = job->image.digest;
    info.image_rows = job->image.rows;
    info.image_width = job->image.width;
    if (text->width == 0) return info;
    info.text_encoder = "umt5";
    info.text_digest = text->digest;
    info.text_rows = text->max_rows;
    info.text_width = text->width;
    info.text_null = tensor_of(text->null_rows, BF16, SHAPE(text->null_count, text->width));
    return info;
}

static Status write_dataset(Ingest *job, const Output *output)
{
    const DatasetInfo info = describe_dataset(job);
    DatasetWriter *writer;
    TRY(dataset_writer_create(output->partial, &info, &writer));
    dataset_writer_set_shard_bytes(writer, job->opt->shard_mib << 20);
    Status s = ingest_encode(job, writer);
    if (s == OK) s = dataset_writer_finish(writer);
    dataset_writer_destroy(writer);
    return s == OK ? file_rename(output->partial, output->final) : s;
}

/* One worker a core this process may use, and what is left over to the decoders. */
static void plan_threads(Ingest *job)
{
    cpu_set_t set;
    const int cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int64_t workers = job->opt->workers > 0 ? job->opt->workers : cores;
    if (workers > job->list.count) workers = job->list.count;
    job->workers = (int)workers;
    job->decoder_threads = cores > job->workers ? cores / job->workers : 1;
}

static Status run(Ingest *job)
{
    const IngestOptions *opt = job->opt;
    TRY(clip_list_read(opt->source, &job->list));
    job->videos = calloc((size_t)job->list.count, sizeof *job->videos);
    CHECK(job->videos, ERR_MEMORY, "no memory for %lld videos", (long long)job->list.count);
    plan_threads(job);
    TRY(take_codec(job));
    TRY(take_image_encoder(job));

    Output output;
    TRY(output_open(opt->out, &output));
    Status s = ingest_scan(job);
    if (s == OK && opt->text_encoder)
        s = ingest_text_encode(opt, job->videos, job->list.count, output.partial, &job->text);
    if (s == OK) s = write_dataset(job, &output);
    if (s != OK) {
        /* the message is the failure's, not that of cleaning up */
        KeptStatus kept = { 0 };
        status_keep(&kept, s);
        if (file_remove_tree(output.partial) != OK) log_warn("%s", status_message());
        return status_kept(&kept);
    }
    ingest_summary(job);
    return OK;
}

Status ingest_main(int argc, char **argv)
{
    IngestOptions opt;
    bool helped = false;
    TRY(ingest_options_parse(argc, argv, &opt, &helped));
    if (helped) return OK;
    Ingest job = { .opt = &opt, .text = { .fd = -1 } };
    const Status s = run(&job);
    for (int64_t i = 0; job.videos && i < job.list.count; i++) free(job.videos[i].problem);
    free(job.videos);
    clip_list_destroy(&job.list);
    codec_destroy(&job.codec);
    ingest_text_destroy(&job.text);
    return s;
}
