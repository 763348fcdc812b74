/*
 * clip_config: the image encoder's sizes and what is done to a picture before it (spec 10), from
 * image_encoder/config.json (transformers' CLIPVisionModel, with or without a projection) and
 * image_processor/preprocessor_config.json (CLIPImageProcessor).
 *
 * Unknown keys are ignored; a processor's missing keys, or its missing file, mean CLIP's defaults.
 * Not collective.
 */
#ifndef ZT_CORE_IMAGE_CLIP_CONFIG_H
#define ZT_CORE_IMAGE_CLIP_CONFIG_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct ClipConfig {
    int64_t hidden_size, intermediate_size, num_hidden_layers, num_attention_heads;
    int64_t image_size, patch_size; /* pixels of a side; 224 and 14 */
    bool quick_gelu;                /* x / (1 + exp(-1.702 x)) instead of the exact GELU */
    double layer_norm_eps;
} ClipConfig;

typedef struct ClipProcessor {
    int64_t shortest_edge; /* the shorter side after resizing; 0: */
    int64_t height, width; /* the picture is stretched to this */
    bool resize, crop;
    int64_t crop_height, crop_width; /* taken from the middle */
    double scale;                    /* of a byte: 1 / 255 */
    double mean[3], deviation[3];    /* of R, G, B after scaling */
} ClipProcessor;

/* ERR_FORMAT names file and key; ERR_IO. */
Status clip_config_read(const char *model_dir, ClipConfig *config, ClipProcessor *processor);

/* Tokens of a picture: the class token first, then the patches by rows. */
static inline int64_t clip_tokens(const ClipConfig *c)
{
    const int64_t side = c->image_size / c->patch_size;
    return side * side + 1;
}

#endif
