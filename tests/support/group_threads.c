#include "tests/support/group_threads.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One lock and one signal for the whole mesh: plain, and fast enough for eight threads. */
typedef struct World {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool broken; /* a rank has failed: nobody waits any more */
} World;

/* A send that its sender has not waited for yet. */
typedef struct Letter {
    Tensor tensor; /* view of the sender's buffer */
    int from, to;
    bool taken;
    struct Letter *next;
} Letter;

/* What the ranks of one group share. */
typedef struct Meeting {
    World *world;
    int size, arrived;
    int64_t turn;    /* how often everybody has arrived */
    Tensor *tensors; /* owned; (size): what each rank brought to this collective */
    Letter *letters; /* not yet waited for, in order of sending */
} Meeting;

static Status broken(void)
{
    return status_fail(ERR_COMM, "another rank failed");
}

/* Waits for every rank of the group. The lock is held. */
static Status meet(Meeting *m)
{
    const int64_t turn = m->turn;
    if (++m->arrived == m->size) {
        m->arrived = 0;
        m->turn++;
        (void)pthread_cond_broadcast(&m->world->changed);
    }
    while (m->turn == turn && !m->world->broken)
        (void)pthread_cond_wait(&m->world->changed, &m->world->lock);
    return m->turn == turn ? broken() : OK;
}

static bool same_layout(Tensor a, Tensor b)
{
    return a.dtype == b.dtype && tensor_count(a) == tensor_count(b);
}

/* Brings a tensor, waits for all; the ranks must have brought the same sizes and types. */
static Status bring(Group *group, Tensor t)
{
    Meeting *m = group->impl;
    m->tensors[group->rank] = t;
    TRY(meet(m));
    for (int i = 0; i < m->size; i++)
        CHECK(same_layout(m->tensors[i], t), ERR_COMM, "ranks brought different tensors");
    return OK;
}

// clang-format off
static void add_into(Tensor sum, Tensor t)
{
    const int64_t n = tensor_count(sum);
    switch (sum.dtype) {
    case F32: for (int64_t i = 0; i < n; i++) ((float *)sum.data)[i] += ((const float *)t.data)[i]; break;
    case F64: for (int64_t i = 0; i < n; i++) ((double *)sum.data)[i] += ((const double *)t.data)[i]; break;
    case I64: for (int64_t i = 0; i < n; i++) ((int64_t *)sum.data)[i] += ((const int64_t *)t.data)[i]; break;
    case I32: for (int64_t i = 0; i < n; i++) ((int32_t *)sum.data)[i] += ((const int32_t *)t.data)[i]; break;
    default:  for (int64_t i = 0; i < n; i++) ((uint8_t *)sum.data)[i] = (uint8_t)(((uint8_t *)sum.data)[i] + ((const uint8_t *)t.data)[i]); break;
    }
}
// clang-format on

/* The first rank sums along the tree that comm/ uses, ((0 + 1) + (2 + 3)) + ...; the others copy.
 */
static Status all_reduce_locked(Group *group, Tensor t)
{
    Meeting *m = group->impl;
    TRY(bring(group, t));
    for (int stride = 1; group->rank == 0 && stride < m->size; stride *= 2)
        for (int i = 0; i + stride < m->size; i += 2 * stride)
            add_into(m->tensors[i], m->tensors[i + stride]);
    TRY(meet(m));
    if (group->rank > 0) memcpy(t.data, m->tensors[0].data, tensor_bytes(t));
    return meet(m);
}

static Status broadcast_locked(Group *group, Tensor t, int root)
{
    Meeting *m = group->impl;
    TRY(bring(group, t));
    if (group->rank != root) memcpy(t.data, m->tensors[root].data, tensor_bytes(t));
    return meet(m);
}

static Status all_gather_locked(Group *group, Tensor out, Tensor in)
{
    Meeting *m = group->impl;
    TRY(bring(group, in));
    const size_t bytes = tensor_bytes(in);
    CHECK(tensor_bytes(out) == bytes * (size_t)m->size, ERR_COMM, "all-gather into a wrong size");
    for (int i = 0; i < m->size; i++)
        memcpy((char *)out.data + (size_t)i * bytes, m->tensors[i].data, bytes);
    return meet(m);
}

/* Sizes may differ, types not. */
static Status bring_any(Group *group, Tensor t)
{
    Meeting *m = group->impl;
    m->tensors[group->rank] = t;
    TRY(meet(m));
    for (int i = 0; i < m->size; i++)
        CHECK(m->tensors[i].dtype == t.dtype, ERR_COMM, "ranks brought different types");
    return OK;
}

