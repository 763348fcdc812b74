#include "data/loader_buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LATENTS, TEXT, CONDITION, IMAGE, PARTS };

/* parts: of the bytes, those of the clips' values. */
static Status count_bytes(const LoaderSizes *sizes, size_t parts[PARTS], size_t *bytes)
{
    const size_t micros = (size_t)sizes->max_micros, clips = (size_t)sizes->max_clips;
    const int64_t elements[PARTS] = { sizes->clip_elements, sizes->text_elements,
                                      sizes->condition_elements, sizes->image_elements };
    size_t all =
        micros * sizeof(MicroBatch) + clips * (2 * sizeof(int64_t) + sizeof(char *) + sizeof(bool));
    for (int i = 0; i < PARTS; i++) {
        const size_t values = (size_t)elements[i];
        CHECK(!__builtin_mul_overflow(clips, values * sizeof(float), &parts[i]), ERR_MEMORY,
              "loader: no memory for %zu clips of %zu values", clips, values);
        all += parts[i];
    }
    *bytes = all;
    return OK;
}

Status loader_buffer_bytes_of(const LoaderSizes *sizes, size_t *bytes)
{
    size_t parts[PARTS];
    return count_bytes(sizes, parts, bytes);
}

Status loader_buffer_create(const LoaderSizes *sizes, LoaderBuffer *out)
{
    const size_t micros = (size_t)sizes->max_micros, clips = (size_t)sizes->max_clips;
    size_t parts[PARTS] = { 0 };
    float **const values[PARTS] = { &out->latents, &out->text, &out->condition, &out->image };
    bool whole = true;
    *out = (LoaderBuffer){ 0 };
    TRY(count_bytes(sizes, parts, &out->bytes));
    out->micros = calloc(micros, sizeof(*out->micros));
    out->samples = calloc(clips, sizeof(*out->samples));
    out->clips = calloc(clips, sizeof(*out->clips));
    out->captions = calloc(clips, sizeof(*out->captions));
    out->damaged = calloc(clips, sizeof(*out->damaged));
    for (int i = 0; i < PARTS; i++) {
        *values[i] = parts[i] > 0 ? malloc(parts[i]) : NULL;
        whole = whole && (parts[i] == 0 || *values[i] != NULL);
    }
    if (out->micros != NULL && out->samples != NULL && out->clips != NULL &&
        out->captions != NULL && out->damaged != NULL && whole) {
        return OK;
    }
    const size_t wanted = out->bytes;
    loader_buffer_destroy(out);
    return status_fail(ERR_MEMORY, "loader: no memory for %zu clips of %lld values: %zu bytes",
                       clips,
                       (long long)(sizes->clip_elements + sizes->text_elements +
                                   sizes->condition_elements + sizes->image_elements),
                       wanted);
}

void loader_buffer_destroy(LoaderBuffer *buffer)
{
    free(buffer->micros);
    free(buffer->samples);
    free(buffer->clips);
    free(buffer->captions);
    free(buffer->damaged);
    free(buffer->latents);
    free(buffer->text);
    free(buffer->condition);
    free(buffer->image);
    *buffer = (LoaderBuffer){ 0 };
}

/* Clips and latent values used so far. */
typedef struct Filled {
    int64_t clips, values;
} Filled;

typedef Status ReadTokens(Dataset *ds, int64_t clip, TokenRange tokens, Tensor dst);

/* own = this rank's tokens of a clip; where the sample is its to check, by way of the whole clip.
 */
static Status read_clip(Dataset *ds, const MicroBatch *micro, int64_t i, ReadTokens *read,
                        const LoaderOptions *options, float *whole, Tensor own)
{
    const int64_t clip = micro->clip_ids[i];
    if (options->parts == 1 || micro->samples[i] % options->parts != options->part)
        return read(ds, clip, micro->range, own);
    const Tensor all = tensor_of(whole, F32, SHAPE(micro->tokens, micro->patch));
    TRY(read(ds, clip, (TokenRange){ 0, micro->tokens }, all));
    memcpy(own.data, whole + micro->range.first * micro->patch, tensor_bytes(own));
    return OK;
}

static bool is_damage(Status status)
{
    return status == ERR_FORMAT || status == ERR_IO;
}

/* What is wrong with the file is for all ranks to agree on; anything else ends the run. */
static Status mark_damaged(LoaderBuffer *buffer, int64_t place, Status why, Tensor values)
{
    if (!is_damage(why)) return why;
    if (!buffer->damaged[place] && buffer->batch.damaged++ == 0)
        snprintf(buffer->damage, sizeof(buffer->damage), "%s", status_message());
    buffer->damaged[place] = true;
    memset(values.data, 0, tensor_bytes(values));
    return OK;
}

/* The embeddings of the captions that were drawn, or of the empty one. */
static Status read_text(LoaderBuffer *buffer, Dataset *ds, const Sample *samples, int64_t first,
                        MicroBatch *micro)
{
    for (int64_t i = 0; i < micro->clips; i++) {
        const Sample *sample = &samples[i];
        const int64_t which = sample->caption_drop ? DATASET_NULL_CAPTION : sample->caption;
        const Tensor rows = tensor_at(micro->text, i);
        Status s = dataset_read_text(ds, sample->clip, which, rows);
        if (is_damage(s)) s = dataset_read_text(ds, sample->clip, which, rows);
        if (s != OK) TRY(mark_damaged(buffer, first + i, s, rows));
    }
    return OK;
}

