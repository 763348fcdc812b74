#include "tools/bench_parts.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/options.h"
#include "core/model/flops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const BenchCase cases[] = {
    { "tiny", 5, 8, 8, 8 },
    { "small", 4, 32, 32, 1 },
};

static const char *const captions[BENCH_CAPTIONS] = {
    "a white parrot turns its head",
    "a toy machine spins",
    "cars race down a dusty road",
    "a ball is thrown in the air",
    "a city at night",
    "waves on a beach",
    "a person walks by",
    "a dog on the floor",
};

typedef struct BenchOptions {
    int64_t repeats;
    const char *what, *preset;
} BenchOptions;

static const Option table[] = {
    { .name = "WHAT",
      .type = OPTION_STRING,
      .positional = true,
      .choices = "steps|comm",
      .offset = offsetof(BenchOptions, what),
      .help = "steps (default) or comm: collectives, and how much of them hides behind a step" },
    { .name = "repeats",
      .type = OPTION_INT,
      .fallback = "7",
      .min = 1,
      .max = BENCH_REPEATS_MAX,
      .offset = offsetof(BenchOptions, repeats),
      .help = "timed repeats after one warm-up; the median is shown" },
    { .name = "preset",
      .type = OPTION_STRING,
      .choices = "tiny|small",
      .offset = offsetof(BenchOptions, preset),
      .help = "only this preset" },
    { .name = NULL },
};

static const Command command = {
    "bench", "[steps|comm] [options]",
    "steps: times a training step and a denoise step on made-up clips, beside this machine's\n"
    "measured f32 matrix rate. comm, under mpirun: the bandwidth of each collective by size, and\n"
    "how much of the gradients' reduction hides behind the backward. Ranks are data-parallel.",
    table
};

static int64_t tokens_of(const BenchCase *job)
{
    return job->t * (job->h / 2) * (job->w / 2);
}

Status bench_create(Bench *b)
{
    const BenchCase *job = b->job;
    TRY(model_config_preset(job->preset, &b->config));
    TRY(dit_create(&b->device, &b->config, &b->groups, RECOMPUTE_NONE, 0, &b->dit));
    const int64_t n = b->dit.params.local_elements, tokens = tokens_of(job);
    const Shape clips = SHAPE(job->clips, tokens, dit_patch_out(&b->config.dit));
    const size_t clip_bytes = tensor_bytes(tensor_of(NULL, F32, clips)) + ARENA_ALIGN;
    TRY(arena_create(&b->arena, "bench",
                     4 * ((size_t)n * sizeof(float) + ARENA_ALIGN) + 3 * clip_bytes));
    Optimizer *o = &b->optimizer;
    *o = (Optimizer){
        .dev = &b->device, .params = &b->dit.params, .mesh = &b->groups.mesh, .ema = tensor_none()
    };
    Tensor *const flat[] = { &o->weights, &o->grads, &o->exp_avg, &o->exp_avg_sq };
    for (int i = 0; i < 4; i++) TRY(tensor_alloc(&b->arena, F32, SHAPE(n), "bench", flat[i]));
    TRY(tensor_alloc(&b->arena, F32, clips, "latents", &b->latents));
    TRY(tensor_alloc(&b->arena, F32, clips, "velocity", &b->v));
    TRY(tensor_alloc(&b->arena, F32, SHAPE(job->clips), "times", &b->times));
    TRY(params_init(&b->dit.params, &b->groups.mesh, 1, o->weights));
    TRY(dit_bind(&b->dit, o->weights, o->grads));
    TRY(op_normal(&b->device, b->latents, rng_make(1, RNG_TEST, 0), 0));
    TRY(op_fill(&b->device, b->times, 500.0f));
    for (int i = 0; i < BENCH_CAPTIONS; i++) b->samples[i] = i;

    const DitShape shape = dit_shape(job->clips, job->t, job->h / 2, job->w / 2);
    const TrainStepOptions options = {
        .flow = { .seed = 1, .logit_normal = true, .std = 1, .shift = 1 },
        .shapes = &shape,
        .shape_count = 1,
        .micros_max = 1,
        .reduce = b->reduce
    };
    TRY(train_step_create(&b->dit, &b->groups, o->grads, &options, &b->step));
    return velocity_create(&b->dit, b->groups.pipeline, &shape, 1, job->clips, &b->velocity);
}

void bench_destroy(Bench *b)
{
    velocity_destroy(&b->velocity);
    train_step_destroy(&b->step);
    arena_destroy(&b->arena);
    dit_destroy(&b->dit);
}

