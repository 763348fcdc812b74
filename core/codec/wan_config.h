/*
 * wan_config: vae/config.json of a Wan VAE (diffusers' AutoencoderKLWan), versions 2.1 and 2.2.
 *
 * Any sizes are taken, so that tests can be small; what they must have in common is one latent
 * frame for four pixel frames. Keys that old files lack have 2.1's values.
 */
#ifndef ZT_CORE_CODEC_WAN_CONFIG_H
#define ZT_CORE_CODEC_WAN_CONFIG_H

#include "core/base/digest.h"
#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    WAN_LEVELS = 8,    /* most resolutions */
    WAN_LATENTS = 256, /* most channels of a latent */
    WAN_FRAMES = 4,    /* pixel frames of a latent frame */
};

typedef struct WanConfig {
    int64_t base_dim, decoder_base_dim; /* channels at the finest resolution */
    int64_t z_dim;                      /* of a latent */
    int64_t num_res_blocks;
    int64_t levels; /* resolutions: entries of dim_mult */
    int64_t dim_mult[WAN_LEVELS];
    bool temperal_downsample[WAN_LEVELS]; /* (levels - 1): after level i time halves, too (sic) */
    bool is_residual;                     /* 2.2: shortcuts around levels */
    int64_t patch_size; /* pixels to a side that become channels; 1 where the file has null */
    float mean[WAN_LATENTS], std[WAN_LATENTS]; /* of the latents' channels */
} WanConfig;

/* ERR_IO; ERR_FORMAT names file, key and value. */
Status wan_config_read(const char *path, WanConfig *out);
/* The same from the text; `what` is what errors call it. */
Status wan_config_parse(const char *text, size_t length, const char *what, WanConfig *out);

/* Pixels to a side of a latent pixel: 8, and 16 in 2.2. */
int64_t wan_stride(const WanConfig *config);
/* Channels of what the first convolution takes and the last one gives: 3 patch_size^2. */
int64_t wan_pixel_channels(const WanConfig *config);
/* What of the configuration decides the numbers. */
void wan_config_digest(const WanConfig *config, DigestStream *stream);

#ifdef __cplusplus
}
#endif
#endif
