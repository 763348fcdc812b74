/*
 * image_embed: image tokens as cross-attention reads them (spec 4.4).
 *
 *   image = LN2(W2 gelu(W1 LN1(tokens + position) + b1) + b2), with eps 1e-5 and the exact GELU
 *
 * positions only where the model has them (first and last frame). Small, and computed whole on
 * stage 0 of every sequence rank. Not collective.
 */
#ifndef ZT_CORE_MODEL_IMAGE_EMBED_H
#define ZT_CORE_MODEL_IMAGE_EMBED_H

#include "core/model/layer.h"

typedef struct ImageEmbedActs {
    Tensor placed;           /* (batch, rows, image_dim): tokens with their positions */
    Tensor n1, h, gelu;      /* alike: after the norm; before and after GELU */
    Tensor out;              /* (batch, rows, width): before the second norm */
    Tensor mean[2], rstd[2]; /* (batch, rows) */
} ImageEmbedActs;

/* Nothing for a model that reads no image tokens. */
Status image_embed_acts_alloc(Arena *arena, const DitConfig *config, int64_t batch,
                              ImageEmbedActs *acts);
/* out (batch, rows, width) of tokens (batch, rows, image_dim). w, g: the first group's weights. */
Status image_embed_forward(const LayerContext *ctx, const Tensor *w, Tensor out, Tensor tokens,
                           const ImageEmbedActs *acts);
/* g += ; dout is used up. Tokens come from a frozen encoder: no gradient of theirs. */
Status image_embed_backward(const LayerContext *ctx, const Tensor *w, const Tensor *g, Tensor dout,
                            const ImageEmbedActs *acts, Arena *scratch);
/* Adds the backward's scratch to a counting arena. */
Status image_embed_scratch(const DitConfig *config, Arena *count, int64_t batch);

#endif
