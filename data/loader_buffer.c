#include "data/loader_buffer.h"

#include <stdlib.h>

/* *latents: the part of the bytes that latents take. */
static Status count_bytes(size_t micros, size_t clips, size_t clip_elements, size_t *latents,
                          size_t *bytes)
{
    CHECK(!__builtin_mul_overflow(clips, clip_elements * sizeof(float), latents), ERR_MEMORY,
          "loader: no memory for %zu clips of %zu values", clips, clip_elements);
    *bytes =
        micros * sizeof(MicroBatch) + clips * (2 * sizeof(int64_t) + sizeof(char *)) + *latents;
    return OK;
}

Status loader_buffer_bytes_of(int64_t max_micros, int64_t max_clips, int64_t clip_elements,
                              size_t *bytes)
{
    size_t latents;
    return count_bytes((size_t)max_micros, (size_t)max_clips, (size_t)clip_elements, &latents,
                       bytes);
}

Status loader_buffer_create(int64_t max_micros, int64_t max_clips, int64_t clip_elements,
                            LoaderBuffer *out)
{
    const size_t micros = (size_t)max_micros, clips = (size_t)max_clips;
    size_t latents = 0;
    *out = (LoaderBuffer){ 0 };
    TRY(count_bytes(micros, clips, (size_t)clip_elements, &latents, &out->bytes));
    out->micros = calloc(micros, sizeof(*out->micros));
    out->samples = calloc(clips, sizeof(*out->samples));
    out->clips = calloc(clips, sizeof(*out->clips));
    out->captions = calloc(clips, sizeof(*out->captions));
    out->latents = latents > 0 ? malloc(latents) : NULL;
    if (out->micros != NULL && out->samples != NULL && out->clips != NULL &&
        out->captions != NULL && (latents == 0 || out->latents != NULL)) {
        return OK;
    }
    const size_t wanted = out->bytes;
    loader_buffer_destroy(out);
    return status_fail(ERR_MEMORY, "loader: no memory for %zu clips of %lld values: %zu bytes",
                       clips, (long long)clip_elements, wanted);
}

void loader_buffer_destroy(LoaderBuffer *buffer)
{
    free(buffer->micros);
    free(buffer->samples);
    free(buffer->clips);
    free(buffer->captions);
    free(buffer->latents);
    *buffer = (LoaderBuffer){ 0 };
}

/* Clips and latent values used so far. */
typedef struct Filled {
    int64_t clips, values;
} Filled;

static Status fill_micro(LoaderBuffer *buffer, Dataset *ds, const Sample *samples,
                         const PlannedMicro *planned, const LoaderOptions *options, Filled *filled,
                         MicroBatch *out)
{
    const DatasetBucket *b = dataset_bucket(ds, planned->bucket);
    const int64_t first = filled->clips;
    *out = (MicroBatch){ .clips = planned->count,
                         .bucket = planned->bucket,
                         .chunk = planned->chunk,
                         .t = b->t,
                         .h = b->h,
                         .w = b->w,
                         .tokens = b->tokens,
                         .patch = b->patch,
                         .range = token_part(b->tokens, options->parts, options->part),
                         .latents = tensor_none(),
                         .samples = buffer->samples + first,
                         .clip_ids = buffer->clips + first,
                         .captions = buffer->captions + first };
    for (int64_t i = 0; i < planned->count; i++) {
        const Sample *sample = &samples[planned->first + i];
        buffer->samples[first + i] = sample->number;
        buffer->clips[first + i] = sample->clip;
        buffer->captions[first + i] =
            sample->caption_drop ? "" : dataset_caption(ds, sample->clip, sample->caption);
    }
    filled->clips += planned->count;
    if (options->metadata_only) return OK;

    out->latents = tensor_of(buffer->latents + filled->values, F32,
                             SHAPE(planned->count, out->range.count, b->patch));
    filled->values += tensor_count(out->latents);
    for (int64_t i = 0; i < planned->count; i++) {
        TRY(dataset_read_latents(ds, out->clip_ids[i], out->range, tensor_at(out->latents, i)));
    }
    return OK;
}

Status loader_buffer_fill(LoaderBuffer *buffer, Dataset *ds, const BatchPlan *plan,
                          const LoaderOptions *options)
{
    Filled filled = { 0 };
    buffer->batch = (Batch){ .step = plan->step,
                             .micros = buffer->micros,
                             .global_clips = plan->sample_count,
                             .global_micros = plan->micro_count,
                             .global_tokens = plan->tokens,
                             .global_elements = plan->elements };
    for (int64_t m = 0; m < plan->micro_count; m++) {
        if (batch_plan_rank(plan, m, options->size) != options->rank) continue;
        MicroBatch *micro = &buffer->micros[buffer->batch.micro_count++];
        TRY(fill_micro(buffer, ds, plan->samples, &plan->micros[m], options, &filled, micro));
    }
    return OK;
}
