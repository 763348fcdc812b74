/*
 * references: pictures and videos that a request gives the model to start from (spec 6).
 *
 *     --image             the first frame                     image to video
 *     --image --last-image  the first and the last one        first and last frame
 *     --video --strength  a video, as far as noise leaves it  video to video (SDEdit)
 *     --continue          a clip's last frames, at the start  continuation; --backward: its first
 *                         frames, at the end
 *
 *     --noise             the noise itself, to compare with other programs
 *
 * What a model can take decides how it is told. Models with channels beside the noise read a mask
 * of the frames that are known and the latents of a video with grey for those that are not;
 * TI2V models hold latent frames at the start as they are, at timestep 0; every model can begin
 * in the middle of the trajectory. Anything else is refused.
 */
#ifndef ZT_INFER_REFERENCES_H
#define ZT_INFER_REFERENCES_H

#include "infer/engine.h"
#include "infer/request.h"

/* F32, owned, the same on every rank; absent where the request gives none. */
typedef struct References {
    Tensor beside; /* (tokens, patch in - patch out) */
    Tensor given;  /* (tokens of clean latent frames, patch out) */
    Tensor start;  /* (tokens, patch out) */
    Tensor image;  /* (image rows, image_dim) */
    Tensor noise;  /* (tokens, patch out) */
    int64_t clean; /* latent frames that are given */
} References;

/* The command line alone: which options go together. ERR_USAGE. */
Status references_check(const InferOptions *options);
/* Reads and encodes, once the model is found and before its weights are loaded; options are filled.
 * ERR_USAGE for what this model cannot take, ERR_IO, ERR_FORMAT, ERR_MEMORY. Collective. */
Status references_make(Engine *engine, const InferOptions *options, References *out);
void references_destroy(References *references);

#endif
