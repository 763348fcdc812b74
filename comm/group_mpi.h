/*
 * group_mpi: the operations of core/group.h over one MPI communicator. Inside comm/ only.
 *
 * MPI only moves bytes here; sums are ours, so that they are the same bits on every rank and with
 * every MPI library: MPI_Allreduce promises neither. Each element is the sum of the ranks' values
 * along one fixed binary tree, ((0 + 1) + (2 + 3)) + ..., whatever the size of the tensor.
 *
 * A group belongs to one thread at a time.
 */
#ifndef ZT_COMM_GROUP_MPI_H
#define ZT_COMM_GROUP_MPI_H

#include "comm/watchdog.h"
#include "core/group.h"

#include <mpi.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { CHECK_ROW_BYTES = 112 };

/* A piece of a message on its way. Pieces of one message are chained. */
typedef struct Sending {
    MPI_Request request;
    int to;
    struct Sending *next;
} Sending;

/* A piece of memory that an exchange reads or fills. */
typedef struct Span {
    char *data;
    int64_t bytes;
} Span;

typedef struct MpiGroup {
    Group group;
    MPI_Comm comm;
    const char *name;   /* view */
    Watchdog *watchdog; /* view */
    int calls;          /* index of this group in the watchdog's calls */
    atomic_bool background;
    char *scratch;         /* owned; (size) rows of what ranks sent to be summed here */
    char *shown;           /* owned; (size, CHECK_ROW_BYTES): the ranks' calls, with comm.check */
    int *counts, *offsets; /* owned; (size) bytes: each rank's slice of what is being reduced */
    int *mine, *rows;      /* owned; (size) bytes: this rank's slice, and its rows in scratch */
    Span *sent, *received; /* owned; (size): what an exchange moves to and from each rank */
    MPI_Request *requests; /* owned; (2 size) of an exchange */
    Sending *idle;         /* owned; pool, so that steps allocate nothing */
} MpiGroup;

/* The operations as such. Groups have group_watched_ops, which enter each with the watchdog. */
extern const GroupOps group_mpi_ops, group_watched_ops;

/* Not collective. Takes the communicator over, also on failure. A group of one keeps none. `name`
 * is what errors call it; it must outlive the group, as must the watchdog. ERR_MEMORY. */
Status group_mpi_create(MPI_Comm comm, const char *name, Watchdog *watchdog, MpiGroup **out);
/* Collective. */
void group_mpi_destroy(MpiGroup *mpi);

/* MPI's own words for a failed call: "MPI_Bcast over the data group (rank 1 of 4): ...". */
Status group_mpi_check(const MpiGroup *mpi, int code, const char *operation);

/* Waits for requests; in the background without taking a core from the computation. An MPI code. */
int group_mpi_wait_all(MpiGroup *mpi, MPI_Request *requests, int count);
/* Moves mpi->sent[i] to rank i, where it fills received[this rank]; `what` is what errors say. */
Status group_mpi_exchange(MpiGroup *mpi, const char *what);

/* A call of the group begins, and ends. With comm.check a collective of which the ranks call
 * different ones ends the job. */
void group_mpi_enter(MpiGroup *mpi, const Call *call);
void group_mpi_leave(MpiGroup *mpi);

/* The sums of GroupOps, and the scratch that they need. */
Status group_mpi_all_reduce(Group *group, Tensor t);
Status group_mpi_reduce_scatter_v(Group *group, Tensor out, Tensor in, const int64_t *counts);
size_t group_mpi_scratch_bytes(void);

/* In the background a collective sleeps between looks at its progress and leaves the core to the
 * computation. May be changed by another thread than the group's. Groups that are not over MPI
 * are left alone. */
void group_mpi_set_background(Group *group, bool background);
/* The main thread waits for, and goes on after, what another thread does in this group. */
void group_mpi_main_waits(Group *group);
void group_mpi_main_goes_on(Group *group);

#endif
