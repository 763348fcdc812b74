/* loader_buffer: the memory of one step's micro-batches, reserved once for the largest step. */
#ifndef ZT_DATA_LOADER_BUFFER_H
#define ZT_DATA_LOADER_BUFFER_H

#include "data/loader.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct LoaderBuffer {
    Batch batch;           /* views of the rest */
    MicroBatch *micros;    /* (max_micros) owned */
    float *latents;        /* (max_clips, most elements of a clip) owned; NULL: none */
    float *text;           /* (max_clips, elements of an embedding) owned; NULL: none */
    float *condition;      /* as latents, of conditions; NULL: none */
    float *image;          /* (max_clips, elements of image tokens) owned; NULL: none */
    int64_t *samples;      /* (max_clips) owned */
    int64_t *clips;        /* the same */
    const char **captions; /* the same; the strings belong to the dataset */
    bool *damaged;         /* the same */
    char damage[1024];     /* Batch.damage */
    size_t bytes;          /* reserved in all */
} LoaderBuffer;

/* Bytes that loader_buffer_create reserves. ERR_MEMORY: more than there are addresses. */
Status loader_buffer_bytes_of(const LoaderSizes *sizes, size_t *bytes);
/* For the largest step: sizes but whole_elements and bytes. ERR_MEMORY says how much was wanted. */
Status loader_buffer_create(const LoaderSizes *sizes, LoaderBuffer *out);
/* Fills it with the share of the plan that options->rank has, and reads the tokens of it that
 * options->part says; parts is 1 or more. whole: room for a clip, where there are several. */
Status loader_buffer_fill(LoaderBuffer *buffer, Dataset *ds, const BatchPlan *plan,
                          const LoaderOptions *options, float *whole);
/* loader_drop, of this buffer. */
void loader_buffer_drop(LoaderBuffer *buffer, const Sampler *sampler, const int64_t *marks);
void loader_buffer_destroy(LoaderBuffer *buffer);

#ifdef __cplusplus
}
#endif
#endif