static Status all_gather_v_locked(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    Meeting *m = group->impl;
    char *at = out.data;
    TRY(bring_any(group, in));
    for (int i = 0; i < m->size; i++) {
        CHECK(tensor_count(m->tensors[i]) == counts[i], ERR_COMM,
              "rank %d brought another count than told", i);
        const size_t bytes = tensor_bytes(m->tensors[i]);
        if (at != m->tensors[i].data) memcpy(at, m->tensors[i].data, bytes);
        at += bytes;
    }
    CHECK(at == (char *)out.data + tensor_bytes(out), ERR_COMM, "all-gather into a wrong size");
    return meet(m);
}

static Status reduce_scatter_v_locked(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    Meeting *m = group->impl;
    int64_t first = 0;
    TRY(bring(group, in));
    for (int stride = 1; group->rank == 0 && stride < m->size; stride *= 2)
        for (int i = 0; i + stride < m->size; i += 2 * stride)
            add_into(m->tensors[i], m->tensors[i + stride]);
    TRY(meet(m));
    for (int i = 0; i < group->rank; i++) first += counts[i];
    CHECK(tensor_count(out) == counts[group->rank], ERR_COMM, "reduce-scatter into a wrong size");
    memcpy(out.data, (char *)m->tensors[0].data + (size_t)first * dtype_bytes(in.dtype),
           tensor_bytes(out));
    return meet(m);
}

/* Ranks bring their counts before the data itself: the taker finds its part behind those of others.
 */
static Status all_to_all_v_locked(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                                  const int64_t *in_counts)
{
    Meeting *m = group->impl;
    const size_t element = dtype_bytes(in.dtype);
    char *at = out.data;
    const int64_t *counts[64];
    TRY(bring_any(group, tensor_of((void *)(uintptr_t)in_counts, I64, SHAPE(m->size))));
    for (int i = 0; i < m->size; i++) counts[i] = m->tensors[i].data;
    TRY(meet(m));
    TRY(bring_any(group, in));
    for (int i = 0; i < m->size; i++) {
        int64_t first = 0;
        for (int k = 0; k < group->rank; k++) first += counts[i][k];
        CHECK(counts[i][group->rank] == out_counts[i], ERR_COMM,
              "rank %d sends another count than told", i);
        memcpy(at, (char *)m->tensors[i].data + (size_t)first * element,
               (size_t)out_counts[i] * element);
        at += (size_t)out_counts[i] * element;
    }
    return meet(m);
}

static Status send_locked(Group *group, Tensor t, int to, GroupRequest *request)
{
    Meeting *m = group->impl;
    CHECK(!request->handle, ERR_COMM, "this request's last send was never waited for");
    Letter *letter = malloc(sizeof *letter);
    CHECK(letter, ERR_MEMORY, "no memory for a message");
    *letter = (Letter){ .tensor = t, .from = group->rank, .to = to };
    Letter **end = &m->letters;
    while (*end) end = &(*end)->next;
    *end = letter;
    request->handle = letter;
    (void)pthread_cond_broadcast(&m->world->changed);
    return OK;
}

static Letter *find_letter(Meeting *m, int from, int to)
{
    Letter *at = m->letters;
    while (at && (at->taken || at->from != from || at->to != to)) at = at->next;
    return at;
}

static Status receive_locked(Group *group, Tensor t, int from)
{
    Meeting *m = group->impl;
    Letter *letter;
    while (!(letter = find_letter(m, from, group->rank))) {
        if (m->world->broken) return broken();
        (void)pthread_cond_wait(&m->world->changed, &m->world->lock);
    }
    CHECK(same_layout(letter->tensor, t), ERR_COMM, "received %lld values of %s, expected %lld",
          (long long)tensor_count(letter->tensor), dtype_name(letter->tensor.dtype),
          (long long)tensor_count(t));
    memcpy(t.data, letter->tensor.data, tensor_bytes(t));
    letter->taken = true;
    (void)pthread_cond_broadcast(&m->world->changed);
    return OK;
}

static Status wait_locked(Group *group, GroupRequest *request)
{
    Meeting *m = group->impl;
    Letter *letter = request->handle;
    while (!letter->taken) {
        if (m->world->broken) return broken();
        (void)pthread_cond_wait(&m->world->changed, &m->world->lock);
    }
    Letter **at = &m->letters;
    while (*at != letter) at = &(*at)->next;
    *at = letter->next;
    free(letter);
    request->handle = NULL;
    return OK;
}

/* Every operation runs under the world's lock and gives it up only while it waits. */
static void lock(Group *group)
{
    (void)pthread_mutex_lock(&((Meeting *)group->impl)->world->lock);
}

static Status unlock(Group *group, Status status)
{
    (void)pthread_mutex_unlock(&((Meeting *)group->impl)->world->lock);
    return status;
}

static Status threads_all_reduce(Group *group, Tensor t)
{
    lock(group);
    return unlock(group, all_reduce_locked(group, t));
}

