/*
 * dit_traffic: what a rank sends inside the model (core/parallel/traffic.h says how it is counted).
 *
 * With B samples, W the width, c tokens of the context rank, o of them own, k rows of text:
 *
 *   tensor     a block's forward: 3 gathers (what the sublayers read) and 3 scatters (what they
 *              return), of B samples each, and 2 all-reduces of sums of squares, B (2 c) and B (c +
 *              k) values. The backward: the same again. Recomputation adds 3 gathers (elementwise)
 *              or the forward (block). A gather sends o W a sample to each other rank, a scatter (c
 *              - o) W.
 *              Once a step: the gradients of parameters that are applied to own tokens, all-reduced
 *   sequence   the backward's all-reduces: 6 B W a block, B k W a virtual stage, 2 B W for the head
 *   ulysses,
 *   ring       a block's self-attention, forward, backward and recomputed
 *   exact      the text's gradient is whole at each block: instead of B k W a virtual stage it is
 *              all-reduced over tensor, B k W a block, and that of its keys and values over
 *   context    2 k W / tensor a block
 */
#ifndef ZT_CORE_MODEL_DIT_TRAFFIC_H
#define ZT_CORE_MODEL_DIT_TRAFFIC_H

#include "core/model/dit.h"
#include "core/parallel/traffic.h"

typedef struct DitTraffic {
    Traffic tensor, sequence, ulysses, ring, context;
} DitTraffic;

/* Adds the forward and the backward of one micro-batch on this stage. */
void dit_traffic(const Dit *dit, DitShape shape, DitTraffic *t);
/* Adds dit_join of all gradients. */
void dit_join_traffic(const Dit *dit, DitTraffic *t);

#endif
