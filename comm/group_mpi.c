#include "comm/group_mpi.h"

#include "comm/comm.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* MPI counts in int: longer messages go in pieces of this many bytes. */
static const int64_t PIECE_BYTES = 64 << 20;
enum { MESSAGE_TAG = 1, EXCHANGE_TAG = 2 };

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

/* ---- exchanges: every rank with every other, any sizes ---- */

int group_mpi_wait_all(MpiGroup *mpi, MPI_Request *requests, int count)
{
    const struct timespec nap = { .tv_nsec = 50000 };
    for (;;) {
        int done = 0;
        if (!atomic_load_explicit(&mpi->background, memory_order_relaxed))
            return MPI_Waitall(count, requests, MPI_STATUSES_IGNORE);
        const int code = MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE);
        if (code != MPI_SUCCESS || done) return code;
        (void)nanosleep(&nap, NULL);
    }
}

/* One round moves at most PIECE_BYTES a pair; both sides count the same rounds of a pair. */
static int start_round(MpiGroup *mpi, int64_t first, int *started)
{
    const int size = mpi->group.size, rank = mpi->group.rank;
    *started = 0;
    /* each rank begins with its neighbour: no rank is everybody's first */
    for (int k = 1; k < size; k++) {
        const int from = (rank + size - k) % size;
        const Span in = mpi->received[from];
        if (first >= in.bytes) continue;
        const int code = MPI_Irecv(in.data + first, piece_bytes(in.bytes, first), MPI_BYTE, from,
                                   EXCHANGE_TAG, mpi->comm, &mpi->requests[(*started)++]);
        if (code != MPI_SUCCESS) return code;
    }
    for (int k = 1; k < size; k++) {
        const int to = (rank + k) % size;
        const Span out = mpi->sent[to];
        if (first >= out.bytes) continue;
        const int code = MPI_Isend(out.data + first, piece_bytes(out.bytes, first), MPI_BYTE, to,
                                   EXCHANGE_TAG, mpi->comm, &mpi->requests[(*started)++]);
        if (code != MPI_SUCCESS) return code;
    }
    return MPI_SUCCESS;
}

Status group_mpi_exchange(MpiGroup *mpi, const char *what)
{
    const Span own = mpi->sent[mpi->group.rank], kept = mpi->received[mpi->group.rank];
    int64_t longest = 0;
    assert(own.bytes == kept.bytes);
    if (own.data != kept.data && own.bytes > 0) memcpy(kept.data, own.data, (size_t)own.bytes);
    for (int i = 0; i < mpi->group.size; i++) {
        if (mpi->sent[i].bytes > longest) longest = mpi->sent[i].bytes;
        if (mpi->received[i].bytes > longest) longest = mpi->received[i].bytes;
    }
    for (int64_t first = 0; first < longest; first += PIECE_BYTES) {
        int started = 0;
        int code = start_round(mpi, first, &started);
        if (code == MPI_SUCCESS) code = group_mpi_wait_all(mpi, mpi->requests, started);
        TRY(group_mpi_check(mpi, code, what));
    }
    return OK;
}

static Status mpi_all_gather_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    MpiGroup *mpi = group->impl;
    const int64_t element = (int64_t)dtype_bytes(in.dtype);
    char *at = out.data;
    for (int i = 0; i < group->size; i++) {
        mpi->sent[i] = (Span){ in.data, counts[group->rank] * element };
        mpi->received[i] = (Span){ at, counts[i] * element };
        at += counts[i] * element;
    }
    return group_mpi_exchange(mpi, "all-gather");
}

static Status mpi_all_to_all_v(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                               const int64_t *in_counts)
{
    MpiGroup *mpi = group->impl;
    const int64_t element = (int64_t)dtype_bytes(in.dtype);
    char *to = in.data, *from = out.data;
    for (int i = 0; i < group->size; i++) {
        mpi->sent[i] = (Span){ to, in_counts[i] * element };
        mpi->received[i] = (Span){ from, out_counts[i] * element };
        to += in_counts[i] * element;
        from += out_counts[i] * element;
    }
    return group_mpi_exchange(mpi, "all-to-all");
}

