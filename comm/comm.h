/*
 * comm: the job's ranks. Owns MPI; nothing else includes <mpi.h>.
 *
 * comm_start is the first thing a distributed command does and comm_finish the last. Groups of the
 * mesh are views of one Comm. What one rank can fail alone is followed by comm_agree, after which
 * every rank holds the same answer; what cannot be recovered ends in comm_abort.
 */
#ifndef ZT_COMM_COMM_H
#define ZT_COMM_COMM_H

#include "core/base/status.h"
#include "core/group.h"
#include "core/parallel/groups.h"
#include "core/parallel/groups.h"

#include <stdbool.h>

typedef struct Comm Comm;

/* Collective. Starts MPI (threads multiple) or, when not launched by mpirun or srun, a world of
 * one without starting MPI at all. Refuses "srun launched N singletons" with the fix. Tells log
 * the rank. */
Status comm_start(Comm **out);
/* Collective. Tell a failure first (log_failure): once ranks leave with a code, the launcher ends
 * those that have not left. */
void comm_finish(Comm *comm);
/* Not collective: ends the whole job with this status' exit code, after logging its message. */
void comm_abort(Comm *comm, Status status) __attribute__((noreturn));

int comm_rank(const Comm *comm);
int comm_size(const Comm *comm);
int comm_local_rank(const Comm *comm); /* among the ranks of this host */
int comm_local_size(const Comm *comm);
Group *comm_world(Comm *comm);

/* Collective over the world: an error anywhere is an error here, with the code and the message of
 * the lowest failing rank, prefixed "rank N: " when not every rank failed alike. */
Status comm_agree(Comm *comm, Status status);
/* Collective. */
Status comm_barrier(Comm *comm);

/* Bytes that a group of so many ranks keeps for its sums. */
size_t comm_group_bytes(int size);
/* Collective. The groups live as long as the comm. */
Status comm_mesh(Comm *comm, MeshShape shape, MeshGroups *out);

/*
 * The reducer: a thread that sums gradient buckets over a group while the backward goes on, and
 * gathers updated weights while the update goes on. Buckets are worked on in the order they are
 * submitted, the same on every rank of the group.
 */
typedef struct Reducer Reducer;

/* Collective over `group`. The group must have a communicator of its own: pass MeshGroups.gradient
 * and use it for nothing else while buckets are under way. */
Status reducer_create(Group *group, Reducer **out);
void reducer_destroy(Reducer *reducer);
/* Those that submit return at once; the tensor must stay untouched until reducer_wait. Every rank
 * gets the whole sum. */
Status reducer_submit(Reducer *reducer, Tensor bucket);
/* Rank i gets its part of the sum only, where it lies in the bucket: counts[i] elements (view, kept
 * until reducer_wait), one part after the other. The rest of the bucket is used up. */
Status reducer_submit_scatter(Reducer *reducer, Tensor bucket, const int64_t *counts);
/* Rank i's part of the bucket, counts[i] elements, goes to all ranks. */
Status reducer_submit_gather(Reducer *reducer, Tensor bucket, const int64_t *counts);
/* Waits for all that was submitted; returns the first error. */
Status reducer_wait(Reducer *reducer);

#endif
