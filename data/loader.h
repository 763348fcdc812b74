/*
 * loader: the next step's micro-batches of one data-parallel rank, read ahead by one thread.
 *
 * Two buffers of fixed size: while the trainer works on one step, the thread reads, checks and
 * widens the next. A fault in the thread comes out of the loader_next that would have returned the
 * step, with the message the thread gave.
 *
 * A clip that is damaged is no fault: it comes marked, and once all ranks know of it loader_drop
 * takes it out of the step. What reads well the second time is not damaged: that the disk had a bad
 * moment must not show in a run's numbers. So that every mesh finds the same clips, whole clips are
 * checked on all of them: where each rank reads a part, sample n is read whole by part n mod parts,
 * which holds the SHA-256 against it.
 */
#ifndef ZT_DATA_LOADER_H
#define ZT_DATA_LOADER_H

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "data/dataset.h"
#include "data/sampler.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct LoaderOptions {
    SamplerOptions sampler;
    int rank, size;     /* data-parallel coordinates; size divides the sampler's chunks, if any */
    int64_t first_step; /* a resumed run's next step */
    bool metadata_only; /* no latents are read: a pipeline stage that needs none */
    int64_t text_rows, text_width;   /* of the captions' embeddings, which are read too where these
                                        are not 0: text_width is the dataset's, text_rows not less */
    ConditionKind condition;         /* the dataset's: conditions are read, too; or none */
    int64_t image_rows, image_width; /* the dataset's: image tokens are read, too; or 0 */
    int part, parts; /* the tokens of each clip that are read: token_part(tokens, parts, part) of
                        core/parallel/tokens.h; parts 0 or 1: all */
} LoaderOptions;

typedef struct MicroBatch {
    int64_t clips;
    int64_t bucket;              /* in dataset_bucket */
    int chunk;                   /* SamplerOptions.chunks; ascending over a rank's micro-batches */
    int64_t t, h, w;             /* latent frames, rows, columns */
    int64_t tokens, patch;       /* of a whole clip */
    TokenRange range;            /* which of the tokens this rank reads: LoaderOptions.part */
    Tensor latents;              /* (clips, range.count, patch) F32; none when metadata_only */
    Tensor text;                 /* (clips, text_rows, text_width) F32, zeros behind each caption's
                                    rows; none where not asked for */
    Tensor condition;            /* as latents: of the clips' conditions; likewise */
    Tensor image;                /* (clips, image_rows, image_width) F32; likewise */
    const int64_t *samples;      /* (clips) global sample numbers */
    const int64_t *clip_ids;     /* (clips) in the dataset */
    const char *const *captions; /* (clips) UTF-8; "" where dropped */
    const bool *damaged; /* (clips) found here; after loader_drop: out of the step; NULL: none */
} MicroBatch;

typedef struct Batch {
    int64_t step;
    int64_t micro_count; /* of this rank; 0 when it has nothing to do in this step */
    const MicroBatch *micros;
    /* of the whole step, the same on every rank */
    int64_t global_clips, global_micros, global_tokens, global_elements;
    int64_t dropped;    /* by loader_drop; the four above are without them */
    int64_t damaged;    /* clips that this rank has found damaged */
    const char *damage; /* what is wrong with the first of them */
} Batch;

typedef struct Loader Loader;

/* What a loader reserves for clips of these sizes: its plan, and its own arithmetic. */
typedef struct LoaderSizes {
    int64_t max_micros;     /* most micro-batches that any step gives any data rank */
    int64_t max_clips;      /* most clips of a step on a rank */
    int64_t clip_elements;  /* most latent values of a clip that this rank reads; 0: none */
    int64_t whole_elements; /* of a clip that it reads whole to check it; 0: none */
    int64_t text_elements;  /* of a caption's embedding; 0: none */
    int64_t condition_elements, image_elements; /* of a clip's, read by this rank; 0: none */
    size_t bytes;                               /* of all of it */
} LoaderSizes;

/* Not collective, no dataset needed. ERR_MEMORY: more than there are addresses. */
Status loader_sizes(const LoaderOptions *options, BucketList buckets, LoaderSizes *out);

/* Not collective. `ds` must outlive the loader. ERR_CONFIG from the options, ERR_MEMORY. */
Status loader_create(Dataset *ds, const LoaderOptions *options, Loader **out);
/* Waits for the next step; *out and all it points to hold until the next call. Not collective, and
 * what it returns must be agreed on, damage as well: one rank's shard can fail alone. */
Status loader_next(Loader *loader, const Batch **out);
/* Takes samples out of the step that loader_next gave last: its i-th where marks[i] (batch) is not
 * 0, the same on every rank. Their latents become zeros, the step's global counts are those of the
 * others. */
void loader_drop(Loader *loader, const int64_t *marks);
/* The clip of sample `number`. */
int64_t loader_clip_of(const Loader *loader, int64_t number);
/* Seconds loader_next has waited since the loader was made: 0 where every step was ready. */
double loader_wait_s(const Loader *loader);
size_t loader_buffer_bytes(const Loader *loader);
/* Stops the thread and frees everything; NULL is fine. */
void loader_destroy(Loader *loader);

#ifdef __cplusplus
}
#endif
#endif