Status bench_train_once(Bench *b)
{
    const BenchCase *job = b->job;
    const int64_t tokens = tokens_of(job), patch = dit_patch_out(&b->config.dit);
    const MicroBatch micro = { .clips = job->clips,
                               .t = job->t,
                               .h = job->h,
                               .w = job->w,
                               .tokens = tokens,
                               .patch = patch,
                               .latents = b->latents,
                               .samples = b->samples,
                               .clip_ids = b->samples,
                               .captions = captions };
    const int ranks = b->groups.data->size;
    const Batch batch = { .micro_count = 1,
                          .micros = &micro,
                          .global_clips = job->clips * ranks,
                          .global_elements = job->clips * ranks * tokens * patch };
    static const TrainKeys keys = {
        .steps = 1, .lr = 1e-6, .schedule = LR_CONSTANT, .betas = { 0.9, 0.95 }, .eps = 1e-8
    };
    double loss = 0.0, norm = 0.0;
    TRY(train_step_run(&b->step, &batch, &loss));
    TRY(optimizer_square_norm(&b->optimizer, &norm));
    return optimizer_update(&b->optimizer, &keys, 0, 1.0);
}

static Status denoise_once(Bench *b)
{
    const DitShape shape = dit_shape(b->job->clips, b->job->t, b->job->h / 2, b->job->w / 2);
    return velocity_eval(&b->velocity, shape, b->v, b->latents, b->times);
}

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

static void print_row(const Bench *b, const char *what, double seconds, double flops)
{
    if (comm_rank(b->comm) != 0) return;
    const double gflops = flops / seconds * 1e-9;
    const int64_t tokens = tokens_of(b->job) * b->job->clips * b->groups.data->size;
    printf("%-6s %-14s %5d %7d %6lld %8.1f %9.0f %9.1f %9.1f %6.0f%%\n", b->job->preset, what,
           b->groups.data->size, b->device.threads, (long long)tokens, seconds * 1e3,
           (double)tokens / seconds, gflops, b->gemm_gflops, 100.0 * gflops / b->gemm_gflops);
    (void)fflush(stdout);
}

static Status run_case(Bench *b, int repeats)
{
    const double clips = (double)(b->job->clips * b->groups.data->size);
    const int64_t tokens = tokens_of(b->job);
    double seconds = 0.0;
    TRY(bench_create(b));
    TRY(measure_rate(b));
    TRY(measure(b, bench_train_once, repeats, &seconds));
    print_row(b, "training step", seconds, 3 * clips * flops_forward(&b->config, tokens));
    TRY(velocity_captions(&b->velocity, captions, b->job->clips));
    TRY(measure_rate(b));
    TRY(measure(b, denoise_once, repeats, &seconds));
    print_row(b, "denoise step", seconds,
              clips * flops_denoise(&b->config.dit, tokens, b->config.text.max_length));
    return OK;
}

Status bench_open(Comm *comm, Bench *out)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int share = (int)cores / comm_local_size(comm);
    *out = (Bench){ .comm = comm };
    TRY(device_open(&out->device, "cpu", NULL, share > 0 ? share : 1, false));
    const bool beside = comm_overlap_pays(comm, out->device.threads);
    out->reduce = beside ? REDUCER_BESIDE : REDUCER_IN_WAIT;
    return comm_mesh(comm, mesh_shape(comm_size(comm), 1, 1, 1), &out->groups);
}

static Status run_steps(Comm *comm, const BenchOptions *options)
{
    Bench base;
    TRY(bench_open(comm, &base));
    if (comm_rank(comm) == 0)
        printf("%-6s %-14s %5s %7s %6s %8s %9s %9s %9s %7s\n", "model", "what", "ranks", "threads",
               "tokens", "ms", "tokens/s", "GFLOP/s", "GEMM rate", "share");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (options->preset && strcmp(options->preset, cases[i].preset) != 0) continue;
        Bench b = base;
        b.job = &cases[i];
        const Status status = comm_agree(comm, run_case(&b, (int)options->repeats));
        bench_destroy(&b);
        TRY(status);
    }
    return OK;
}

static Status run(Comm *comm, const BenchOptions *options)
{
    if (!options->what || strcmp(options->what, "steps") == 0) return run_steps(comm, options);
    TRY(bench_collectives(comm, (int)options->repeats));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (options->preset && strcmp(options->preset, cases[i].preset) != 0) continue;
        TRY(bench_overlap(comm, &cases[i], (int)options->repeats));
    }
    return OK;
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
