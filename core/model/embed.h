/*
 * embed: what stands before and after the blocks (spec 4.1 to 4.3, 4.6, 4.7).
 *
 *   x = patches Wp + bp;  e = time MLP(t);  e0 = Wt silu(e);  ctx = text MLP(text)
 *   v = LN(x) (1 + scale) + shift, (shift, scale) = table + e, then proj_out, in patch order
 *
 * x and v are of a rank's own tokens. The rest is small and computed whole on every sequence rank;
 * its gradient is computed on the first context rank only, as the others would add the same again.
 */
#ifndef ZT_CORE_MODEL_EMBED_H
#define ZT_CORE_MODEL_EMBED_H

#include "core/model/layer.h"
#include "core/model/weights.h"

/* What travels between pipeline stages, as views of one flat F32 tensor. */
typedef struct Message {
    Tensor x;   /* (batch, own tokens, width) */
    Tensor e0;  /* (batch, 6, width) */
    Tensor e;   /* (batch, 1, width) */
    Tensor ctx; /* (batch, text, width) */
} Message;

int64_t message_count(int64_t batch, int64_t tokens, int64_t text, int64_t width);
Message message_view(Tensor flat, int64_t batch, int64_t tokens, int64_t text, int64_t width);

typedef struct EmbedActs {
    Tensor emb;        /* (batch, freq_dim): sinusoids */
    Tensor t1, t1_act; /* (batch, width): before and after SiLU */
    Tensor e_act;      /* (batch, width): SiLU of e */
    Tensor c1, c1_act; /* (batch, text, width): before and after GELU */
} EmbedActs;

Status embed_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, EmbedActs *acts);
/* ctx = the text MLP of text (batch, text, text_dim). Not collective. */
Status embed_text(const LayerContext *layer, const Weights *w, Tensor ctx, Tensor text,
                  const EmbedActs *acts);
/* out = embeddings of patches (batch, own tokens, patch), t (batch) in [0, 1000), text (batch,
 * text, text_dim; none: the message carries no text). Not collective, nor is the backward. */
Status embed_forward(const LayerContext *ctx, const Weights *w, Message out, Tensor patches,
                     Tensor t, Tensor text, EmbedActs *acts);
/* dtext = (on the first context rank; elsewhere it stays as it is); g += ; d is used up */
Status embed_backward(const LayerContext *ctx, const Weights *w, const Weights *g, Message d,
                      Tensor dtext, Tensor patches, Tensor text, Message in, const EmbedActs *acts,
                      Arena *scratch);

typedef struct HeadActs {
    Tensor mod;        /* (2, batch, width): shift, scale */
    Tensor mean, rstd; /* (batch, own tokens) */
    Tensor n;          /* (batch, own tokens, width) */
    Tensor out;        /* (batch, own tokens, patch): in the head's column order */
} HeadActs;

Status head_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, int64_t tokens,
                       HeadActs *acts);
/* v (batch, own tokens, patch) in patch order. Not collective. */
Status head_forward(const LayerContext *ctx, const Weights *w, Tensor v, Tensor x, Tensor e,
                    HeadActs *acts);
/* d.x = , d.e += (the same on every sequence rank); g += . Collective over the sequence group. */
Status head_backward(const LayerContext *ctx, const Weights *w, const Weights *g, Message d,
                     Tensor dv, Tensor x, const HeadActs *acts, Arena *scratch);

#endif
