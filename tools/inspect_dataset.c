/* inspect_dataset: clips, buckets, sources with examples of their captions. */
#include "data/dataset.h"
#include "tools/inspect_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SOURCES_SHOWN = 20 };

typedef struct SourceClip {
    const char *source; /* view */
    int64_t clip;
} SourceClip;

static int compare_sources(const void *a, const void *b)
{
    const SourceClip *x = a, *y = b;
    const int order = strcmp(x->source, y->source);
    return order != 0 ? order : x->clip < y->clip ? -1 : 1;
}

static int64_t count_sources(const SourceClip *order, int64_t clips)
{
    int64_t count = 0;
    for (int64_t i = 0; i < clips; i++)
        count += i == 0 || strcmp(order[i].source, order[i - 1].source) != 0;
    return count;
}

static double clip_seconds(const DatasetClip *clip)
{
    return clip->fps > 0 ? (double)clip->frames / clip->fps : 0;
}

static void show_info(Report *report, const Dataset *ds)
{
    const DatasetInfo *info = dataset_info(ds);
    report_real(report, "fps", info->fps);
    report_string(report, "codec", info->codec);
    report_string(report, "codec_digest", info->codec_digest);
    if (info->text_width > 0) {
        report_string(report, "text_encoder", info->text_encoder);
        report_string(report, "text_digest", info->text_digest);
        report_int(report, "text_rows", info->text_rows);
        report_int(report, "text_width", info->text_width);
    }
    if (info->condition != CONDITION_NONE)
        report_string(report, "condition", condition_name(info->condition));
    if (info->image_width > 0) {
        report_string(report, "image_digest", info->image_digest);
        report_int(report, "image_rows", info->image_rows);
        report_int(report, "image_width", info->image_width);
    }
    report_int(report, "latent_channels", info->channels);
    report_shape(report, "latent_stride", info->stride, 3);
    report_shape(report, "patch", info->patch, 3);
}

static void show_buckets(Report *report, const Dataset *ds)
{
    const DatasetInfo *info = dataset_info(ds);
    report_table(report, "buckets", 0);
    for (int64_t i = 0; i < dataset_buckets(ds); i++) {
        const DatasetBucket *b = dataset_bucket(ds, i);
        char name[96];
        (void)snprintf(name, sizeof name, "%lld_%lld_%lld", (long long)b->t, (long long)b->h,
                       (long long)b->w);
        report_row(report, name);
        report_int(report, "frames", 1 + info->stride[0] * (b->t - 1));
        report_int(report, "width", info->stride[2] * b->w);
        report_int(report, "height", info->stride[1] * b->h);
        report_int(report, "tokens", b->tokens);
        report_int(report, "patch", b->patch);
        report_int(report, "clips", b->clips);
        report_row_end(report);
    }
    report_table_end(report);
}

/* Clips [0, count) of one source. */
static void show_source(Report *report, const Dataset *ds, const SourceClip *clips, int64_t count)
{
    double seconds = 0;
    for (int64_t i = 0; i < count; i++) {
        const DatasetClip clip = dataset_clip(ds, clips[i].clip);
        seconds += clip_seconds(&clip);
    }
    report_row(report, clips[0].source);
    report_int(report, "clips", count);
    report_real(report, "clip_seconds", seconds);
    report_int(report, "captions", dataset_clip(ds, clips[0].clip).caption_count);
    report_string(report, "example", dataset_caption(ds, clips[0].clip, 0));
    report_row_end(report);
}

static void show_sources(Report *report, const Dataset *ds, const SourceClip *order)
{
    const int64_t clips = dataset_clips(ds);
    report_table(report, "sources", SOURCES_SHOWN);
    for (int64_t i = 0, first = 0; i < clips; i++) {
        if (i + 1 < clips && strcmp(order[i + 1].source, order[i].source) == 0) continue;
        show_source(report, ds, order + first, i + 1 - first);
        first = i + 1;
    }
    report_table_end(report);
}

static Status show_dataset(Report *report, const char *path, const Dataset *ds,
                           const SourceClip *order)
{
    DiskFiles files = { 0 };
    double seconds = 0;
    for (int64_t i = 0; i < dataset_clips(ds); i++) {
        const DatasetClip clip = dataset_clip(ds, i);
        seconds += clip_seconds(&clip);
    }
    TRY(disk_list(path, &files));
    report_string(report, "digest", dataset_digest(ds));
    report_int(report, "clips", dataset_clips(ds));
    report_real(report, "clip_seconds", seconds);
    report_int(report, "videos", count_sources(order, dataset_clips(ds)));
    report_int(report, "captions", dataset_captions(ds));
    show_info(report, ds);
    report_int(report, "shards", dataset_shards(ds));
    report_bytes(report, "size_bytes", files.bytes);
    show_buckets(report, ds);
    show_sources(report, ds, order);
    disk_destroy(&files);
    return OK;
}

Status inspect_dataset(Report *report, const char *path)
{
    Dataset *ds = NULL;
    TRY(dataset_open(path, &ds));
    const int64_t clips = dataset_clips(ds);
    Status s = OK;
    SourceClip *order = calloc((size_t)clips + 1, sizeof *order);
    CHECK_TO(done, s, order, ERR_MEMORY, "%s: no memory for %lld clips", path, (long long)clips);
    for (int64_t i = 0; i < clips; i++) order[i] = (SourceClip){ dataset_clip(ds, i).source, i };
    qsort(order, (size_t)clips, sizeof *order, compare_sources);
    s = show_dataset(report, path, ds, order);
done:
    free(order);
    dataset_close(ds);
    return s;
}
