#include "core/base/log.h"
#include "core/base/ordered.h"
#include "data/ingest_pass.h"

#include <stdlib.h>
#include <string.h>

typedef struct Scan {
    Ingest *job;
    LinearFit *total; /* owned; NULL when there is a codec already */
    LinearFit **fits; /* owned, each owned; one a worker: the video it works on */
    Progress progress;
} Scan;

static Status fit_clip(void *fit, int64_t start, Tensor frames)
{
    (void)start;
    return fit ? linear_codec_fit_add(fit, frames) : OK;
}

/* A bad video is not added to the fit, not even the part before the damage. */
static Status scan_source(Scan *scan, int worker, int64_t item)
{
    IngestVideo *video = &scan->job->videos[item];
    LinearFit *fit = scan->fits[worker];
    video->source = &scan->job->list.items[item];
    CHECK(!video->source->problem, ERR_FORMAT, "%s", video->source->problem);
    if (fit) linear_codec_fit_clear(fit);
    return ingest_cut_video(scan->job->opt, scan->job->decoder_threads, video, fit_clip, fit);
}

static Status scan_video(Ordered *order, void *context, int worker, int64_t item)
{
    Scan *scan = context;
    Ingest *job = scan->job;
    IngestVideo *video = &job->videos[item];
    const Status s = scan_source(scan, worker, item);
    /* what is wrong with one file is not wrong with the job; memory and devices are */
    const bool is_bad_file = s == ERR_FORMAT || s == ERR_IO;
    if (s != OK && (!is_bad_file || job->opt->strict)) return s;
    if (s != OK) {
        video->clips = 0;
        video->problem = strdup(status_message());
        CHECK(video->problem, ERR_MEMORY, "no memory for the list of bad videos");
    }
    TRY(ordered_wait(order, item));
    if (s != OK) {
        job->skipped++;
        log_warn("skipped %s", video->problem);
    } else if (scan->total) {
        linear_codec_fit_merge(scan->total, scan->fits[worker]);
    }
    job->clips += video->clips;
    progress_update(&scan->progress, item + 1, video->source->name);
    return OK;
}

static Status create_fits(Scan *scan)
{
    const int workers = scan->job->workers;
    scan->fits = calloc((size_t)workers, sizeof(*scan->fits));
    CHECK(scan->fits, ERR_MEMORY, "no memory for %d workers", workers);
    if (scan->job->codec.channels > 0) return OK;
    TRY(linear_codec_fit_create(&scan->total));
    for (int i = 0; i < workers; i++) TRY(linear_codec_fit_create(&scan->fits[i]));
    return OK;
}

static void destroy_fits(Scan *scan)
{
    linear_codec_fit_destroy(scan->total);
    for (int i = 0; scan->fits && i < scan->job->workers; i++) {
        linear_codec_fit_destroy(scan->fits[i]);
    }
    free(scan->fits);
}

Status ingest_scan(Ingest *job)
{
    Scan scan = { .job = job };
    Status s = create_fits(&scan);
    if (s == OK) {
        progress_begin(&scan.progress, "decode", "videos", job->list.count);
        s = ordered_run(job->list.count, job->workers, scan_video, &scan);
        progress_end(&scan.progress);
    }
    if (s == OK && job->clips == 0) {
        s = status_fail(ERR_FORMAT, "%s: none of its %lld videos can be used (%s)",
                        job->opt->source, (long long)job->list.count, job->videos[0].problem);
    }
    if (s == OK && scan.total) {
        LinearCodec fitted;
        s = linear_codec_fit_finish(scan.total, job->opt->channels, &fitted);
        if (s == OK) codec_take_linear(&fitted, &job->codec);
    }
    destroy_fits(&scan);
    return s;
}
