/*
 * replicas: ranks that hold the same weights, compared bit for bit.
 *
 * Memory and processors are wrong now and then and say nothing. The ranks of a gradient group (data
 * x context) hold the same weights, as updates are the same bits on all of them or gathered; those
 * of other tensor ranks and stages hold other parts. So each rank hashes what it holds, one small
 * all-gather shows everybody all hashes, and every rank comes to the same verdict: where most of a
 * group agree, the others are named; where not, all whose bits have no majority.
 *
 * Compared are the weights and, where they are not sharded (parallel.zero 0), moments and average.
 * A fault that reaches all replicas alike cannot be seen so: a sum that was wrong before it was
 * spread, a shard's moments. A group of one has nothing to compare.
 */
#ifndef ZT_TRAIN_REPLICAS_H
#define ZT_TRAIN_REPLICAS_H

#include "comm/comm.h"
#include "train/optimizer.h"

/* What is compared, and what errors call it. */
enum { REPLICA_WEIGHTS, REPLICA_EXP_AVG, REPLICA_EXP_AVG_SQ, REPLICA_EMA, REPLICA_PARTS };

typedef struct Replicas {
    Comm *comm;                 /* view */
    const Optimizer *optimizer; /* view */
    int64_t *hashes;            /* owned; (ranks, REPLICA_PARTS) */
    int *odd;                   /* owned; (ranks) */
} Replicas;

/* Not collective: agree afterwards. ERR_MEMORY. */
Status replicas_create(Comm *comm, const Optimizer *optimizer, Replicas *out);
void replicas_destroy(Replicas *replicas);

/* After `step` updates. Collective over the world; the same answer everywhere: ERR_DEVICE names the
 * ranks whose bits differ, with their hosts, and each rank but the first has logged it (the first
 * speaks for the job at its end). Costs one pass over what is compared. */
Status replicas_check(const Replicas *replicas, int64_t step);

typedef struct ReplicaVerdict {
    int part;      /* REPLICA_WEIGHTS ...: the first that differs */
    int count;     /* of the ranks in `odd`; 0: all replicas agree */
    bool majority; /* the rest of their groups agrees; else no bits have more than half */
} ReplicaVerdict;

/* hashes (mesh_ranks(shape), REPLICA_PARTS); odd (as many) gets the ranks that are to be named, in
 * ascending order. Where some group has a majority only ranks of such groups are. Not collective.
 */
ReplicaVerdict replicas_judge(MeshShape shape, const int64_t *hashes, int *odd);

/* "rank 3 (node7), rank 5 (node8) and 2 more" into out. */
void ranks_describe(const Comm *comm, const int *ranks, int count, char *out, size_t size);

#endif
