/* What the files of bench share. */
#ifndef ZT_TOOLS_BENCH_PARTS_H
#define ZT_TOOLS_BENCH_PARTS_H

#include "comm/comm.h"
#include "core/model/velocity.h"
#include "tools/bench.h"
#include "train/optimizer.h"
#include "train/step.h"

enum { BENCH_CAPTIONS = 8, BENCH_REPEATS_MAX = 100 };

/* What is timed: a preset on clips of one shape. tiny as in the quickstart, small with 1,024
 * tokens. */
typedef struct BenchCase {
    const char *preset;
    int64_t t, h, w; /* latent frames, rows, columns */
    int64_t clips;   /* of a rank's micro-batch */
} BenchCase;

/* Everything one case needs. */
typedef struct Bench {
    Comm *comm;
    MeshGroups groups;
    Device device;
    const BenchCase *job;
    ModelConfig config;
    Dit dit;
    Arena arena;
    Optimizer optimizer;
    TrainStep step;
    Velocity velocity;
    Tensor latents, v, times; /* (clips, tokens, patch) twice, (clips) */
    ReducerWay reduce;        /* as a training run would choose, until changed */
    double gemm_gflops;       /* of all ranks */
    int64_t samples[BENCH_CAPTIONS];
} Bench;

/* Collective: the device, and a mesh of data-parallel ranks. */
Status bench_open(Comm *comm, Bench *out);
/* The model and the step of b->job. Collective. */
Status bench_create(Bench *b);
void bench_destroy(Bench *b);
/* One training step with its update. Collective. */
Status bench_train_once(Bench *b);
typedef struct BenchTime {
    double seconds;  /* ranks starting and ending together */
    double waited_s; /* of them, this rank's main thread for others */
} BenchTime;

/* Collective. */
Status bench_time(Bench *b, Status (*once)(Bench *), BenchTime *out);
double bench_median(double *seconds, int count);

/* Bandwidth of each collective of the world by size. Collective. */
Status bench_collectives(Comm *comm, int repeats);
/* Step time with the reduction of gradients under the backward and after it. Collective. */
Status bench_overlap(Comm *comm, const BenchCase *job, int repeats);

#endif
