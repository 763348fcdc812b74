#include "core/parallel/sequence_parts.h"
#include "core/parallel/traffic.h"

enum { FLOAT = sizeof(float) };

static void add_ulysses(const SequenceCall *call, bool backward, Traffic *t)
{
    const SequenceShape s = call->shape;
    const int size = call->seq->ulysses->size;
    const int64_t all = s.heads * s.head_dim, width = all / size;
    const int64_t mine = sequence_part(call->seq, s.tokens).count;
    const int64_t part = sequence_block(call, call->seq->ring->rank).dims[1];
    const int to_heads = backward ? 1 : 3, to_tokens = backward ? 3 : 1;
    traffic_add(t, size, FLOAT * to_heads * s.batch * mine * (all - width));
    traffic_add(t, size, FLOAT * to_tokens * s.batch * width * (part - mine));
}

static int64_t block_bytes(const SequenceCall *call, int part)
{
    return FLOAT * tensor_count(tensor_of(NULL, F32, sequence_block(call, part)));
}

static void add_ring(const SequenceCall *call, bool backward, Traffic *t)
{
    const Group *ring = call->seq->ring;
    for (int step = 0; step < ring->size; step++) {
        const int64_t bytes = block_bytes(call, (ring->rank - step + ring->size) % ring->size);
        for (int kv = 0; kv < 2 && step < ring->size - 1; kv++) traffic_add(t, ring->size, bytes);
        if (backward) traffic_add(t, ring->size, 2 * bytes);
    }
}

static void add_exact(const SequenceCall *call, bool backward, Traffic *t)
{
    const Group *ring = call->seq->ring;
    const int64_t batch = call->shape.batch, own = block_bytes(call, ring->rank) / batch;
    int64_t all = 0;
    for (int i = 0; i < ring->size; i++) all += block_bytes(call, i) / batch;
    for (int64_t i = 0; i < 2 * batch; i++) { /* k and v, or their gradients, of each sample */
        traffic_all_gather(t, ring->size, own);
        if (backward) traffic_reduce_scatter(t, ring->size, all, own);
    }
}

void sequence_traffic(const Sequence *seq, SequenceShape shape, bool backward, Traffic *ulysses,
                      Traffic *ring)
{
    const SequenceCall call = { .seq = seq, .shape = shape };
    add_ulysses(&call, backward, ulysses);
    if (seq->chunks > 0)
        add_exact(&call, backward, ring);
    else
        add_ring(&call, backward, ring);
}
