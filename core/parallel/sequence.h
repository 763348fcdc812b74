/*
 * sequence: self-attention over a clip's tokens that are shared out to the ranks of a context axis.
 *
 * The context axis is ring x ulysses, neighbours in one Ulysses group. Ulysses exchanges heads for
 * tokens: each rank then has all tokens of its ring part, of some heads. The ring passes key/value
 * blocks around. Counts are exact, never rounded up: no padding token can enter a softmax, and some
 * ranks hold one token more.
 *
 * Fast numerics (chunks 0) merge partial results in the order in which blocks arrive. Exact
 * numerics give the same bits however the context axis is cut, one rank included: every query sees
 * all keys in one pass, and the gradients of keys and values are summed over `chunks` fixed ranges
 * of queries along one binary tree. All tensors are F32.
 */
#ifndef ZT_CORE_PARALLEL_SEQUENCE_H
#define ZT_CORE_PARALLEL_SEQUENCE_H

#include "core/base/arena.h"
#include "core/device.h"
#include "core/group.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Sequence {
    Group *ulysses, *ring; /* views; context rank = ring->rank * ulysses->size + ulysses->rank */
    int chunks;            /* exact: canonical ranges of a clip's tokens, a power of two; 0: fast */
} Sequence;

typedef struct SequenceShape {
    int64_t batch, tokens; /* of the whole clip, at least one for each context rank */
    int64_t heads;         /* of this tensor rank; ulysses->size divides them */
    int64_t head_dim;
} SequenceShape;

/* What the forward keeps for the backward, by heads: (batch, tokens of the ring part, heads /
 * ulysses->size, head_dim). With Ulysses of one nothing is copied: q, k, v and out are views of the
 * caller's tensors, which must stay as they are until the backward is over. */
typedef struct SequenceActs {
    Tensor q, k, v, out;
    Tensor lse; /* (batch, heads / ulysses->size, tokens of the ring part) */
} SequenceActs;

/* First token of part `part` of `parts`: floor(tokens part / parts). */
int64_t sequence_first(int64_t tokens, int parts, int part);
/* This context rank's tokens: [first, first + count). Not collective. */
void sequence_part(const Sequence *seq, int64_t tokens, int64_t *first, int64_t *count);

/* Takes a counting arena too. ERR_CONFIG: heads, tokens or chunks do not fit the context axis. */
Status sequence_acts_alloc(Arena *arena, const Sequence *seq, SequenceShape shape,
                           SequenceActs *acts);
/* Bytes of scratch that either direction needs. */
size_t sequence_scratch(const Device *dev, const Sequence *seq, SequenceShape shape);

/* out = softmax(scale q k^T) v over the whole clip; q, k, v, out (batch, count of sequence_part,
 * heads, head_dim). Collective over both groups, as is the backward. */
Status sequence_attention(const Device *dev, const Sequence *seq, SequenceShape shape, float scale,
                          Tensor out, Tensor q, Tensor k, Tensor v, SequenceActs *acts,
                          Arena *scratch);
/* dq, dk, dv = the gradients, shaped as dout; not views of one another. */
Status sequence_attention_backward(const Device *dev, const Sequence *seq, SequenceShape shape,
                                   float scale, Tensor dq, Tensor dk, Tensor dv, Tensor dout,
                                   const SequenceActs *acts, Arena *scratch);

/* Attention of a clip's queries, shared out over the ring (Ulysses of one), to keys that every rank
 * holds: text. dq = this rank's; dk, dv (1, keys, heads, head_dim) = the sums over all queries of
 * the clip, the same bits on every rank and every cut. Exact numerics, batch of one: q, out, dout,
 * dq (1, own tokens, heads, head_dim). Collective over the ring. */
Status sequence_cross_backward(const Device *dev, const Sequence *seq, SequenceShape shape,
                               float scale, Tensor dq, Tensor dk, Tensor dv, Tensor dout, Tensor k,
                               Tensor v, const SequenceActs *acts, Arena *scratch);
size_t sequence_cross_scratch(const Device *dev, const Sequence *seq, SequenceShape shape,
                              int64_t keys);

#ifdef __cplusplus
}
#endif
#endif