/* ---- messages ---- */

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
        piece->to = to;
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

const GroupOps group_mpi_ops = {
    .all_reduce = group_mpi_all_reduce,
    .broadcast = mpi_broadcast,
    .all_gather = mpi_all_gather,
    .all_gather_v = mpi_all_gather_v,
    .reduce_scatter_v = group_mpi_reduce_scatter_v,
    .all_to_all_v = mpi_all_to_all_v,
    .send = mpi_send,
    .receive = mpi_receive,
    .wait = mpi_wait,
};

/* ---- making and ending ---- */

/* The ranks of the world that a communicator holds. */
static void name_members(MPI_Comm comm, int size, int *members)
{
    MPI_Group own, world;
    (void)MPI_Comm_group(comm, &own);
    (void)MPI_Comm_group(MPI_COMM_WORLD, &world);
    for (int i = 0; i < size; i++) (void)MPI_Group_translate_ranks(own, 1, &i, world, &members[i]);
    (void)MPI_Group_free(&own);
    (void)MPI_Group_free(&world);
}

Status group_mpi_create(MPI_Comm comm, const char *name, Watchdog *watchdog, MpiGroup **out)
{
    int rank = 0, size = 1;
    (void)MPI_Comm_rank(comm, &rank);
    (void)MPI_Comm_size(comm, &size);
    MpiGroup *mpi = calloc(1, sizeof *mpi);
    char *scratch = size > 1 ? malloc(comm_group_bytes(size)) : NULL;
    int *table = calloc(4 * (size_t)size, sizeof *table);
    int *members = calloc((size_t)size, sizeof *members);
    char *shown = calloc((size_t)size, CHECK_ROW_BYTES);
    Span *spans = calloc(2 * (size_t)size, sizeof *spans);
    MPI_Request *requests = calloc(2 * (size_t)size, sizeof(MPI_Request));
    if (!mpi || !table || !members || !shown || !spans || !requests || (size > 1 && !scratch)) {
        free(mpi);
        free(spans);
        free(requests);
        free(scratch);
        free(table);
        free(members);
        free(shown);
        (void)MPI_Comm_free(&comm);
        return status_fail(ERR_MEMORY, "no memory for the %s group of %d ranks", name, size);
    }
    *mpi =
        (MpiGroup){ .group = { .rank = rank, .size = size, .ops = &group_watched_ops, .impl = mpi },
                    .comm = comm,
                    .name = name,
                    .watchdog = watchdog,
                    .scratch = scratch,
                    .shown = shown,
                    .counts = table,
                    .offsets = table + size,
                    .mine = table + 2 * size,
                    .rows = table + 3 * size,
                    .sent = spans,
                    .received = spans + size,
                    .requests = requests };
    /* errors come back as codes, to be said in our words */
    (void)MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    (void)MPI_Comm_set_name(comm, name);
    name_members(comm, size, members);
    mpi->calls = calls_add_group(watchdog_calls(watchdog), name, size, members);
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
    free(mpi->counts); /* the four tables are one block, as are the spans */
    free(mpi->sent);
    free(mpi->requests);
    free(mpi->scratch);
    free(mpi->shown);
    free(mpi);
}

void group_mpi_set_background(Group *group, bool background)
{
    if (group->ops != &group_watched_ops) return;
    MpiGroup *mpi = group->impl;
    atomic_store_explicit(&mpi->background, background, memory_order_relaxed);
}

void group_mpi_main_waits(Group *group)
{
    if (group->ops != &group_watched_ops) return;
    calls_main_waits(watchdog_calls(((MpiGroup *)group->impl)->watchdog));
}

void group_mpi_main_goes_on(Group *group)
{
    if (group->ops != &group_watched_ops) return;
    calls_main_goes_on(watchdog_calls(((MpiGroup *)group->impl)->watchdog));
}
