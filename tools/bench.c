#include "tools/bench_parts.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/options.h"
#include "core/model/flops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { USUAL = 2 }; /* cases, when nobody says which */

typedef struct BenchOptions {
    int64_t repeats, tensor, pipeline, micros;
    const char *what, *preset, *dtype, *data, *schedule;
} BenchOptions;

static const Option table[] = {
    { .name = "WHAT",
      .type = OPTION_STRING,
      .positional = true,
      .choices = "steps|comm|loader",
      .offset = offsetof(BenchOptions, what),
      .help = "steps (default); comm: collectives, and how much of them hides behind a step; "
              "loader: clips of --data" },
    { .name = "repeats",
      .type = OPTION_INT,
      .fallback = "7",
      .min = 1,
      .max = BENCH_REPEATS_MAX,
      .offset = offsetof(BenchOptions, repeats),
      .help = "timed repeats after one warm-up; the median is shown" },
    { .name = "preset",
      .type = OPTION_STRING,
      .choices = "tiny|small|block|wan-1.3b",
      .offset = offsetof(BenchOptions, preset),
      .help = "only this one, not tiny and small; block: one layer of wan-1.3b, whole" },
    { .name = "dtype",
      .type = OPTION_STRING,
      .fallback = "f32",
      .choices = "f32|bf16",
      .offset = offsetof(BenchOptions, dtype),
      .help = "of what is multiplied" },
    { .name = "tensor",
      .type = OPTION_INT,
      .fallback = "1",
      .min = 1,
      .max = MESH_MOST_TENSOR,
      .offset = offsetof(BenchOptions, tensor),
      .help = "ranks that share a layer, for steps" },
    { .name = "pipeline",
      .type = OPTION_INT,
      .fallback = "1",
      .min = 1,
      .max = MESH_MOST_TENSOR,
      .offset = offsetof(BenchOptions, pipeline),
      .help = "ranks that share the layers; other ranks are data-parallel" },
    { .name = "micro-batches",
      .type = OPTION_INT,
      .fallback = "1",
      .min = 1,
      .max = BENCH_MICROS_MAX,
      .offset = offsetof(BenchOptions, micros),
      .help = "of a training step" },
    { .name = "schedule",
      .type = OPTION_STRING,
      .fallback = "1f1b",
      .choices = "1f1b|gpipe|zero_bubble",
      .offset = offsetof(BenchOptions, schedule),
      .help = "of a pipeline" },
    { .name = "data",
      .type = OPTION_STRING,
      .offset = offsetof(BenchOptions, data),
      .help = "the dataset that loader reads" },
    { .name = NULL },
};

static const Command command = {
    "bench", "[steps|comm|loader] [options]",
    "steps: times a training step and a denoise step on made-up clips, beside this machine's\n"
    "measured matrix rate. comm, under mpirun: the bandwidth of each collective by size, and\n"
    "how much of the gradients' reduction hides behind the backward. Its ranks are data-parallel.\n"
    "loader: how fast clips come, from the disk and from memory, beside how fast training takes "
    "them.",
    table
};

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *seconds, int count)
{
    qsort(seconds, (size_t)count, sizeof *seconds, compare);
    return seconds[count / 2];
}

Status bench_time(Bench *b, Status (*once)(Bench *), BenchTime *out)
{
    TRY(comm_barrier(b->comm));
    const double start = clock_seconds(), waited_s = comm_waited_s(b->comm);
    TRY(once(b));
    out->waited_s = comm_waited_s(b->comm) - waited_s;
    TRY(comm_barrier(b->comm));
    out->seconds = clock_seconds() - start;
    return OK;
}

/* Median seconds of `once` after one that does not count. */
static Status measure(Bench *b, Status (*once)(Bench *), int repeats, double *median_s)
{
    double seconds[BENCH_REPEATS_MAX];
    TRY(once(b));
    for (int i = 0; i < repeats; i++) {
        BenchTime time;
        TRY(bench_time(b, once, &time));
        seconds[i] = time.seconds;
    }
    *median_s = bench_median(seconds, repeats);
    return OK;
}

/* The matrix rate right beside what is measured: these figures are ratios. */
static Status measure_rate(Bench *b)
{
    TRY(comm_barrier(b->comm));
    TRY(device_measure_gemm(&b->device, &b->gemm_gflops));
    return group_all_reduce(comm_world(b->comm), tensor_of(&b->gemm_gflops, F64, SHAPE(1)));
}

static void print_row(const Bench *b, const char *what, double seconds, int64_t clips, double flops)
{
    if (comm_rank(b->comm) != 0) return;
    const double gflops = (double)clips * flops / seconds * 1e-9;
    const int64_t tokens = clips * bench_tokens(b->job);
    struct rusage used;
    (void)getrusage(RUSAGE_SELF, &used);
    printf("%-8s %-14s %5d %7d %6lld %8.1f %9.0f %9.1f %9.1f %6.0f%% %7ld\n", b->job->name, what,
           comm_size(b->comm), b->device.threads, (long long)tokens, seconds * 1e3,
           (double)tokens / seconds, gflops, b->gemm_gflops, 100.0 * gflops / b->gemm_gflops,
           used.ru_maxrss / 1024);
    (void)fflush(stdout);
}

