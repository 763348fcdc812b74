/*
 * encoding: a video on its way into latents, frame by frame, for what a request starts from.
 *
 * Where a model reads a mask beside the latents (spec 6), the mask's channels lie before theirs.
 */
#ifndef ZT_INFER_ENCODING_H
#define ZT_INFER_ENCODING_H

#include "data/frames_in.h"
#include "infer/engine.h"
#include "infer/request.h"

enum { MASK_CHANNELS = 4 }; /* of a latent frame: one a pixel frame */

typedef struct Encoding {
    Engine *engine;              /* views */
    const InferOptions *options; /* filled */
    Codec codec;                 /* owned, as are the two below */
    WanCoder *coder;
    Arena arena;
    Tensor all;    /* (mask and channels, T, h, w), zeros at first */
    Tensor latent; /* (channels, T, h, w): the last ones of it */
    Tensor grey;   /* (1, height, width, 3) F32 zeros */
    Tensor shown;  /* alike: a frame in [-1, 1] */
    int64_t done;  /* latent frames */
} Encoding;

/* Channels of the mask that this model reads: MASK_CHANNELS or none. */
int64_t encoding_mask(const ModelDir *model);
/* frames: of the clip whose latents are wanted. Not collective. On a counting device nothing is
 * read or reserved. ERR_USAGE, ERR_FORMAT, ERR_IO, ERR_MEMORY. After a failure destroy it. */
Status encoding_create(Engine *engine, const InferOptions *options, int64_t frames, Encoding *out);
void encoding_destroy(Encoding *encoding);
/* Bytes of the VAE's weights and of all that it holds beside them. */
size_t encoding_bytes(const Encoding *encoding);
/* Frame `index` of frames, or grey where they are NULL. Collective over the replica. */
Status encoding_add(Encoding *encoding, const Frames *frames, int64_t index);

#endif
