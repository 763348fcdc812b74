/*
 * umt5: the umT5 encoder of spec 9, forward and backward.
 *
 *   x += O attention(norm(x));  x += wo (gelu(wi_0 n) * (wi_1 n)), n = norm(x);  final norm
 *
 * No biases, embeddings not scaled, scores not scaled, each layer its own relative position bias.
 * Keys past a caption's length are masked; output rows past it are zero. Small, so every tensor
 * rank computes it whole: not collective.
 */
#ifndef ZT_CORE_TEXT_UMT5_H
#define ZT_CORE_TEXT_UMT5_H

#include "core/model/weights.h"
#include "core/text/umt5_layer.h"

typedef struct Umt5Acts {
    Tensor ids, lengths;   /* (batch, length), (batch) I32: filled by the caller */
    Tensor buckets;        /* (2 length - 1) I32: bucket of each relative position */
    Tensor x0;             /* (batch, length, d_model): embeddings */
    Tensor ss;             /* (batch * length) of the final norm */
    Tensor out;            /* (batch, length, d_model): the result */
    Umt5LayerActs *layers; /* in the arena */
} Umt5Acts;

/* Cuts the activations and fills `buckets`. */
Status umt5_acts_alloc(Arena *arena, const TextConfig *config, int64_t batch, Umt5Acts *acts);
/* acts->out from acts->ids and acts->lengths. */
Status umt5_forward(const Device *dev, const TextConfig *config, const Weights *w, Umt5Acts *acts,
                    Arena *scratch);
/* dout (batch, length, d_model) is used up; parameter gradients g +=. */
Status umt5_backward(const Device *dev, const TextConfig *config, const Weights *w,
                     const Weights *g, Tensor dout, const Umt5Acts *acts, Arena *scratch);
Status umt5_scratch(const Device *dev, const TextConfig *config, int64_t batch, size_t *bytes);

#endif
