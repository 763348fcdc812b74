/*
 * embed: what stands before and after the blocks (spec 4.1 to 4.3, 4.6, 4.7).
 *
 *   x = patches Wp + bp;  e = time MLP(t);  e0 = Wt silu(e);  ctx = text MLP(text)
 *   v = LN(x) (1 + scale) + shift, (shift, scale) = table + e, then proj_out, in patch order
 *
 * Everything here is small and computed whole on every tensor rank: not collective.
 */
#ifndef ZT_CORE_MODEL_EMBED_H
#define ZT_CORE_MODEL_EMBED_H

#include "core/model/weight_grads.h"
#include "core/model/weights.h"

/* What travels between pipeline stages, as views of one flat F32 tensor. */
typedef struct Message {
    Tensor x;   /* (batch, tokens, width) */
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
/* out = embeddings of patches (batch, tokens, patch), t (batch) in [0, 1000), text (batch, text,
 * text_dim) */
Status embed_forward(const Device *dev, const Weights *w, Message out, Tensor patches, Tensor t,
                     Tensor text, EmbedActs *acts);
/* dtext = ; g += , those of products later unless NULL; d is used up */
Status embed_backward(const Device *dev, const Weights *w, const Weights *g, Message d,
                      Tensor dtext, Tensor patches, Tensor text, Message in, const EmbedActs *acts,
                      WeightGrads *later, Arena *scratch);

typedef struct HeadActs {
    Tensor mod;        /* (2, batch, width): shift, scale */
    Tensor mean, rstd; /* (batch, tokens) */
    Tensor n;          /* (batch, tokens, width) */
    Tensor out;        /* (batch, tokens, patch): in the head's column order */
} HeadActs;

Status head_acts_alloc(Arena *arena, const ModelConfig *config, int64_t batch, int64_t tokens,
                       HeadActs *acts);
/* v (batch, tokens, patch) in patch order */
Status head_forward(const Device *dev, const DitConfig *config, const Weights *w, Tensor v,
                    Tensor x, Tensor e, HeadActs *acts);
/* d.x = , d.e += ; g += , those of products later unless NULL */
Status head_backward(const Device *dev, const DitConfig *config, const Weights *w, const Weights *g,
                     Message d, Tensor dv, Tensor x, const HeadActs *acts, WeightGrads *later,
                     Arena *scratch);

#endif
