/*
 * flops: arithmetic of the model, counted from its shapes: 2 a multiply-add, matrix products and
 * attention only (spec 4.10, plus text encoder and embeddings).
 */
#ifndef ZT_CORE_MODEL_FLOPS_H
#define ZT_CORE_MODEL_FLOPS_H

#include "core/model/model_config.h"

/* One forward of one clip. A training step is three times that: the backward has two products for
 * each of the forward's. */
double flops_transformer(const DitConfig *config, int64_t tokens, int64_t text);
/* One step of sampling: the text's embedding, keys and values are made once a prompt. */
double flops_denoise(const DitConfig *config, int64_t tokens, int64_t text);
double flops_text_encoder(const TextConfig *config);
double flops_forward(const ModelConfig *config, int64_t tokens);

#endif
