#include "data/ingest_summary.h"

#include "core/base/log.h"
#include "core/codec/patch.h"

#include <math.h>
#include <stdio.h>

static void print_bucket(const Ingest *job, OptionSize size, int64_t frames)
{
    int64_t videos = 0, clips = 0;
    for (int64_t i = 0; i < job->list.count; i++) {
        const IngestVideo *v = &job->videos[i];
        if (v->clips == 0 || v->frames != frames || v->size.width != size.width ||
            v->size.height != size.height) {
            continue;
        }
        videos++;
        clips += v->clips;
    }
    if (clips == 0) return;
    const Shape z = codec_latent_shape(&job->codec, frames, size.height, size.width);
    const int64_t tokens = z.dims[1] * (z.dims[2] / PATCH_SIDE) * (z.dims[3] / PATCH_SIDE);
    char bucket[64];
    snprintf(bucket, sizeof bucket, "%lld x %lldx%lld", (long long)frames, (long long)size.width,
             (long long)size.height);
    log_info("  %-20s %8lld %8lld %12lld %12lld", bucket, (long long)videos, (long long)clips,
             (long long)tokens, (long long)(tokens * clips));
}

void ingest_summary(const Ingest *job)
{
    log_info("  %-20s %8s %8s %12s %12s", "bucket", "videos", "clips", "tokens/clip", "tokens");
    for (int i = 0; i < job->opt->sizes.count; i++) {
        for (int k = 0; k < job->opt->frames.count; k++) {
            print_bucket(job, job->opt->sizes.items[i], job->opt->frames.items[k]);
        }
    }
    const double mean = (double)job->squared_error / (double)job->values;
    char psnr[32] = "lossless";
    if (mean > 0) snprintf(psnr, sizeof psnr, "PSNR %.1f dB", 10 * log10(255.0 * 255.0 / mean));
    log_info("  codec %s, %lld channels, %s on %s, sha256 %.12s", codec_name(job->codec.kind),
             (long long)job->codec.channels, psnr,
             job->codec.kind == CODEC_WAN ? "the first clip" : "these clips", job->codec.digest);
    if (job->text.width > 0)
        log_info("  text umt5, %lld captions, %.1f rows each, width %lld, sha256 %.12s",
                 (long long)job->text.first[job->list.count],
                 (double)job->text.starts[job->text.first[job->list.count]] /
                     (double)job->text.first[job->list.count],
                 (long long)job->text.width, job->text.digest);
    if (job->opt->condition != CONDITION_NONE)
        log_info("  condition %s%s%.12s", condition_name(job->opt->condition),
                 job->image.width > 0 ? ", image tokens by CLIP, sha256 " : "", job->image.digest);
    char skipped[64] = "";
    if (job->skipped > 0) {
        snprintf(skipped, sizeof skipped, "; %lld skipped, named above", (long long)job->skipped);
    }
    log_info("%s: %lld clips of %lld videos%s", job->opt->out, (long long)job->clips,
             (long long)(job->list.count - job->skipped), skipped);
}
