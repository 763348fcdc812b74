/*
 * weight_grads: the gradients of linear layers' weights, at once or later.
 *
 * A pipeline that fills its bubble runs a micro-batch's backward in two parts: first what the
 * stage before waits for, later the products that give the weights' gradients. A queue records
 * these products; each keeps a copy of dy, which the backward overwrites, while x is one of the
 * slot's activations and stays. Only products are late: gradients of norms, of modulation tables
 * and of the text encoder are small or need no message, and come with the backward.
 */
#ifndef ZT_CORE_MODEL_WEIGHT_GRADS_H
#define ZT_CORE_MODEL_WEIGHT_GRADS_H

#include "core/base/arena.h"
#include "core/model/model_config.h"
#include "core/ops.h"

/* One product. */
typedef struct WeightGrad {
    Tensor dw, db, x, dy; /* as op_linear_backward_weight's; dy: a view into the queue's arena */
    int span;             /* TokenSpan of the rows */
    bool f32;             /* on the device that computes in F32 */
} WeightGrad;

typedef struct WeightGrads {
    Arena arena;       /* owned: copies of dy */
    WeightGrad *calls; /* owned */
    int count, most;
} WeightGrads;

/* What one virtual stage's backward of a micro-batch records. */
typedef struct WeightGradsShape {
    int64_t batch;
    int64_t own;     /* tokens of the stream on this rank */
    int64_t context; /* tokens that the sublayers read */
    int64_t text;    /* rows of the text context */
    int64_t image;   /* image tokens */
    int64_t blocks;
    int tensor;       /* tensor ranks */
    bool first, last; /* the embeddings, the head */
} WeightGradsShape;

/* Bytes of copies and number of products. */
Status weight_grads_plan(const DitConfig *config, const WeightGradsShape *shape, size_t *bytes,
                         int *calls);
/* ERR_MEMORY. */
Status weight_grads_create(const Device *dev, size_t bytes, int calls, WeightGrads *out);
void weight_grads_destroy(WeightGrads *queue);

/* Records dw += dy^T x, db += column sums of dy (or none) for token_sums_later, until which x and
 * what dw and db point to must stay. */
Status weight_grads_record(WeightGrads *queue, const Device *dev, const WeightGrad *call);
/* Forgets what was recorded. */
void weight_grads_clear(WeightGrads *queue);

#endif
