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
/* The name of the host that a rank runs on; a view. */
const char *comm_host(const Comm *comm, int rank);
/* Whether messages can move beside the computation: some of them take time on a wire, or the ranks,
 * with `threads` each, leave a core of this host free. Otherwise moving bytes is work that takes a
 * core from the computation. Not collective. */
bool comm_overlap_pays(const Comm *comm, int threads);
Group *comm_world(Comm *comm);

/* Seconds that a rank may wait in one call of a group for others before the job ends: the rank
 * waited for is named on every rank, with the call, and the exit code is ERR_COMM's. 0: for ever.
 */
enum { COMM_TIMEOUT_S = 600 };
/* Not collective, but the same on every rank. COMM_TIMEOUT_S until set. */
void comm_set_timeout(Comm *comm, double timeout_s);
/* Not collective, but the same on every rank and between the same calls: the ranks of a group
 * compare what they call before each collective (operation, number, count, type, call site), and
 * the first two that disagree are named on every rank instead of waiting or mixing bytes. Sends and
 * receives are not compared. Costs one small all-gather a collective. Off until set. */
void comm_set_check(Comm *comm, bool check);
/* What the watchdog says beside the call; not collective. */
void comm_set_step(Comm *comm, int64_t step);
/* Seconds that this thread (the one that called comm_start) has waited in calls of groups so far.
 */
double comm_waited_s(Comm *comm);

/* Collective over the world: an error anywhere is an error here, with the code and the message of
 * the lowest failing rank, prefixed "rank N: " when not every rank failed alike. */
#define comm_agree(comm, status) comm_agree_at(comm, status, GROUP_SITE)
Status comm_agree_at(Comm *comm, Status status, const char *site);
/* Collective. */
#define comm_barrier(comm) comm_barrier_at(comm, GROUP_SITE)
Status comm_barrier_at(Comm *comm, const char *site);

/* Bytes that a group of so many ranks keeps for its sums. */
size_t comm_group_bytes(int size);
/* Those of the world's group and the mesh's; a plan's groups will do. */
size_t comm_mesh_bytes(const MeshGroups *groups);
/* Collective. The groups live as long as the comm. */
Status comm_mesh(Comm *comm, MeshShape shape, MeshGroups *out);
/* Collective. The ranks that share the halves of guidance (mesh_guidance_seat). */
Status comm_guidance(Comm *comm, const Mesh *mesh, int halves, Group **out);

/*
 * The reducer sums gradient buckets over a group while the backward goes on, and gathers updated
 * weights while the update goes on: on a thread of its own or, where that would only take a core
 * from the computation (comm_overlap_pays), inside reducer_wait. Buckets are worked on in the order
 * they are submitted, the same on every rank of the group.
 */
typedef struct Reducer Reducer;

typedef enum ReducerWay { REDUCER_BESIDE, REDUCER_IN_WAIT } ReducerWay;

/* Not collective, but all ranks of `group` must make theirs before any submits. The group must have
 * a communicator of its own: pass MeshGroups.gradient and use it for nothing else while buckets are
 * under way. */
Status reducer_create(Group *group, ReducerWay way, Reducer **out);
void reducer_destroy(Reducer *reducer);
/* Those that submit return at once; the tensor must stay untouched until reducer_wait. Every rank
 * gets the whole sum. */
#define reducer_submit(reducer, bucket) reducer_submit_at(reducer, bucket, GROUP_SITE)
Status reducer_submit_at(Reducer *reducer, Tensor bucket, const char *site);
/* Rank i gets its part of the sum only, where it lies in the bucket: counts[i] elements (view, kept
 * until reducer_wait), one part after the other. The rest of the bucket is used up. */
#define reducer_submit_scatter(reducer, bucket, counts) \
    reducer_submit_scatter_at(reducer, bucket, counts, GROUP_SITE)
Status reducer_submit_scatter_at(Reducer *reducer, Tensor bucket, const int64_t *counts,
                                 const char *site);
/* Rank i's part of the bucket, counts[i] elements, goes to all ranks. */
#define reducer_submit_gather(reducer, bucket, counts) \
    reducer_submit_gather_at(reducer, bucket, counts, GROUP_SITE)
Status reducer_submit_gather_at(Reducer *reducer, Tensor bucket, const int64_t *counts,
                                const char *site);
/* Waits for all that was submitted; returns the first error. */
Status reducer_wait(Reducer *reducer);

#endif
