#include "data/sampler.h"

#include "core/base/rng.h"

#include <stdlib.h>

enum {
    FEISTEL_ROUNDS = 8,
    CAPTION_DROP_INDEX = 0, /* of RNG_CAPTION, as core/base/rng.h says */
    CAPTION_WHICH_INDEX = 1,
};

Status sampler_make(const SamplerOptions *options, const SamplerClips *clips, Sampler *out)
{
    CHECK(clips->clips >= 1, ERR_CONFIG, "data: the training set is empty");
    CHECK(options->batch >= 1, ERR_CONFIG, "data.batch is %lld: at least 1",
          (long long)options->batch);
    CHECK(options->micro_batch >= 1, ERR_CONFIG, "data.micro_batch is %lld: at least 1",
          (long long)options->micro_batch);
    CHECK(options->caption_drop >= 0 && options->caption_drop <= 1, ERR_CONFIG,
          "train.caption_drop is %g: 0 to 1", (double)options->caption_drop);
    CHECK(options->chunks >= 0 && (options->chunks & (options->chunks - 1)) == 0, ERR_CONFIG,
          "data: %d canonical chunks of a step: not a power of two", options->chunks);
    *out = (Sampler){ .options = *options, .clips = *clips };
    return OK;
}

/* ---- the order of the data ------------------------------------------------------------------ */

/* A Feistel network permutes [0, 4^bits) whatever its round function; a value that falls outside
 * [0, count) is put through again until it is inside (less than four times on average), which makes
 * it a permutation of [0, count). No table: any entry of any epoch at once. */
int64_t sampler_permute(uint64_t seed, int64_t epoch, int64_t count, int64_t index)
{
    const Rng rng = rng_make(seed, RNG_SHUFFLE, (uint64_t)epoch);
    int bits = 1;
    while (bits < 31 && (int64_t)1 << (2 * bits) < count) bits++;
    const uint64_t mask = ((uint64_t)1 << bits) - 1;
    uint64_t value = (uint64_t)index;
    do {
        uint64_t left = value >> bits, right = value & mask;
        for (uint64_t round = 0; round < FEISTEL_ROUNDS; round++) {
            const uint64_t mixed = left ^ (rng_u32(rng, round << 32 | right) & mask);
            left = right;
            right = mixed;
        }
        value = left << bits | right;
    } while (value >= (uint64_t)count);
    return (int64_t)value;
}

Sample sampler_sample(const Sampler *sampler, int64_t number)
{
    const SamplerOptions *options = &sampler->options;
    const SamplerClips *clips = &sampler->clips;
    const Rng rng = rng_make(options->seed, RNG_CAPTION, (uint64_t)number);
    const int64_t epoch = number / clips->clips;
    const int64_t clip = sampler_permute(options->seed, epoch, clips->clips, number % clips->clips);
    /* a word in [0, 2^32) scaled to [0, wordings) */
    const uint64_t word = rng_u32(rng, CAPTION_WHICH_INDEX);
    return (Sample){ .number = number,
                     .epoch = epoch,
                     .clip = clip,
                     .bucket = clips->buckets[clip],
                     .caption = (int64_t)(word * (uint64_t)clips->captions[clip] >> 32),
                     .caption_drop = rng_uniform(rng, CAPTION_DROP_INDEX) < options->caption_drop };
}

/* ---- the plan of a step --------------------------------------------------------------------- */

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Each run of samples of one bucket and one chunk can leave one micro-batch that is not full. */
static int64_t most_micros(const Sampler *sampler, int64_t samples, int64_t chunks)
{
    const int64_t runs = smaller(chunks, samples) + sampler->clips.bucket_count - 1;
    return smaller(samples, samples / sampler->options.micro_batch + runs);
}

int64_t sampler_max_micros(const Sampler *sampler, int size)
{
    const SamplerOptions *o = &sampler->options;
    if (o->chunks == 0) return divide_up(most_micros(sampler, o->batch, 1), size);
    return most_micros(sampler, divide_up(o->batch, size), o->chunks / size);
}

int64_t sampler_max_samples(const Sampler *sampler, int size)
{
    const SamplerOptions *o = &sampler->options;
    /* a rank's chunks are neighbours: together [floor(B r / n), floor(B (r + 1) / n)) */
    if (o->chunks > 0) return divide_up(o->batch, size);
    return smaller(o->batch, sampler_max_micros(sampler, size) * smaller(o->micro_batch, o->batch));
}

int batch_plan_rank(const BatchPlan *plan, int64_t micro, int size)
{
    if (plan->chunks == 0) return (int)(micro % size);
    return plan->micros[micro].chunk / (plan->chunks / size);
}

Status batch_plan_create(const Sampler *sampler, BatchPlan *out)
{
    const size_t batch = (size_t)sampler->options.batch;
    *out = (BatchPlan){ .chunks = sampler->options.chunks, .sample_count = sampler->options.batch };
    out->samples = calloc(batch, sizeof(*out->samples));
    out->drawn = calloc(batch, sizeof(*out->drawn));
    out->micros = calloc((size_t)sampler_max_micros(sampler, 1), sizeof(*out->micros));
    if (out->samples != NULL && out->drawn != NULL && out->micros != NULL) return OK;
    batch_plan_destroy(out);
    return status_fail(ERR_MEMORY, "data.batch: no memory to plan %zu samples", batch);
}

void batch_plan_destroy(BatchPlan *plan)
{
    free(plan->samples);
    free(plan->drawn);
    free(plan->micros);
    *plan = (BatchPlan){ 0 };
}

/* The micro-batch that begins at samples[at] of a bucket whose samples end at `end`. */
static PlannedMicro plan_micro(const SamplerOptions *options, int64_t bucket, int64_t at,
                               int64_t end)
{
    /* at < floor(B (c + 1) / C) as soon as c >= ((at + 1) C - 1) / B, rounded down */
    const int64_t chunks = options->chunks > 0 ? options->chunks : 1;
    const int64_t chunk = ((at + 1) * chunks - 1) / options->batch;
    const int64_t chunk_end = options->batch * (chunk + 1) / chunks;
    return (PlannedMicro){ .bucket = bucket,
                           .first = at,
                           .count = smaller(options->micro_batch, smaller(end, chunk_end) - at),
                           .chunk = (int)chunk };
}

/* Appends the drawn samples of one bucket and cuts them into micro-batches. */
static void plan_bucket(const Sampler *sampler, int64_t bucket, int64_t *filled, BatchPlan *plan)
{
    const int64_t first = *filled;
    for (int64_t i = 0; i < plan->sample_count; i++) {
        if (plan->drawn[i].bucket == bucket) plan->samples[(*filled)++] = plan->drawn[i];
    }
    for (int64_t at = first; at < *filled;) {
        const PlannedMicro micro = plan_micro(&sampler->options, bucket, at, *filled);
        plan->micros[plan->micro_count++] = micro;
        at += micro.count;
    }
    plan->elements += (*filled - first) * sampler->clips.bucket_elements[bucket];
    plan->tokens += (*filled - first) * sampler->clips.bucket_tokens[bucket];
}

void batch_plan_fill(const Sampler *sampler, int64_t step, BatchPlan *plan)
{
    const int64_t first = step * plan->sample_count;
    plan->step = step;
    plan->micro_count = plan->elements = plan->tokens = 0;
    for (int64_t i = 0; i < plan->sample_count; i++) {
        plan->drawn[i] = sampler_sample(sampler, first + i);
    }
    int64_t filled = 0;
    for (int64_t bucket = 0; bucket < sampler->clips.bucket_count; bucket++) {
        plan_bucket(sampler, bucket, &filled, plan);
    }
}
