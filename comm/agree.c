/* agree: what one rank may fail alone becomes the same answer on every rank. */
#include "comm/comm_internal.h"

#include "core/base/rng.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What the ranks compare. Each field is the smallest of all ranks'. */
enum { FIRST_RANK, SMALLEST_HASH, LARGEST_HASH, FIELDS };

/* The failure of the lowest failing rank, as it is broadcast. */
typedef struct Failure {
    int32_t code;
    char message[1020];
} Failure;

/* Equal for the same code and message; 0 for OK. */
static int64_t hash_of(Status status)
{
    if (status == OK) return 0;
    return (int64_t)((rng_name_id(status_message()) ^ (uint64_t)status) >> 2) + 1;
}

static Status agree(Comm *comm, const MpiGroup *world, Status status)
{
    const MPI_Comm handle = world->comm;

    /* all is well nearly always: then this is all that is said */
    const int64_t hash = hash_of(status);
    int64_t fields[FIELDS] = { status == OK ? INT64_MAX : comm->rank, hash, -hash };
    int code = MPI_Allreduce(MPI_IN_PLACE, fields, FIELDS, MPI_INT64_T, MPI_MIN, handle);
    TRY(group_mpi_check(world, code, "MPI_Allreduce"));
    if (fields[FIRST_RANK] == INT64_MAX) return OK;

    const int first = (int)fields[FIRST_RANK];
    Failure failure = { 0 };
    if (comm->rank == first) {
        failure.code = (int32_t)status;
        (void)snprintf(failure.message, sizeof failure.message, "%s", status_message());
    }
    code = MPI_Bcast(&failure, sizeof failure, MPI_BYTE, first, handle);
    TRY(group_mpi_check(world, code, "MPI_Bcast"));
    const bool alike = fields[SMALLEST_HASH] == -fields[LARGEST_HASH];
    if (alike) return status_fail((Status)failure.code, "%s", failure.message);
    return status_fail((Status)failure.code, "rank %d: %s", first, failure.message);
}

Status comm_agree_at(Comm *comm, Status status, const char *site)
{
    if (comm->size == 1) return status;
    MpiGroup *world = comm->groups[0];
    const Call call = { .kind = CALL_AGREE, .peer = -1, .site = site };
    group_mpi_enter(world, &call);
    const Status agreed = agree(comm, world, status);
    group_mpi_leave(world);
    return agreed;
}
