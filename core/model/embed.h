/*
 * embed: what stands before and after the blocks (spec 4.1 to 4.3, 4.6, 4.7).
 *
 *   x = patches Wp + bp;  e = time MLP(t);  e0 = Wt silu(e);  ctx = text MLP(text)
 *   image = image MLP(image tokens), where the model reads them
 *   v = LN(x) (1 + scale) + shift, (shift, scale) = table + e, then proj_out, in patch order
 *
 * x and v are of a rank's own tokens. The rest is small and computed whole on every sequence rank;
 * its gradient is computed on the first context rank only, as the others would add the same again.
 */
#ifndef ZT_CORE_MODEL_EMBED_H
#define ZT_CORE_MODEL_EMBED_H

#include "core/model/image_embed.h"
#include "core/model/layer.h"
#include "core/model/weights.h"

/* tokens: own; text, image: rows, 0 where they went ahead; times: timesteps of a clip, 1 or 2. */
typedef struct MessageShape {
    int64_t batch, tokens, text, image, times, width;
} MessageShape;

/* What travels between pipeline stages, as views of one flat F32 tensor. */
typedef struct Message {
    Tensor x;  /* (batch, own tokens, width) */
    Tensor e0; /* (batch * times, 6, width) */
    Tensor e;  /* (batch * times, 1, width) */
    Condition condition;
} Message;

int64_t message_count(MessageShape shape);
Message message_view(Tensor flat, MessageShape shape);

typedef struct EmbedActs {
    Tensor times;      /* (batch, times): timesteps; of two the second is 0, the clean frames' */
    Tensor emb;        /* (batch * times, freq_dim): sinusoids */
    Tensor t1, t1_act; /* (batch * times, width): before and after SiLU */
    Tensor e_act;      /* (batch * times, width): SiLU of e */
    Tensor c1, c1_act; /* (batch, text, width): before and after GELU */
    ImageEmbedActs image;
} EmbedActs;

Status embed_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, int64_t times,
                        EmbedActs *acts);
/* out = the MLPs of from.text (batch, text, text_dim) and from.image (batch, image rows, image_dim;
 * or none). Not collective. */
Status embed_condition(const LayerContext *layer, const Weights *w, Condition out, Condition from,
                       const EmbedActs *acts);
/* out = embeddings of patches (batch, own tokens, patch), t (batch) in [0, 1000), and, unless the
 * message carries none, of the condition. Not collective, nor is the backward. */
Status embed_forward(const LayerContext *ctx, const Weights *w, Message out, Tensor patches,
                     Tensor t, Condition condition, EmbedActs *acts);
/* dpatches (as patches) = , or none; dtext (as from.text) = (on the first context rank; elsewhere
 * it stays as it is); g += ; d is used up. One timestep a clip. */
Status embed_backward(const LayerContext *ctx, const Weights *w, const Weights *g, Message d,
                      Tensor dpatches, Tensor dtext, Tensor patches, Condition from, Message in,
                      const EmbedActs *acts, Arena *scratch);

typedef struct HeadActs {
    Tensor mod;        /* (2, batch * times, width): shift, scale */
    Tensor mean, rstd; /* (batch, own tokens) */
    Tensor n;          /* (batch, own tokens, width) */
    Tensor out;        /* (batch, own tokens, patch): in the head's column order */
} HeadActs;

Status head_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, int64_t tokens,
                       int64_t times, HeadActs *acts);
/* v (batch, own tokens, patch) in patch order. Not collective. */
Status head_forward(const LayerContext *ctx, const Weights *w, Tensor v, Tensor x, Tensor e,
                    HeadActs *acts);
/* d.x = , d.e += (the same on every sequence rank); g += . Collective over the sequence group. */
Status head_backward(const LayerContext *ctx, const Weights *w, const Weights *g, Message d,
                     Tensor dv, Tensor x, const HeadActs *acts, Arena *scratch);

#endif
