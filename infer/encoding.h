/*
 * encoding: a video on its way into latents, for what a request starts from.
 */
#ifndef ZT_INFER_ENCODING_H
#define ZT_INFER_ENCODING_H

#include "data/frames_in.h"
#include "infer/engine.h"
#include "infer/request.h"

typedef struct Encoding {
    Engine *engine;              /* views */
    const InferOptions *options; /* filled */
    Codec codec;                 /* owned, as are the two below */
    WanCoder *coder;
    Arena arena;
    Tensor latent; /* (channels, T, h, w) */
    Tensor tokens; /* (tokens, channels * 4): room for it in patches */
    Tensor grey;   /* (1, height, width, 3) F32 zeros */
    int64_t done;  /* latent frames */
} Encoding;

/* frames: of the clip whose latents are wanted. Not collective. On a counting device nothing is
 * read or reserved. ERR_USAGE, ERR_FORMAT, ERR_IO, ERR_MEMORY. After a failure destroy it. */
Status encoding_create(Engine *engine, const InferOptions *options, int64_t frames, Encoding *out);
void encoding_destroy(Encoding *encoding);
/* Bytes of the VAE's weights and of all that it holds beside them. */
size_t encoding_bytes(const Encoding *encoding);

#endif
