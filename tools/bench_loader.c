#include "tools/bench_parts.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "data/loader.h"
#include "data/shard.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { BATCH = 8 };
static const double warm_s = 2.0; /* of reading what is in memory */

typedef struct Rate {
    int64_t clips, tokens;
    double seconds;
} Rate;

/* The system forgets what it has read of the shards, if it was so kind as to be asked: pages that
 * others hold stay. */
static void forget_shards(const Dataset *ds)
{
    for (int64_t i = 0; i < dataset_shards(ds); i++) {
        char name[SHARD_NAME_BYTES], path[FILE_PATH_BYTES];
        shard_file_name(i, name);
        if (file_join(path, dataset_dir(ds), name) != OK) continue;
        const int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) continue;
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        (void)close(fd);
    }
}

/* Steps of a loader that nobody else keeps busy: at least an epoch, and as long as asked. */
static Status read_steps(Dataset *ds, double least_s, Rate *out)
{
    const DatasetInfo *info = dataset_info(ds);
    const LoaderOptions options = { .sampler = { .seed = 1, .batch = BATCH, .micro_batch = BATCH },
                                    .size = 1,
                                    .text_rows = info->text_rows,
                                    .text_width = info->text_width,
                                    .condition = info->condition,
                                    .image_rows = info->image_rows,
                                    .image_width = info->image_width };
    const Batch *batch = NULL;
    Loader *loader = NULL;
    Status s = OK;
    *out = (Rate){ 0 };
    const double start = clock_seconds();
    TRY(loader_create(ds, &options, &loader));
    while (s == OK && (out->clips < dataset_clips(ds) || out->seconds < least_s)) {
        s = loader_next(loader, &batch);
        out->clips += s == OK ? batch->global_clips : 0;
        out->tokens += s == OK ? batch->global_tokens : 0;
        out->seconds = clock_seconds() - start;
    }
    loader_destroy(loader);
    return s;
}

/* Tokens a second of a training step of the case. */
static Status training_rate(const Bench *base, const BenchCase *job, int repeats, double *out)
{
    Bench b = *base;
    b.job = job;
    double seconds[BENCH_REPEATS_MAX];
    Status s = bench_create(&b);
    for (int i = -1; s == OK && i < repeats; i++) { /* one does not count */
        BenchTime time = { 0 };
        s = bench_time(&b, bench_train_once, &time);
        if (i >= 0) seconds[i] = time.seconds;
    }
    bench_destroy(&b);
    TRY(s);
    *out = (double)(bench_tokens(job) * job->clips) / bench_median(seconds, repeats);
    return OK;
}

static void print_read(const char *what, Rate rate, double training)
{
    const double tokens_per_s = (double)rate.tokens / rate.seconds;
    printf("%-14s %10.0f %12.0f %9.1f\n", what, (double)rate.clips / rate.seconds, tokens_per_s,
           tokens_per_s / training);
}

Status bench_loader(const Bench *base, const BenchCase *job, const char *dir, int repeats)
{
    Dataset *ds = NULL;
    Rate cold = { 0 }, warm = { 0 };
    double training = 0.0;
    CHECK(comm_size(base->comm) == 1, ERR_USAGE, "bench loader: runs on one rank, not %d",
          comm_size(base->comm));
    TRY(dataset_open(dir, &ds));
    Status s = dataset_clips(ds) > 0 ? OK : status_fail(ERR_FORMAT, "%s: has no clips", dir);
    forget_shards(ds);
    if (s == OK) s = read_steps(ds, 0.0, &cold);
    if (s == OK) s = read_steps(ds, warm_s, &warm);
    if (s == OK) s = training_rate(base, job, repeats, &training);
    if (s == OK) {
        printf("%-14s %10s %12s %9s\n", "", "clips/s", "tokens/s", "ratio");
        print_read("loader, cold", cold, training);
        print_read("loader, warm", warm, training);
        printf("%-14s %10.0f %12.0f %9.1f\n", "training step", training / (double)bench_tokens(job),
               training, 1.0);
    }
    dataset_close(ds);
    return s;
}
