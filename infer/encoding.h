/*
 * encoding: the VAE with room for a video's latents, for what a request starts from.
 */
#ifndef ZT_INFER_ENCODING_H
#define ZT_INFER_ENCODING_H

#include "infer/engine.h"
#include "infer/request.h"

typedef struct Encoding {
    Engine *engine;              /* views */
    const InferOptions *options; /* filled */
    Codec codec;                 /* owned, as are the two below */
    WanCoder *coder;
    Arena arena;
    Tensor latent; /* (channels, T, h, w), zeros at first */
    int64_t done;  /* latent frames */
} Encoding;

/* Whether the model reads a condition beside the noise (core/codec/condition.h). */
bool encoding_beside(const ModelDir *model);
/* frames: of the clip whose latents are wanted. Not collective. On a counting device nothing is
 * read or reserved. ERR_USAGE, ERR_FORMAT, ERR_IO, ERR_MEMORY. After a failure destroy it. */
Status encoding_create(Engine *engine, const InferOptions *options, int64_t frames, Encoding *out);
void encoding_destroy(Encoding *encoding);
/* Bytes of the VAE's weights and of all that it holds beside them. */
size_t encoding_bytes(const Encoding *encoding);

#endif
