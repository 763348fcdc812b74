/*
 * train_config: everything a training run can be told, and the table of its keys.
 *
 * The model's sizes are those of a preset unless a key says otherwise; after loading, `model` holds
 * the resolved numbers, except dit.in_channels and dit.out_channels, which are the dataset's
 * codec's and stay 0 until the trainer knows them.
 */
#ifndef ZT_TRAIN_TRAIN_CONFIG_H
#define ZT_TRAIN_TRAIN_CONFIG_H

#include "core/base/config.h"
#include "core/base/status.h"
#include "core/codec/codec.h"
#include "core/device.h"
#include "core/formats/model_dir.h"
#include "core/model/model_config.h"
#include "core/parallel/schedule.h"

#include <stdint.h>
#include <stdio.h>

/* text.encoder: an encoder of bytes, trained with the model; umT5's embeddings, in the dataset. */
typedef enum TextSource { TEXT_KEY_BYTES, TEXT_KEY_UMT5 } TextSource;
typedef enum LrSchedule { LR_COSINE, LR_CONSTANT } LrSchedule;
typedef enum TimestepSampler { TIMESTEP_LOGIT_NORMAL, TIMESTEP_UNIFORM } TimestepSampler;

typedef struct RunKeys {
    char dir[CONFIG_PATH_MAX]; /* the run's folder */
    int64_t seed;
    char time_limit[CONFIG_NAME_MAX]; /* train/time_limit.h */
    double time_margin_s;             /* before it: what saving a checkpoint may take */
} RunKeys;

/* Clips of one pass through the model. */
enum { STEP_CLIPS_MAX = 256 };

typedef struct DataKeys {
    char train[CONFIG_PATH_MAX];
    char heldout[CONFIG_PATH_MAX]; /* "": no held-out loss */
    int64_t batch;                 /* clips a step, over the whole job */
    int64_t micro_batch;           /* clips a pass through the model, on one replica */
    double max_bad;                /* share of the clips that may be damaged and skipped */
} DataKeys;

typedef struct TimestepKeys {
    int sampler;      /* TimestepSampler */
    double mean, std; /* of the logit, logit-normal only */
    double shift;     /* t = shift u / (1 + (shift - 1) u) */
} TimestepKeys;

typedef struct TrainKeys {
    int64_t steps;
    double lr;
    int64_t warmup;     /* steps of linear rise from 0 */
    int schedule;       /* LrSchedule */
    double decay_floor; /* share of lr that cosine ends at */
    double betas[2], eps;
    double weight_decay;
    double clip; /* global gradient norm; 0: no clipping */
    double ema;  /* 0: no average is kept */
    double caption_drop;
    int64_t max_skipped;                 /* steps in a row whose gradient is not finite */
    int64_t heldout_every, sample_every; /* steps; 0: never */
    bool profile;                        /* a table of where the time went, at the end */
    char trace[CONFIG_PATH_MAX];         /* a timeline of every rank, for Perfetto; "": none */
    int64_t check_every; /* steps between comparisons of replicas, and one before each checkpoint
                            (train/replicas.h); 0: never. One costs about 1 % of a step of 1,000
                            tokens a rank, of more tokens less */
    ConfigTexts sample_prompts;
    TimestepKeys timestep;
} TrainKeys;

/* LoRA: rank 0 trains the weights themselves. */
typedef struct LowRankKeys {
    int64_t rank;
    double alpha;        /* 0: the rank; the change is alpha / rank B A */
    ConfigTexts targets; /* "attn1.to_q": that weight of every block */
} LowRankKeys;

typedef struct ParallelKeys {
    int64_t tensor, pipeline, context;
    int64_t ulysses;         /* 0: auto, the most that heads allow */
    int64_t data;            /* 0: auto, what is left of the ranks */
    int recompute;           /* Recompute: none, elementwise, block */
    int schedule;            /* ScheduleKind */
    int64_t chunks_per_rank; /* of the pipeline; 1 but for interleaved */
    int64_t zero;    /* 1: moments and averages sharded over data x context; 0: each rank has all */
    int64_t chunks;  /* exact numerics: canonical chunks of every sum that ranks share */
    int64_t threads; /* a rank; 0: auto */
} ParallelKeys;

typedef struct CommKeys {
    double timeout_s; /* that a rank may wait for another; 0: for ever */
    int overlap;      /* gradients reduced under the backward; 0 auto: where it pays, 1 on, 2 off */
    bool check;       /* ranks compare their calls before each collective */
} CommKeys;

typedef struct CheckpointKeys {
    int64_t every, keep;        /* steps, 0: only at the end; newest kept, 0: all */
    int64_t keep_every;         /* multiples of so many steps stay beside the newest; 0: none */
    bool async;                 /* saved while training goes on */
    int64_t buffer_mib;         /* of a rank, for that: the most it may take */
    char sign[CONFIG_PATH_MAX]; /* private key that model.sig is made with; "": none is */
    bool require_signature;     /* resume only from what one of trusted_keys has signed */
    ConfigTexts trusted_keys;   /* files of public keys */
} CheckpointKeys;

typedef struct TrainConfig {
    RunKeys run;
    char preset[CONFIG_NAME_MAX];
    char from[CONFIG_PATH_MAX]; /* a model directory that training begins from; "": from nothing */
    int expert;                 /* of its two: 0 none, 1 high, 2 low */
    ModelConfig model;
    ModelDir base;                   /* what `from` is; zero without */
    int text_encoder;                /* TextSource */
    int codec;                       /* CodecKind: of the latents in the dataset */
    char codec_vae[CONFIG_PATH_MAX]; /* folder of the VAE, for CODEC_WAN */
    DataKeys data;
    TrainKeys train;
    LowRankKeys lora;
    ParallelKeys parallel;
    CommKeys comm;
    CheckpointKeys checkpoint;
    int device;   /* 0 auto, 1 cpu, 2 cuda */
    int numerics; /* 0 fast, 1 exact */
    int dtype;    /* 0 auto, 1 f32, 2 bf16 */
} TrainConfig;

/* Reads, resolves the preset and checks what one key alone cannot say. ERR_CONFIG, ERR_IO. Not
 * collective: agree afterwards. */
Status train_config_load(const char *path, int override_count, const char *const *overrides,
                         TrainConfig *out);
/* The same from memory; `name` is what errors call it. */
Status train_config_parse(const char *name, const char *text, size_t length, TrainConfig *out);
/* The resolved configuration as YAML that loads back to the same struct. */
Status train_config_print(const TrainConfig *config, FILE *stream);
/* run.time_limit in seconds; 0: none, -1: auto. ERR_CONFIG. */
Status train_time_limit_parse(const char *text, double *seconds);
/* The device of the configuration, in its dtype and numerics, with that many threads. ERR_CONFIG,
 * ERR_DEVICE. */
Status train_device_open(const TrainConfig *config, int threads, Device *out);
/* Canonical chunks of exact numerics; 0: fast. */
int train_exact_chunks(const TrainConfig *config);
/* Most clips that go through the model at once. Exact numerics compute a micro-batch clip by clip:
 * its sums then know nothing of how it was cut. */
int64_t train_clips_of_pass(const TrainConfig *config);

#endif
