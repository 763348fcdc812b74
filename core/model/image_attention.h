/*
 * image_attention: cross-attention to image tokens, beside that to the text (spec 4.5b).
 *
 * Image-to-video models of Wan 2.1 have keys and values of their own for them: k = norm(c Wk),
 * v = c Wv, out = softmax(q k^T) v with the queries of the text's attention. What both give is
 * added before the one output product, so a softmax never weighs image against text.
 * Collective over the tensor group.
 */
#ifndef ZT_CORE_MODEL_IMAGE_ATTENTION_H
#define ZT_CORE_MODEL_IMAGE_ATTENTION_H

#include "core/model/layer.h"

/* What the forward keeps. Image rows are whole on every rank, like the text. */
typedef struct ImageActs {
    Tensor k_raw, k, v; /* (batch, image rows, local width): before the norm; after; values */
    Tensor ss;          /* (batch * image rows): sums of squares of k_raw */
    Tensor out, sum;    /* (batch, q rows, local width): attention's result; with the text's */
    Tensor lse;         /* (batch, local heads, q rows) */
} ImageActs;

/* Nothing for a model that reads no image tokens. */
Status image_acts_alloc(Arena *arena, const LayerContext *ctx, int64_t batch, int64_t q_rows,
                        ImageActs *acts);
/* On top of what is in use when the backward is called. */
Status image_scratch(const LayerContext *ctx, Arena *count, int64_t batch, int64_t q_rows);

/* acts' k and v of image (batch, image rows, width). w: the five parameters from IMAGE_K_W on. */
Status image_keys(const LayerContext *ctx, const Tensor *w, Tensor image, const ImageActs *acts);
/* k once more, from k_raw. Not collective. */
Status image_keys_again(const LayerContext *ctx, const Tensor *w, const ImageActs *acts);
/* acts->sum = text_out + attention of q (batch, q rows, local width) over the image. Not
 * collective. */
Status image_attend(const LayerContext *ctx, Tensor q, Tensor text_out, const ImageActs *acts,
                    Arena *scratch);
/* dq += ; dimage (batch, image rows, width) += as attention_backward's dc; g +=. dout: the gradient
 * of acts->sum. */
Status image_backward(const LayerContext *ctx, const Tensor *w, const Tensor *g, Tensor dq,
                      Tensor dimage, Tensor dout, Tensor q, Tensor image, const ImageActs *acts,
                      Arena *scratch);

#endif
