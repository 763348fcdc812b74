/*
 * clip_weights: the image encoder's tensors, of one layer at a time, from image_encoder/ of a model
 * directory.
 *
 * Names are transformers': "vision_model." stands before them in files of its versions before 5,
 * and nothing does since. Files hold F32, BF16 or F16. Every tensor of the tower must be there in
 * its shape; the projection and position_ids may be, nothing else. Not collective.
 */
#ifndef ZT_CORE_IMAGE_CLIP_WEIGHTS_H
#define ZT_CORE_IMAGE_CLIP_WEIGHTS_H

#include "core/base/arena.h"
#include "core/formats/safetensors_set.h"
#include "core/image/clip_config.h"

// clang-format off
/* X(ID, name, dimensions): what stands once */
#define CLIP_FIRST(X) \
    X(CLIP_CLASS,    "embeddings.class_embedding",           DIMS(WIDTH)) \
    X(CLIP_PATCH,    "embeddings.patch_embedding.weight",    DIMS(WIDTH, THREE, PATCH, PATCH)) \
    X(CLIP_POSITION, "embeddings.position_embedding.weight", DIMS(TOKENS, WIDTH)) \
    X(CLIP_PRE_W,    "pre_layrnorm.weight",                  DIMS(WIDTH)) \
    X(CLIP_PRE_B,    "pre_layrnorm.bias",                    DIMS(WIDTH))

/* encoder.layers.N. */
#define CLIP_LAYER(X) \
    X(CLIP_NORM1_W, "layer_norm1.weight",        DIMS(WIDTH)) \
    X(CLIP_NORM1_B, "layer_norm1.bias",          DIMS(WIDTH)) \
    X(CLIP_Q_W,     "self_attn.q_proj.weight",   DIMS(WIDTH, WIDTH)) \
    X(CLIP_Q_B,     "self_attn.q_proj.bias",     DIMS(WIDTH)) \
    X(CLIP_K_W,     "self_attn.k_proj.weight",   DIMS(WIDTH, WIDTH)) \
    X(CLIP_K_B,     "self_attn.k_proj.bias",     DIMS(WIDTH)) \
    X(CLIP_V_W,     "self_attn.v_proj.weight",   DIMS(WIDTH, WIDTH)) \
    X(CLIP_V_B,     "self_attn.v_proj.bias",     DIMS(WIDTH)) \
    X(CLIP_O_W,     "self_attn.out_proj.weight", DIMS(WIDTH, WIDTH)) \
    X(CLIP_O_B,     "self_attn.out_proj.bias",   DIMS(WIDTH)) \
    X(CLIP_NORM2_W, "layer_norm2.weight",        DIMS(WIDTH)) \
    X(CLIP_NORM2_B, "layer_norm2.bias",          DIMS(WIDTH)) \
    X(CLIP_FC1_W,   "mlp.fc1.weight",            DIMS(FFN, WIDTH)) \
    X(CLIP_FC1_B,   "mlp.fc1.bias",              DIMS(FFN)) \
    X(CLIP_FC2_W,   "mlp.fc2.weight",            DIMS(WIDTH, FFN)) \
    X(CLIP_FC2_B,   "mlp.fc2.bias",              DIMS(WIDTH))

/* after the last layer: not used, as its input is what a video model takes */
#define CLIP_LAST(X) \
    X(CLIP_POST_W, "post_layernorm.weight", DIMS(WIDTH)) \
    X(CLIP_POST_B, "post_layernorm.bias",   DIMS(WIDTH))
// clang-format on

#define CLIP_ENUM(ID, name, dims) ID,
enum { CLIP_FIRST(CLIP_ENUM) CLIP_FIRST_COUNT };
enum { CLIP_LAYER(CLIP_ENUM) CLIP_LAYER_COUNT };
enum { CLIP_LAST(CLIP_ENUM) CLIP_LAST_COUNT };
#undef CLIP_ENUM

typedef struct ClipWeights {
    SafetensorsSet set; /* owned */
    ClipConfig config;
    const char *prefix; /* "vision_model." or "" */
    Arena arena;        /* owned */
    Tensor first[CLIP_FIRST_COUNT];
    Tensor layer[CLIP_LAYER_COUNT]; /* of the layer read last */
} ClipWeights;

/* Opens, checks all tensors, reads the first group. dtype: F32 or BF16, of the layers' matrices in
 * memory. ERR_FORMAT names file and tensor; ERR_IO, ERR_MEMORY. */
Status clip_weights_open(const char *model_dir, const ClipConfig *config, DType dtype,
                         ClipWeights *out);
/* Bytes that it holds. */
size_t clip_weights_bytes(const ClipConfig *config, DType dtype);
Status clip_weights_read(ClipWeights *weights, int64_t layer);
void clip_weights_close(ClipWeights *weights);

#endif
