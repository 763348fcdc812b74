/* What the files of bench share. */
#ifndef ZT_TOOLS_BENCH_PARTS_H
#define ZT_TOOLS_BENCH_PARTS_H

#include "comm/comm.h"
#include "core/base/bf16.h"
#include "core/model/velocity.h"
#include "tools/bench.h"
#include "train/optimizer.h"
#include "train/step.h"

enum { BENCH_CAPTIONS = 8, BENCH_REPEATS_MAX = 100, BENCH_MICROS_MAX = 64 };

/* What can be timed. */
typedef enum BenchWork {
    BENCH_TRAIN = 1,     /* forward, backward, norm of the gradients, update */
    BENCH_GRADIENTS = 2, /* forward and backward */
    BENCH_DENOISE = 4 /* one velocity: the transformer alone, with the prompt's keys and values */
} BenchWork;

/* A model on clips of one shape. tiny as in the quickstart, small with 1,024 tokens, block: one of
 * wan-1.3b's with 4,096, wan-1.3b at 480x288 and 17 frames. */
typedef struct BenchCase {
    const char *name, *preset; /* preset NULL: the name is that of one */
    int64_t layers;            /* 0: the preset's */
    bool frozen;               /* text comes as embeddings, as umT5's would */
    int64_t t, h, w;           /* latent frames, rows, columns */
    int64_t clips;             /* of a rank's micro-batch */
    int works;                 /* of BenchWork */
} BenchCase;

/* NULL beyond the last. */
const BenchCase *bench_case(int index);
int64_t bench_tokens(const BenchCase *job);

/* ERR_CONFIG: so many ranks cannot share the case's model like this; data 0: what is left. */
Status bench_check_mesh(const BenchCase *job, MeshShape wanted, int ranks);

/* Everything one case needs. */
typedef struct Bench {
    Comm *comm;
    MeshGroups groups;
    Device device;
    const BenchCase *job;
    ModelConfig config;
    Dit dit;
    Arena arena, trained;
    WeightStore store; /* in place of trained, where nothing is */
    Optimizer optimizer;
    TrainStep step;
    Velocity velocity;
    Tensor latents, v, times; /* (clips, tokens, patch) twice, (clips) */
    Tensor text;              /* (clips, text, text_dim), or none */
    int micros;               /* micro-batches of a training step, of job->clips each */
    ScheduleKind schedule;    /* of a pipeline */
    ReducerWay reduce;        /* as a training run would choose, until changed */
    double gemm_gflops;       /* of all ranks */
    int64_t samples[BENCH_CAPTIONS];
    MicroBatch batch[BENCH_MICROS_MAX]; /* all alike */
} Bench;

/* Collective: the device, and a mesh of these degrees, which fit; the other ranks are
 * data-parallel. */
Status bench_open(Comm *comm, int tensor, int pipeline, Bench *out);
/* Clips of a training step, over all ranks. */
int64_t bench_clips(const Bench *b);
/* The model and the step of b->job. Collective. */
Status bench_create(Bench *b);
void bench_destroy(Bench *b);
/* Each once. Collective. */
Status bench_train_once(Bench *b);
Status bench_gradients_once(Bench *b);
Status bench_denoise_once(Bench *b);
/* Before the first bench_denoise_once, which times no prompt. Collective. */
Status bench_prompt(Bench *b);
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
/* Clips and tokens a second that the loader gives from the dataset in `dir`, from the disk and from
 * memory, beside what training of the case takes. One rank. */
Status bench_loader(const Bench *base, const BenchCase *job, const char *dir, int repeats);

#endif
