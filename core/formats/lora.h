/*
 * lora: low-rank changes of a transformer's weights, as files of four programs hold them (spec 14).
 *
 *     w += scale B A        A (r, in), B (out, r); in: the product of a weight's dimensions but the
 *                           first
 *
 * Keys are diffusers' and PEFT's ("transformer.blocks.0.attn1.to_q.lora_A.weight", also after
 * "base_model.model." or bare), the original's and ComfyUI's
 * ("diffusion_model.blocks.0.self_attn.q", lora_A or lora_down), or musubi-tuner's
 * ("lora_unet_blocks_0_self_attn_q"). The scale is alpha / r (alpha / sqrt(r) for rsLoRA) by the
 * file's alphas, else by the adapter's configuration in the metadata or in adapter_config.json,
 * else 1. ".diff" and ".diff_b" are changes of a whole weight or bias. Not collective.
 */
#ifndef ZT_CORE_FORMATS_LORA_H
#define ZT_CORE_FORMATS_LORA_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/device.h"
#include "core/model/params.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The metadata key under which diffusers and PEFT keep the adapter's configuration. */
#define LORA_METADATA "lora_adapter_metadata"

typedef struct LoraChange {
    const Param *param; /* view; what is changed, its name is diffusers' */
    int64_t rank;       /* 0: a change of the whole parameter, `delta` */
    Tensor a, b;        /* (rank, in), (out, rank) F32 */
    Tensor delta;       /* of the parameter's shape F32 */
    double scale;
} LoraChange;

typedef struct Lora {
    LoraChange *items; /* owned; in the order of the parameters, one or two each */
    int64_t count;
    Arena memory; /* owned: the tensors */
} Lora;

/* Reads PATH, a file, or a folder with adapter_model.safetensors (PEFT) or
 * pytorch_lora_weights.safetensors (diffusers), for a model of these parameters. ERR_FORMAT names
 * the key that changes nothing of the model, has no partner, another rank or shape, or means a
 * method that is not this one; ERR_IO, ERR_MEMORY. */
Status lora_read(const char *path, const ParamList *params, Lora *out);
void lora_destroy(Lora *lora);

/* ---- merging --------------------------------------------------------------------------------- */

/* Indices [first, first + count) of one dimension, all of the others; dim -1: the whole. */
typedef struct LoraSlice {
    int dim;
    int64_t first, count;
} LoraSlice;

/* Bytes of scratch for merging any of them whole. */
size_t lora_scratch(const Lora *lora);
/* w += strength times the change, in F32; w is the slice of the parameter that a rank holds. */
Status lora_merge(const Device *dev, const LoraChange *change, double strength, LoraSlice slice,
                  Tensor w, Arena *scratch);

/* ---- writing --------------------------------------------------------------------------------- */

typedef enum LoraStyle {
    LORA_DIFFUSERS, /* "transformer." keys, the configuration in the metadata */
    LORA_PEFT,      /* "base_model.model." keys; lora_write_config makes the file beside it */
    LORA_ORIGINAL,  /* "diffusion_model." keys of original names, with alphas: ComfyUI */
} LoraStyle;

/* Writes changes of a rank (ERR_USAGE for whole deltas, which not every style has a key for); alpha
 * is scale times rank. dtype F32 or BF16. Same bytes for the same changes. ERR_IO, ERR_MEMORY. */
Status lora_write(const char *path, LoraStyle style, DType dtype, const LoraChange *items,
                  int64_t count, const ParamList *params);
/* What the metadata of LORA_DIFFUSERS says under LORA_METADATA; tensors are not looked at. The
 * caller frees *text. */
Status lora_metadata(const LoraChange *items, int64_t count, char **text);
/* FOLDER/adapter_config.json, which PEFT reads beside adapter_model.safetensors. */
Status lora_write_config(const char *path, const LoraChange *items, int64_t count);

#ifdef __cplusplus
}
#endif
#endif
