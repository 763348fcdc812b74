/*
 * traffic: what a rank sends, by formulas that stand beside the code that sends.
 *
 * Bytes that leave this rank for others, if every pair talks directly: what an algorithm with more
 * or fewer hops moves in between is not in it. A call is one collective or one send.
 *
 *   all-reduce of n bytes       2 n (size - 1) / size      scatter the sums, gather them
 *   reduce-scatter of n         n - own part               each other rank's part of what is here
 *   all-gather                  own part (size - 1)
 *   all-to-all                  what is for others
 */
#ifndef ZT_CORE_PARALLEL_TRAFFIC_H
#define ZT_CORE_PARALLEL_TRAFFIC_H

#include "core/parallel/sequence.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Traffic {
    int64_t bytes; /* sent */
    int64_t calls;
} Traffic;

/* Nothing when the group has one rank. */
static inline void traffic_add(Traffic *t, int size, int64_t bytes)
{
    if (size == 1) return;
    t->bytes += bytes;
    t->calls++;
}

static inline void traffic_all_reduce(Traffic *t, int size, int64_t bytes)
{
    traffic_add(t, size, 2 * bytes * (size - 1) / size);
}

static inline void traffic_all_gather(Traffic *t, int size, int64_t own_bytes)
{
    traffic_add(t, size, own_bytes * (size - 1));
}

static inline void traffic_reduce_scatter(Traffic *t, int size, int64_t bytes, int64_t own_bytes)
{
    traffic_add(t, size, bytes - own_bytes);
}

/*
 * One self-attention over the context axis, forward or backward. With B samples, heads of e floats
 * a token on this tensor rank, u Ulysses ranks, n tokens of this rank and r of its ring part:
 *
 *   ulysses   forward 3 tensors to heads, 1 back; backward 1 and 3:
 *             to heads B n (e - e / u) each, back B (r - n) e / u each; one call a direction
 *   ring      at each of (size - 1) steps the block at hand, k and v, B r' e / u each in its own
 *             call; backward also, at each of size steps, dk and dv of it in one call
 *   exact     instead of the ring, for each sample: k and v gathered, twice with the backward,
 * which scatters the sums of dk and dv
 */
void sequence_traffic(const Sequence *seq, SequenceShape shape, bool backward, Traffic *ulysses,
                      Traffic *ring);

#ifdef __cplusplus
}
#endif
#endif
