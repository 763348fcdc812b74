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

/* Every bucket can leave one micro-batch that is not full. */
int64_t sampler_max_micros(const Sampler *sampler)
{
    const int64_t batch = sampler->options.batch, micro = sampler->options.micro_batch;
    return smaller(batch, batch / micro + sampler->clips.bucket_count);
}

Status batch_plan_create(const Sampler *sampler, BatchPlan *out)
{
    const size_t batch = (size_t)sampler->options.batch;
    *out = (BatchPlan){ .sample_count = sampler->options.batch };
    out->samples = calloc(batch, sizeof(*out->samples));
    out->drawn = calloc(batch, sizeof(*out->drawn));
    out->micros = calloc((size_t)sampler_max_micros(sampler), sizeof(*out->micros));
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

/* Appends the drawn samples of one bucket and cuts them into micro-batches. */
static void plan_bucket(const Sampler *sampler, int64_t bucket, int64_t *filled, BatchPlan *plan)
{
    const int64_t first = *filled;
    for (int64_t i = 0; i < plan->sample_count; i++) {
        if (plan->drawn[i].bucket == bucket) plan->samples[(*filled)++] = plan->drawn[i];
    }
    for (int64_t at = first; at < *filled; at += sampler->options.micro_batch) {
        plan->micros[plan->micro_count++] = (PlannedMicro){
            .bucket = bucket,
            .first = at,
            .count = smaller(sampler->options.micro_batch, *filled - at),
        };
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
