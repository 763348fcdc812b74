/*
 * sequence_parts: the pieces that sequence.c puts together: the Ulysses exchange, and attention
 * over the ring in fast and in exact numerics.
 *
 * "By tokens": (batch, this rank's tokens, heads, head_dim). "By heads": (batch, tokens of the ring
 * part, heads / ulysses, head_dim). Each piece has a _count that cuts from a counting arena what
 * the piece cuts from its scratch. Collective as the names say.
 */
#ifndef ZT_CORE_PARALLEL_SEQUENCE_PARTS_H
#define ZT_CORE_PARALLEL_SEQUENCE_PARTS_H

#include "core/ops.h"
#include "core/parallel/sequence.h"

typedef struct SequenceCall {
    const Device *dev;
    const Sequence *seq;
    SequenceShape shape;
    float scale;
} SequenceCall;

/* Of ring part `part`: its keys, values, queries by heads. */
static inline Shape sequence_block(const SequenceCall *call, int part)
{
    const SequenceShape s = call->shape;
    return SHAPE(s.batch, token_part(s.tokens, call->seq->ring->size, part).count,
                 s.heads / call->seq->ulysses->size, s.head_dim);
}

static inline AttentionOptions sequence_options(const SequenceCall *call)
{
    return (AttentionOptions){ .scale = call->scale,
                               .rel_bias = tensor_none(),
                               .key_lengths = tensor_none() };
}

/* `count` tensors in one all-to-all over the Ulysses group. */
Status sequence_to_heads(const SequenceCall *call, int count, const Tensor *by_heads,
                         const Tensor *by_tokens, Arena *scratch);
Status sequence_to_tokens(const SequenceCall *call, int count, const Tensor *by_tokens,
                          const Tensor *by_heads, Arena *scratch);
Status sequence_exchange_count(const SequenceCall *call, int count, Arena *arena);

/* Fast: fills acts' out and lse from its q, k, v; blocks travel around the ring group. */
Status sequence_ring(const SequenceCall *call, const SequenceActs *acts, Arena *scratch);
Status sequence_ring_backward(const SequenceCall *call, Tensor dq, Tensor dk, Tensor dv,
                              Tensor dout, const SequenceActs *acts, Arena *scratch);
Status sequence_ring_count(const SequenceCall *call, Arena *arena);
Status sequence_ring_backward_count(const SequenceCall *call, Arena *arena);

/* Exact: the same, keys and values gathered over the ring group. */
Status sequence_exact(const SequenceCall *call, const SequenceActs *acts, Arena *scratch);
Status sequence_exact_backward(const SequenceCall *call, Tensor dq, Tensor dk, Tensor dv,
                               Tensor dout, const SequenceActs *acts, Arena *scratch);
Status sequence_exact_count(const SequenceCall *call, Arena *arena);
Status sequence_exact_backward_count(const SequenceCall *call, Arena *arena);

#endif