static Status time_work(Bench *b, BenchWork work, int repeats)
{
    const int64_t once = b->job->clips * b->groups.data->size;
    const int64_t tokens = bench_tokens(b->job), text = b->config.text.max_length;
    const double forward = flops_forward(&b->config, tokens);
    const struct {
        const char *name;
        Status (*once)(Bench *);
        int64_t clips;
        double flops; /* of a clip */
    } works[] = {
        [BENCH_TRAIN] = { "training step", bench_train_once, bench_clips(b), 3 * forward },
        [BENCH_GRADIENTS] = { "both ways", bench_gradients_once, bench_clips(b), 3 * forward },
        [BENCH_DENOISE] = { "denoise step", bench_denoise_once, once,
                            flops_denoise(&b->config.dit, tokens, text) }
    };
    double seconds = 0.0;
    if (!(b->job->works & (int)work)) return OK;
    TRY(measure_rate(b));
    TRY(measure(b, works[work].once, repeats, &seconds));
    print_row(b, works[work].name, seconds, works[work].clips, works[work].flops);
    return OK;
}

static Status run_case(Bench *b, int repeats)
{
    TRY(bench_create(b));
    TRY(time_work(b, BENCH_TRAIN, repeats));
    TRY(time_work(b, BENCH_GRADIENTS, repeats));
    if (b->job->works & BENCH_DENOISE) TRY(bench_prompt(b));
    return time_work(b, BENCH_DENOISE, repeats);
}

Status bench_open(Comm *comm, int tensor, int pipeline, Bench *out)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int share = (int)cores / comm_local_size(comm), ranks = comm_size(comm);
    const MeshShape mesh = mesh_shape(ranks / (tensor * pipeline), tensor, pipeline, 1);
    *out = (Bench){ .comm = comm, .micros = 1 };
    TRY(device_open(&out->device, "cpu", NULL, share > 0 ? share : 1, false));
    const bool beside = comm_overlap_pays(comm, out->device.threads);
    out->reduce = beside ? REDUCER_BESIDE : REDUCER_IN_WAIT;
    return comm_mesh(comm, mesh, &out->groups);
}

static bool is_chosen(const BenchOptions *options, int index)
{
    return options->preset ? strcmp(options->preset, bench_case(index)->name) == 0 : index < USUAL;
}

static ScheduleKind schedule_of(const char *name)
{
    if (strcmp(name, "gpipe") == 0) return SCHEDULE_GPIPE;
    return strcmp(name, "zero_bubble") == 0 ? SCHEDULE_ZERO_BUBBLE : SCHEDULE_1F1B;
}

static Status run_steps(Comm *comm, const BenchOptions *options)
{
    const int tensor = (int)options->tensor, pipeline = (int)options->pipeline;
    Bench base;
    for (int i = 0; bench_case(i); i++)
        if (is_chosen(options, i))
            TRY(bench_check_mesh(bench_case(i), mesh_shape(0, tensor, pipeline, 1),
                                 comm_size(comm)));
    TRY(bench_open(comm, tensor, pipeline, &base));
    base.micros = (int)options->micros;
    base.schedule = schedule_of(options->schedule);
    if (strcmp(options->dtype, "bf16") == 0) TRY(device_take_bf16(&base.device, NULL));
    if (comm_rank(comm) == 0)
        printf("%-8s %-14s %5s %7s %6s %8s %9s %9s %9s %7s %7s  %s\n", "model", "what", "ranks",
               "threads", "tokens", "ms", "tokens/s", "GFLOP/s", "GEMM rate", "share", "MiB",
               base.device.name);
    for (int i = 0; bench_case(i); i++) {
        if (!is_chosen(options, i)) continue;
        Bench b = base;
        b.job = bench_case(i);
        const Status status = comm_agree(comm, run_case(&b, (int)options->repeats));
        bench_destroy(&b);
        TRY(status);
    }
    return OK;
}

static Status run_comm(Comm *comm, const BenchOptions *options)
{
    TRY(bench_collectives(comm, (int)options->repeats));
    for (int i = 0; bench_case(i); i++) {
        if (!is_chosen(options, i) || !(bench_case(i)->works & BENCH_TRAIN)) continue;
        TRY(bench_overlap(comm, bench_case(i), (int)options->repeats));
    }
    return OK;
}

static Status run_loader(Comm *comm, const BenchOptions *options)
{
    Bench base;
    CHECK(options->data, ERR_USAGE, "bench loader: --data DIR says which dataset is read");
    TRY(bench_open(comm, 1, 1, &base));
    for (int i = 0; bench_case(i); i++)
        if (is_chosen(options, i) && (bench_case(i)->works & BENCH_TRAIN))
            return bench_loader(&base, bench_case(i), options->data, (int)options->repeats);
    return status_fail(ERR_USAGE, "bench loader: --preset %s is not trained", options->preset);
}

/* What only steps listen to. */
static bool has_cut(const BenchOptions *o)
{
    return o->tensor > 1 || o->pipeline > 1 || o->micros > 1 || strcmp(o->schedule, "1f1b") != 0;
}

static Status run(Comm *comm, const BenchOptions *options)
{
    const char *what = options->what ? options->what : "steps";
    const bool steps = strcmp(what, "steps") == 0, loader = strcmp(what, "loader") == 0;
    CHECK(steps || !has_cut(options), ERR_USAGE,
          "bench %s: --tensor, --pipeline, --micro-batches and --schedule are for steps", what);
    CHECK(steps || strcmp(options->dtype, "f32") == 0, ERR_USAGE, "bench %s: --dtype is for steps",
          what);
    CHECK(loader || !options->data, ERR_USAGE, "bench %s: --data is for loader", what);
    if (steps) return run_steps(comm, options);
    return loader ? run_loader(comm, options) : run_comm(comm, options);
}

Status bench_main(int argc, char **argv)
{
    BenchOptions options = { 0 };
    bool helped = false;
    Comm *comm = NULL;
    TRY(comm_start(&comm));
    Status status = comm_agree(comm, options_parse(&command, argc, argv, &options, &helped));
    if (status == OK && !helped) status = run(comm, &options);
    log_failure(status);
    comm_finish(comm);
    return status;
}
