/*
 * exact_grads: a step's gradient in exact numerics, the same bits on every mesh.
 *
 *   gradient = tree over chunks of the batch ( tree over chunks of tokens ( clips, in order ) )
 *
 * A batch is cut into `chunks` canonical chunks of clips, a clip into as many of tokens; a rank
 * owns whole chunks of both. The backward adds each clip's share to one accumulator a chunk of
 * tokens. When a chunk of the batch is done, its accumulators are added up along the tree: this
 * rank's, then the context group's. The sums of the batch's chunks wait as the ones of a binary
 * counter for their neighbours, and at the end of the step the data group's are added: ((0 + 1) +
 * (2 + 3)) + ..., whoever owns what. A chunk without clips counts as zero. Bucket by bucket, in the
 * order in which the backward completes them.
 */
#ifndef ZT_TRAIN_EXACT_GRADS_H
#define ZT_TRAIN_EXACT_GRADS_H

#include "core/model/dit.h"
#include "core/parallel/traffic.h"

typedef struct ExactGrads {
    const Dit *dit;      /* view */
    Arena arena;         /* owned */
    Tensor accumulators; /* (token chunks, local_elements): chunk 0 is what the model is bound to */
    Tensor sums;         /* (slots, local_elements): sums of chunks of the batch */
    int first, count;    /* this replica's chunks of the batch */
    int slots;
    struct ExactPiece *pieces; /* owned; runs of a bucket whose gradients come at one time */
    int piece_count;
} ExactGrads;

/* Which gradients have come: those of the backward proper, the products that a split backward
 * leaves for later (Param.product), or both. */
typedef enum ExactPart { EXACT_EARLY = 1, EXACT_LATE = 2, EXACT_ALL = 3 } ExactPart;

/* Bytes that it reserves on this rank. */
size_t exact_grads_bytes(const Dit *dit);
/* The Dit must not be bound yet: bind its gradients to exact_grads_flat. ERR_MEMORY. */
Status exact_grads_create(const Dit *dit, ExactGrads *out);
void exact_grads_destroy(ExactGrads *grads);
/* (local_elements): what the backward adds to. */
Tensor exact_grads_flat(const ExactGrads *grads);

/* A step begins: nothing is there. */
Status exact_grads_begin(ExactGrads *grads);
/* The last clip of a chunk of the batch has left this part of a bucket. Collective over the tensor
 * and context groups. */
Status exact_grads_chunk_done(ExactGrads *grads, int bucket, ExactPart part, int chunk);
/* The last chunk, if this rank has any, has left a bucket: out (local_elements), in the bucket's
 * range, = the whole gradient. Collective over the data group. */
Status exact_grads_finish(ExactGrads *grads, int bucket, Tensor out);

/* Adds what this rank sends in a step in which `chunks` of its chunks of the batch have clips: each
 * piece of a bucket all-reduced over context once a chunk, over data once. dit_join's is not in it.
 */
void exact_grads_traffic(const ExactGrads *grads, int chunks, Traffic *context, Traffic *data);

#endif
