/*
 * group_threads: a mesh of ranks that are threads of one process, for tests.
 *
 * Stricter than a network on purpose: a send stays under way, reading the sender's buffer, until
 * the receiver takes it, so writing that buffer too early is seen as wrong numbers. A receive whose
 * size or type is not the sender's is an error. When one rank fails, calls of the others fail too
 * instead of waiting for ever. Sums have the bits of sums over MPI.
 */
#ifndef ZT_TESTS_SUPPORT_GROUP_THREADS_H
#define ZT_TESTS_SUPPORT_GROUP_THREADS_H

#include "comm/comm.h"

/* What one rank does. No cmocka assertions inside: they belong to the main thread. */
typedef Status (*ThreadBody)(int rank, const MeshGroups *groups, void *argument);

/* Runs body(rank, ...) on every rank of the mesh, each a thread; returns when all have ended. The
 * result is that of the first rank to fail, its message prefixed "rank N: ". For one plain group
 * of n ranks: shape { .data = n, .tensor = 1, .pipeline = 1, .context = 1 } and groups->data. */
Status threads_run(MeshShape shape, ThreadBody body, void *argument);

#endif
