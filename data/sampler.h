/*
 * sampler: which clip is drawn when, as pure arithmetic.
 *
 * Every draw of a run has a global sample number n = 0, 1, 2, ... Its epoch is n / clips; its clip
 * is entry n % clips of that epoch's permutation of the whole set; whether its caption is dropped
 * and which wording it gets are functions of n. Step s takes samples [s * batch, (s + 1) * batch),
 * so a batch may span two epochs. No state, no message: a run resumes on any number of ranks at the
 * very next clip, and every rank knows the whole plan.
 *
 * A step's samples are grouped by bucket (stable: ascending n inside a bucket) and cut into
 * micro-batches of one bucket; micro-batch m belongs to data-parallel rank m % size.
 *
 * For exact numerics the samples, in this same order, are first cut into C canonical chunks: chunk
 * c is [floor(B c / C), floor(B (c + 1) / C)) of the B samples. No micro-batch crosses from one
 * chunk into the next, and rank r of n has chunks [r C / n, (r + 1) C / n). So what is summed in a
 * chunk depends on neither the ranks nor the micro-batches, and whole chunks are what ranks
 * exchange.
 */
#ifndef ZT_DATA_SAMPLER_H
#define ZT_DATA_SAMPLER_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SamplerOptions {
    uint64_t seed;
    int64_t batch;       /* clips of a step, over all ranks */
    int64_t micro_batch; /* most clips of a micro-batch */
    float caption_drop;  /* share of samples that lose their caption, 0 .. 1 */
    int chunks;          /* canonical chunks of a step, a power of two; 0: none */
} SamplerOptions;

/* What the sampler needs to know of the data. Views. */
typedef struct SamplerClips {
    int64_t clips;
    const int64_t *buckets;  /* (clips): bucket of each */
    const int64_t *captions; /* (clips): number of wordings, 1 or more */
    int64_t bucket_count;
    const int64_t *bucket_elements; /* (bucket_count): tokens * patch */
    const int64_t *bucket_tokens;   /* (bucket_count) */
} SamplerClips;

typedef struct Sample {
    int64_t number; /* n: what noise, timestep and caption are functions of */
    int64_t epoch, clip;
    int64_t bucket;
    int64_t caption;   /* which wording, also when it is dropped */
    bool caption_drop; /* the model sees the empty caption */
} Sample;

typedef struct Sampler {
    SamplerOptions options;
    SamplerClips clips;
} Sampler;

/* ERR_CONFIG: empty set, batch or micro_batch < 1, caption_drop outside 0 .. 1, chunks neither 0
 * nor a power of two. */
Status sampler_make(const SamplerOptions *options, const SamplerClips *clips, Sampler *out);

Sample sampler_sample(const Sampler *sampler, int64_t number);

/* Entry `index` of the permutation of [0, count) that belongs to (seed, epoch). */
int64_t sampler_permute(uint64_t seed, int64_t epoch, int64_t count, int64_t index);

typedef struct PlannedMicro {
    int64_t bucket;
    int64_t first, count; /* samples[first .. first + count) of the plan */
    int chunk;            /* the canonical chunk these are of; 0 without chunks */
} PlannedMicro;

typedef struct BatchPlan {
    int64_t step;
    int chunks;      /* as in the options */
    Sample *samples; /* (batch) by bucket, then by number; owned */
    Sample *drawn;   /* (batch) by number; owned, work space */
    int64_t sample_count;
    PlannedMicro *micros; /* owned; room for the most a step can need */
    int64_t micro_count;
    int64_t elements; /* latent values of the whole step: the loss's denominator */
    int64_t tokens;   /* of the whole step */
} BatchPlan;

/* Room for any step of this sampler. ERR_MEMORY. */
Status batch_plan_create(const Sampler *sampler, BatchPlan *out);
void batch_plan_destroy(BatchPlan *plan);
/* Plans step `step`; allocates nothing. */
void batch_plan_fill(const Sampler *sampler, int64_t step, BatchPlan *plan);
/* Which of `size` data ranks has a micro-batch of the plan; `size` divides the chunks, if any. */
int batch_plan_rank(const BatchPlan *plan, int64_t micro, int size);
/* Most micro-batches, and most samples, that any step can give any of `size` data ranks; size 1: of
 * a whole step. */
int64_t sampler_max_micros(const Sampler *sampler, int size);
int64_t sampler_max_samples(const Sampler *sampler, int size);

#ifdef __cplusplus
}
#endif
#endif
