#include "comm/group_mpi.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* MPI counts in int: longer messages go in pieces of this many bytes. */
static const int64_t PIECE_BYTES = 64 << 20;
enum { MESSAGE_TAG = 1 };

Status group_mpi_check(const MpiGroup *mpi, int code, const char *operation)
{
    if (code == MPI_SUCCESS) return OK;
    char text[MPI_MAX_ERROR_STRING] = "unknown error";
    int length = 0;
    (void)MPI_Error_string(code, text, &length);
    return status_fail(ERR_COMM, "%s over the %s group (rank %d of %d): %s", operation, mpi->name,
                       mpi->group.rank, mpi->group.size, text);
}

/* The bytes of a message that starts at `first`'s next piece. */
static int piece_bytes(int64_t bytes, int64_t first)
{
    return (int)(bytes - first < PIECE_BYTES ? bytes - first : PIECE_BYTES);
}

static Status broadcast_bytes(MpiGroup *mpi, char *data, int64_t bytes, int root)
{
    for (int64_t first = 0; first < bytes; first += PIECE_BYTES) {
        const int code =
            MPI_Bcast(data + first, piece_bytes(bytes, first), MPI_BYTE, root, mpi->comm);
        TRY(group_mpi_check(mpi, code, "MPI_Bcast"));
    }
    return OK;
}

static Status mpi_broadcast(Group *group, Tensor t, int root)
{
    return broadcast_bytes(group->impl, t.data, (int64_t)tensor_bytes(t), root);
}

static Status mpi_all_gather(Group *group, Tensor out, Tensor in)
{
    MpiGroup *mpi = group->impl;
    const int64_t bytes = (int64_t)tensor_bytes(in);
    assert((int64_t)tensor_bytes(out) == bytes * group->size);
    char *own = (char *)out.data + bytes * group->rank;
    if (own != in.data) memcpy(own, in.data, (size_t)bytes);
    if (bytes * group->size <= PIECE_BYTES) {
        const int code =
            MPI_Allgather(MPI_IN_PLACE, 0, MPI_BYTE, out.data, (int)bytes, MPI_BYTE, mpi->comm);
        return group_mpi_check(mpi, code, "MPI_Allgather");
    }
    for (int i = 0; i < group->size; i++)
        TRY(broadcast_bytes(mpi, (char *)out.data + bytes * i, bytes, i));
    return OK;
}

static Status take_idle(MpiGroup *mpi, Sending **out)
{
    Sending *s = mpi->idle;
    if (s)
        mpi->idle = s->next;
    else
        s = malloc(sizeof *s);
    CHECK(s, ERR_MEMORY, "no memory for a message over the %s group", mpi->name);
    *s = (Sending){ .request = MPI_REQUEST_NULL };
    *out = s;
    return OK;
}

static void give_back(MpiGroup *mpi, Sending *piece)
{
    piece->next = mpi->idle;
    mpi->idle = piece;
}

/* An empty tensor sends one empty message, so that the receiver counts the same messages. */
static Status mpi_send(Group *group, Tensor t, int to, GroupRequest *request)
{
    MpiGroup *mpi = group->impl;
    const int64_t bytes = (int64_t)tensor_bytes(t);
    int64_t first = 0;
    assert(!request->handle); /* the last send of this request was never waited for */
    do {
        Sending *piece;
        TRY(take_idle(mpi, &piece));
        const int code = MPI_Isend((char *)t.data + first, piece_bytes(bytes, first), MPI_BYTE, to,
                                   MESSAGE_TAG, mpi->comm, &piece->request);
        if (code != MPI_SUCCESS) {
            give_back(mpi, piece);
            return group_mpi_check(mpi, code, "MPI_Isend");
        }
        piece->next = request->handle;
        request->handle = piece;
        first += PIECE_BYTES;
    } while (first < bytes);
    return OK;
}

static Status mpi_receive(Group *group, Tensor t, int from)
{
    MpiGroup *mpi = group->impl;
    const int64_t bytes = (int64_t)tensor_bytes(t);
    int64_t first = 0;
    do {
        MPI_Status status;
        int got = 0;
        const int expected = piece_bytes(bytes, first);
        const int code = MPI_Recv((char *)t.data + first, expected, MPI_BYTE, from, MESSAGE_TAG,
                                  mpi->comm, &status);
        TRY(group_mpi_check(mpi, code, "MPI_Recv"));
        (void)MPI_Get_count(&status, MPI_BYTE, &got);
        CHECK(got == expected, ERR_COMM,
              "received %d bytes from rank %d of the %s group, expected %d", got, from, mpi->name,
              expected);
        first += PIECE_BYTES;
    } while (first < bytes);
    return OK;
}

static Status mpi_wait(Group *group, GroupRequest *request)
{
    MpiGroup *mpi = group->impl;
    Sending *chain = request->handle;
    while (chain) {
        const int code = MPI_Wait(&chain->request, MPI_STATUS_IGNORE);
        TRY(group_mpi_check(mpi, code, "MPI_Wait of a send"));
        request->handle = chain->next;
        give_back(mpi, chain);
        chain = request->handle;
    }
    return OK;
}

static const GroupOps mpi_ops = {
    .all_reduce = group_mpi_all_reduce,
    .broadcast = mpi_broadcast,
    .all_gather = mpi_all_gather,
    .send = mpi_send,
    .receive = mpi_receive,
    .wait = mpi_wait,
};

/* ---- making and ending ---- */

Status group_mpi_create(MPI_Comm comm, const char *name, MpiGroup **out)
{
    int rank = 0, size = 1;
    (void)MPI_Comm_rank(comm, &rank);
    (void)MPI_Comm_size(comm, &size);
    MpiGroup *mpi = calloc(1, sizeof *mpi);
    char *scratch = size > 1 ? malloc(group_mpi_scratch_bytes()) : NULL;
    int *table = calloc(4 * (size_t)size, sizeof *table);
    if (!mpi || !table || (size > 1 && !scratch)) {
        free(mpi);
        free(scratch);
        free(table);
        (void)MPI_Comm_free(&comm);
        return status_fail(ERR_MEMORY, "no memory for the %s group of %d ranks", name, size);
    }
    *mpi = (MpiGroup){ .group = { .rank = rank, .size = size, .ops = &mpi_ops, .impl = mpi },
                       .comm = comm,
                       .name = name,
                       .scratch = scratch,
                       .counts = table,
                       .offsets = table + size,
                       .mine = table + 2 * size,
                       .rows = table + 3 * size };
    /* errors come back as codes, to be said in our words */
    (void)MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    (void)MPI_Comm_set_name(comm, name);
    if (size == 1) {
        (void)MPI_Comm_free(&mpi->comm);
        mpi->group = group_self();
    }
    *out = mpi;
    return OK;
}

void group_mpi_destroy(MpiGroup *mpi)
{
    if (!mpi) return;
    if (mpi->comm != MPI_COMM_NULL) (void)MPI_Comm_free(&mpi->comm);
    while (mpi->idle) {
        Sending *next = mpi->idle->next;
        free(mpi->idle);
        mpi->idle = next;
    }
    free(mpi->counts); /* the four tables are one block */
    free(mpi->scratch);
    free(mpi);
}

void group_mpi_set_background(Group *group, bool background)
{
    if (group->ops != &mpi_ops) return;
    MpiGroup *mpi = group->impl;
    atomic_store_explicit(&mpi->background, background, memory_order_relaxed);
}
