/*
 * render_space: the sizes of a request's videos, and all that rendering them reserves on one rank.
 *
 * A plan runs the same code on a counting device (infer/sampling_plan.h).
 */
#ifndef ZT_INFER_RENDER_SPACE_H
#define ZT_INFER_RENDER_SPACE_H

#include "data/latent_video.h"
#include "infer/engine.h"
#include "infer/references.h"
#include "infer/request.h"
#include "infer/told.h"

typedef struct RenderSizes {
    DitShape grid;          /* in patches */
    LatentGrid latent_grid; /* in latent pixels */
    int64_t tokens, patch;
    int64_t batch; /* prompts of one replica in one round */
} RenderSizes;

/* Of `count` prompts with these options, which are filled; clean: latent frames that are given.
 * ERR_USAGE for a size or a number of frames that the model or the mesh cannot make. */
Status render_sizes(const Engine *engine, const InferOptions *options, int64_t count, int64_t clean,
                    RenderSizes *out);
/* What the command line says of the loop, and what the model's folder does. ERR_USAGE. */
Status render_denoise(const InferOptions *options, const ModelDir *model, DenoiseOptions *out);
/* Rows of the model for so many prompts, those of guidance with them. */
int64_t render_rows(const DenoiseOptions *denoise, int64_t prompts);

/* What rendering depends on; views. */
typedef struct RenderNeeds {
    const InferOptions *options;
    const RenderSizes *sizes;
    const DenoiseOptions *denoise;
    const References *references; /* their shapes */
    bool embedded;                /* prompts come as embeddings */
    int64_t kept;                 /* prompts whose latents are kept to the end; 0: none */
} RenderNeeds;

typedef struct RenderSpace {
    Velocity velocity;  /* owned, as is all below */
    CodecStream *codec; /* NULL on ranks that do not decode */
    Arena arena;
    Tensor x;    /* (batch, tokens, patch) */
    Tensor kept; /* (kept, tokens, patch), zero where other replicas work; or none */
    Told told;
} RenderSpace;

/* Not collective. ERR_MEMORY, ERR_DEVICE. After a failure destroy it. */
Status render_space_create(Engine *engine, const RenderNeeds *needs, RenderSpace *out);
void render_space_destroy(RenderSpace *space);

#endif