static Status threads_broadcast(Group *group, Tensor t, int root)
{
    lock(group);
    return unlock(group, broadcast_locked(group, t, root));
}

static Status threads_all_gather(Group *group, Tensor out, Tensor in)
{
    lock(group);
    return unlock(group, all_gather_locked(group, out, in));
}

static Status threads_all_gather_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    lock(group);
    return unlock(group, all_gather_v_locked(group, out, in, counts));
}

static Status threads_reduce_scatter_v(Group *group, Tensor out, Tensor in, const int64_t *counts)
{
    lock(group);
    return unlock(group, reduce_scatter_v_locked(group, out, in, counts));
}

static Status threads_all_to_all_v(Group *group, Tensor out, const int64_t *out_counts, Tensor in,
                                   const int64_t *in_counts)
{
    lock(group);
    return unlock(group, all_to_all_v_locked(group, out, out_counts, in, in_counts));
}

static Status threads_send(Group *group, Tensor t, int to, GroupRequest *request)
{
    lock(group);
    return unlock(group, send_locked(group, t, to, request));
}

static Status threads_receive(Group *group, Tensor t, int from)
{
    lock(group);
    return unlock(group, receive_locked(group, t, from));
}

static Status threads_wait(Group *group, GroupRequest *request)
{
    lock(group);
    return unlock(group, wait_locked(group, request));
}

static const GroupOps threads_ops = {
    .all_reduce = threads_all_reduce,
    .broadcast = threads_broadcast,
    .all_gather = threads_all_gather,
    .all_gather_v = threads_all_gather_v,
    .reduce_scatter_v = threads_reduce_scatter_v,
    .all_to_all_v = threads_all_to_all_v,
    .send = threads_send,
    .receive = threads_receive,
    .wait = threads_wait,
};

enum { AXES = MESH_AXES };

typedef struct Rank {
    pthread_t thread;
    int rank;
    MeshGroups groups;
    Group axes[AXES];
    ThreadBody body;
    void *argument;
    World *world;
    Status status;
    bool first_to_fail;
    char message[1024];
} Rank;

static void *run_rank(void *argument)
{
    Rank *r = argument;
    r->status = r->body(r->rank, &r->groups, r->argument);
    if (r->status == OK) return NULL;
    (void)snprintf(r->message, sizeof r->message, "%s", status_message());
    (void)pthread_mutex_lock(&r->world->lock);
    r->first_to_fail = !r->world->broken;
    r->world->broken = true;
    (void)pthread_cond_broadcast(&r->world->changed);
    (void)pthread_mutex_unlock(&r->world->lock);
    return NULL;
}

static void seat_rank(Rank *r, MeshShape shape, Meeting *meetings, World *world)
{
    r->groups.mesh = mesh_of_rank(shape, r->rank);
    const int size = r->groups.mesh.size;
    for (int axis = 0; axis < AXES; axis++) {
        const MeshSeat seat = mesh_seat(&r->groups.mesh, (MeshAxis)axis);
        Meeting *m = &meetings[axis * size + seat.group];
        m->world = world;
        m->size = seat.size;
        r->axes[axis] =
            (Group){ .rank = seat.rank, .size = seat.size, .ops = &threads_ops, .impl = m };
        *mesh_group_slot(&r->groups, (MeshAxis)axis) = &r->axes[axis];
    }
}

static void free_letters(Meeting *m)
{
    while (m->letters) {
        Letter *next = m->letters->next;
        free(m->letters);
        m->letters = next;
    }
}

Status threads_run(MeshShape shape, ThreadBody body, void *argument)
{
    const int size = (int)mesh_ranks(shape);
    World world = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false };
    Meeting *meetings = calloc((size_t)(size * AXES), sizeof *meetings);
    Tensor *tensors = calloc((size_t)(size * size * AXES), sizeof *tensors);
    Rank *ranks = calloc((size_t)size, sizeof *ranks);
    if (!meetings || !tensors || !ranks) abort();
    for (int i = 0; i < size * AXES; i++) meetings[i].tensors = tensors + i * size;
    for (int i = 0; i < size; i++) {
        ranks[i] = (Rank){ .rank = i, .body = body, .argument = argument, .world = &world };
        seat_rank(&ranks[i], shape, meetings, &world);
    }
    for (int i = 0; i < size; i++)
        if (pthread_create(&ranks[i].thread, NULL, run_rank, &ranks[i]) != 0) abort();
    Status status = OK;
    for (int i = 0; i < size; i++) {
        (void)pthread_join(ranks[i].thread, NULL);
        if (ranks[i].first_to_fail)
            status = status_fail(ranks[i].status, "rank %d: %s", i, ranks[i].message);
    }
    for (int i = 0; i < size * AXES; i++) free_letters(&meetings[i]);
    free(ranks);
    free(tensors);
    free(meetings);
    return status;
}