/* This rank's tokens of latents or conditions: values (clips, own tokens, patch). */
static Status read_clips(LoaderBuffer *buffer, Dataset *ds, ReadTokens *read,
                         const LoaderOptions *options, float *whole, int64_t first,
                         const MicroBatch *micro, Tensor values)
{
    for (int64_t i = 0; i < micro->clips; i++) {
        const Tensor own = tensor_at(values, i);
        Status s = read_clip(ds, micro, i, read, options, whole, own);
        /* a fault that passes is no damage: a run's numbers must not know of it */
        if (is_damage(s)) s = read_clip(ds, micro, i, read, options, whole, own);
        if (s != OK) TRY(mark_damaged(buffer, first + i, s, own));
    }
    return OK;
}

static Status read_images(LoaderBuffer *buffer, Dataset *ds, int64_t first, const MicroBatch *micro)
{
    for (int64_t i = 0; i < micro->clips; i++) {
        const Tensor rows = tensor_at(micro->image, i);
        Status s = dataset_read_image(ds, micro->clip_ids[i], rows);
        if (is_damage(s)) s = dataset_read_image(ds, micro->clip_ids[i], rows);
        if (s != OK) TRY(mark_damaged(buffer, first + i, s, rows));
    }
    return OK;
}

static Status fill_micro(LoaderBuffer *buffer, Dataset *ds, const Sample *samples,
                         const PlannedMicro *planned, const LoaderOptions *options, float *whole,
                         Filled *filled, MicroBatch *out)
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
                         .text = tensor_none(),
                         .condition = tensor_none(),
                         .image = tensor_none(),
                         .samples = buffer->samples + first,
                         .clip_ids = buffer->clips + first,
                         .captions = buffer->captions + first,
                         .damaged = buffer->damaged + first };
    for (int64_t i = 0; i < planned->count; i++) {
        const Sample *sample = &samples[planned->first + i];
        buffer->samples[first + i] = sample->number;
        buffer->clips[first + i] = sample->clip;
        buffer->damaged[first + i] = false;
        buffer->captions[first + i] =
            sample->caption_drop ? "" : dataset_caption(ds, sample->clip, sample->caption);
    }
    filled->clips += planned->count;
    if (options->text_width > 0) {
        const int64_t elements = options->text_rows * options->text_width;
        out->text = tensor_of(buffer->text + first * elements, F32,
                              SHAPE(planned->count, options->text_rows, options->text_width));
        TRY(read_text(buffer, ds, samples + planned->first, first, out));
    }
    if (options->image_width > 0) {
        const int64_t elements = options->image_rows * options->image_width;
        out->image = tensor_of(buffer->image + first * elements, F32,
                               SHAPE(planned->count, options->image_rows, options->image_width));
        TRY(read_images(buffer, ds, first, out));
    }
    if (options->metadata_only) return OK;

    const Shape own = SHAPE(planned->count, out->range.count, b->patch);
    const int64_t before = filled->values;
    out->latents = tensor_of(buffer->latents + before, F32, own);
    filled->values += tensor_count(out->latents);
    TRY(read_clips(buffer, ds, dataset_read_latents, options, whole, first, out, out->latents));
    if (options->condition == CONDITION_NONE) return OK;
    out->condition = tensor_of(buffer->condition + before, F32, own);
    return read_clips(buffer, ds, dataset_read_condition, options, whole, first, out,
                      out->condition);
}

Status loader_buffer_fill(LoaderBuffer *buffer, Dataset *ds, const BatchPlan *plan,
                          const LoaderOptions *options, float *whole)
{
    Filled filled = { 0 };
    buffer->batch = (Batch){ .step = plan->step,
                             .micros = buffer->micros,
                             .global_clips = plan->sample_count,
                             .global_micros = plan->micro_count,
                             .global_tokens = plan->tokens,
                             .global_elements = plan->elements,
                             .damage = buffer->damage };
    for (int64_t m = 0; m < plan->micro_count; m++) {
        if (batch_plan_rank(plan, m, options->size) != options->rank) continue;
        MicroBatch *micro = &buffer->micros[buffer->batch.micro_count++];
        TRY(fill_micro(buffer, ds, plan->samples, &plan->micros[m], options, whole, &filled,
                       micro));
    }
    return OK;
}

static void drop_from_micro(MicroBatch *micro, int64_t first_sample, const int64_t *marks,
                            bool *damaged)
{
    for (int64_t i = 0; i < micro->clips; i++) {
        damaged[i] = marks[micro->samples[i] - first_sample] != 0;
        const Tensor values[] = { micro->latents, micro->condition };
        for (int k = 0; k < 2 && damaged[i]; k++) {
            if (values[k].data == NULL) continue;
            const Tensor clip = tensor_at(values[k], i);
            memset(clip.data, 0, tensor_bytes(clip));
        }
    }
}

void loader_buffer_drop(LoaderBuffer *buffer, const Sampler *sampler, const int64_t *marks)
{
    Batch *batch = &buffer->batch;
    const int64_t count = sampler->options.batch, first = batch->step * count;
    for (int64_t i = 0; i < count; i++) {
        if (marks[i] == 0) continue;
        const int64_t bucket = sampler_sample(sampler, first + i).bucket;
        batch->dropped++;
        batch->global_clips--;
        batch->global_tokens -= sampler->clips.bucket_tokens[bucket];
        batch->global_elements -= sampler->clips.bucket_elements[bucket];
    }
    bool *damaged = buffer->damaged; /* of all micro-batches, one after the other */
    for (int64_t m = 0; m < batch->micro_count; m++) {
        drop_from_micro(&buffer->micros[m], first, marks, damaged);
        damaged += buffer->micros[m].clips;
    }
}
