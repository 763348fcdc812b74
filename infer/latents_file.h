/* latents_file: sampled latents as a safetensors file, for comparing and for other decoders. */
#ifndef ZT_INFER_LATENTS_FILE_H
#define ZT_INFER_LATENTS_FILE_H

#include "core/base/status.h"
#include "core/base/tensor.h"
#include "data/latent_video.h"

/* Writes tokens (count, tokens, patch) as "latents.0001", ... each (channels, t, h, w) F32,
 * normalised. ERR_IO, ERR_MEMORY. */
Status latents_save(const char *path, int64_t channels, LatentGrid grid, Tensor tokens);

#endif
