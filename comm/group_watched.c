/*
 * group_watched: the operations of a group over MPI, each entered with the watchdog before and left
 * after. What ranks must agree on is in the Call: comm.check compares it.
 */
#include "comm/group_mpi.h"

#include "comm/check.h"

/* Ranks must cut a tensor alike. */
static int64_t hash_parts(const int64_t *counts, int size)
{
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < size; i++) h = (h ^ (uint64_t)counts[i]) * 1099511628211u;
    return (int64_t)h;
}

static Call collective(Tensor t)
{
    return (Call){ .dtype = t.dtype, .count = tensor_count(t), .peer = -1 };
}

static MpiGroup *enter(Group *group, CallKind kind, Call call)
{
    MpiGroup *mpi = group->impl;
    call.kind = kind;
    call.site = group->site;
    group_mpi_enter(mpi, &call);
    return mpi;
}

static Status leave(MpiGroup *mpi, Status status)
{
    group_mpi_leave(mpi);
    return status;
}

static Status all_reduce(Group *group, Tensor t)
{
    MpiGroup *mpi = enter(group, CALL_ALL_REDUCE, collective(t));
    return leave(mpi, group_mpi_ops.all_reduce(group, t));
}

static Status broadcast(Group *group, Tensor t, int root)
{
    Call call = collective(t);
    call.detail = root;
    MpiGroup *mpi = enter(group, CALL_BROADCAST, call);
    return leave(mpi, group_mpi_ops.broadcast(group, t, root));
}

static Status all_gather(Group *group, Tensor out, Tensor in)
{
    MpiGroup *mpi = enter(group, CALL_ALL_GATHER, collective(out));
    return leave(mpi, group_mpi_ops.all_gather(group, out, in));
}

static Status all_gather_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    Call call = collective(out);
    call.detail = hash_parts(counts, group->size);
    MpiGroup *mpi = enter(group, CALL_ALL_GATHER_V, call);
    return leave(mpi, group_mpi_ops.all_gather_v(group, out, in, counts));
}

static Status reduce_scatter_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    Call call = collective(in);
    call.detail = hash_parts(counts, group->size);
    MpiGroup *mpi = enter(group, CALL_REDUCE_SCATTER_V, call);
    return leave(mpi, group_mpi_ops.reduce_scatter_v(group, out, in, counts));
}

static Status all_to_all_v(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                           const int64_t *in_counts)
{
    /* what a rank has in all is its own affair */
    const Call call = { .dtype = in.dtype, .peer = -1 };
    MpiGroup *mpi = enter(group, CALL_ALL_TO_ALL_V, call);
    return leave(mpi, group_mpi_ops.all_to_all_v(group, out, out_counts, in, in_counts));
}

/* A send returns at once: nobody waits in it. */
static Status send(Group *group, Tensor t, int to, GroupRequest *request)
{
    return group_mpi_ops.send(group, t, to, request);
}

static Status receive(Group *group, Tensor t, int from)
{
    const Call call = { .dtype = t.dtype, .count = tensor_count(t), .peer = from };
    MpiGroup *mpi = enter(group, CALL_RECEIVE, call);
    return leave(mpi, group_mpi_ops.receive(group, t, from));
}

static Status wait_for_send(Group *group, GroupRequest *request)
{
    const Sending *first = request->handle;
    const Call call = { .peer = first->to };
    MpiGroup *mpi = enter(group, CALL_WAIT, call);
    return leave(mpi, group_mpi_ops.wait(group, request));
}

const GroupOps group_watched_ops = {
    .all_reduce = all_reduce,
    .broadcast = broadcast,
    .all_gather = all_gather,
    .all_gather_v = all_gather_v,
    .reduce_scatter_v = reduce_scatter_v,
    .all_to_all_v = all_to_all_v,
    .send = send,
    .receive = receive,
    .wait = wait_for_send,
};

void group_mpi_enter(MpiGroup *mpi, const Call *call)
{
    const int64_t number = calls_enter(watchdog_calls(mpi->watchdog), mpi->calls, call);
    if (call->peer < 0 && watchdog_checks(mpi->watchdog)) check_call(mpi, call, number);
}

void group_mpi_leave(MpiGroup *mpi)
{
    calls_leave(watchdog_calls(mpi->watchdog), mpi->calls);
}
