/*
 * wan_vae: the public Wan VAEs, weights and identity (spec 7, 8). wan_coder.h runs them.
 *
 * vae/config.json and vae/diffusion_pytorch_model.safetensors, F32, BF16 or F16; computed in F32.
 * Only means are used: encoding is deterministic.
 */
#ifndef ZT_CORE_CODEC_WAN_VAE_H
#define ZT_CORE_CODEC_WAN_VAE_H

#include "core/base/arena.h"
#include "core/blas/conv.h"
#include "core/codec/wan_layers.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct WanLayerWeights {
    ConvWeights *convs[WAN_CONVS]; /* owned */
    Tensor norms[WAN_NORMS];       /* (channels); views into the arena */
} WanLayerWeights;

/* The encoder or the decoder. */
typedef struct WanNet {
    WanLayers layers;
    WanLayerWeights weights[WAN_LAYERS]; /* of layers.items; zero when they were not asked for */
    bool loaded;
} WanNet;

/* WAN_COUNTS: a plan's, beside the others: only config.json is read, and what would be kept has
 * sizes and no values. */
typedef enum WanUse { WAN_ENCODES = 1, WAN_DECODES = 2, WAN_COUNTS = 4 } WanUse;

typedef struct WanVae {
    WanConfig config;
    WanNet encoder, decoder;
    Arena norms;             /* owned */
    char digest[DIGEST_HEX]; /* SHA-256 of what of the configuration counts, and of every weight in
                                F32: the same however the file lays them out; "" when counted */
} WanVae;

/* Reads all and keeps what `use` (of WanUse, any) needs. ERR_FORMAT names file and tensor: one
 * that is missing, too many, of another shape or type, or not finite. ERR_IO, ERR_MEMORY. */
Status wan_vae_load(const char *folder, int use, WanVae **out);
void wan_vae_destroy(WanVae *vae);
/* Bytes of the weights that were kept. */
size_t wan_vae_bytes(const WanVae *vae);
/* Of both nets, as a file must have them. */
void wan_vae_count(const WanConfig *config, int64_t *tensors, int64_t *values);

#ifdef __cplusplus
}
#endif
#endif
