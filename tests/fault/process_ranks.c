#include "tests/fault/process_ranks.h"

#include "core/base/log.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct Comm {
    int rank, size;
    int peers[RANKS_MAX]; /* sockets */
    Group world, self;
};

/* --- bytes between two ranks --- */

static void put(const Comm *comm, int to, const void *bytes, size_t length)
{
    const char *from = bytes;
    while (length > 0) {
        const ssize_t n = send(comm->peers[to], from, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(RANK_LOST);
        from += n;
        length -= (size_t)n;
    }
}

static void get(const Comm *comm, int from, void *bytes, size_t length)
{
    char *to = bytes;
    while (length > 0) {
        const ssize_t n = recv(comm->peers[from], to, length, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(RANK_LOST);
        to += n;
        length -= (size_t)n;
    }
}

/* --- a group of all ranks --- */

static Status broadcast(Group *group, Tensor t, int root)
{
    const Comm *comm = group->impl;
    for (int i = 0; comm->rank == root && i < comm->size; i++)
        if (i != root) put(comm, i, t.data, tensor_bytes(t));
    if (comm->rank != root) get(comm, root, t.data, tensor_bytes(t));
    return OK;
}

static void add(void *sum, const void *part, int64_t count, DType dtype)
{
    for (int64_t k = 0; k < count; k++)
        if (dtype == U8)
            ((uint8_t *)sum)[k] = (uint8_t)(((uint8_t *)sum)[k] + ((const uint8_t *)part)[k]);
        else
            ((int64_t *)sum)[k] += ((const int64_t *)part)[k];
}

/* Of bytes and of I64: what checkpoints sum. */
static Status all_reduce(Group *group, Tensor t)
{
    const Comm *comm = group->impl;
    const size_t length = tensor_bytes(t);
    void *part = malloc(length + 1);
    CHECK(part, ERR_MEMORY, "no memory for a sum");
    CHECK(t.dtype == U8 || t.dtype == I64, ERR_COMM, "these ranks sum bytes and I64 only");
    if (comm->rank > 0) put(comm, 0, t.data, length);
    for (int i = 1; comm->rank == 0 && i < comm->size; i++) {
        get(comm, i, part, length);
        add(t.data, part, tensor_count(t), t.dtype);
    }
    free(part);
    return broadcast(group, t, 0);
}

static Status send_to(Group *group, Tensor t, int to, GroupRequest *request)
{
    (void)request;
    put(group->impl, to, t.data, tensor_bytes(t));
    return OK;
}

static Status receive(Group *group, Tensor t, int from)
{
    get(group->impl, from, t.data, tensor_bytes(t));
    return OK;
}

static Status wait_for(Group *group, GroupRequest *request)
{
    (void)group;
    (void)request;
    return OK;
}

static const GroupOps ops = { .all_reduce = all_reduce,
                              .broadcast = broadcast,
                              .send = send_to,
                              .receive = receive,
                              .wait = wait_for };

/* --- comm.h --- */

int comm_rank(const Comm *comm)
{
    return comm->rank;
}

int comm_size(const Comm *comm)
{
    return comm->size;
}

Group *comm_world(Comm *comm)
{
    return &comm->world;
}

typedef struct Answer {
    int32_t code;
    char message[1020];
} Answer;

/* The lowest failing rank's, prefixed when not all failed alike, as comm/agree.c has it. */
static Answer first_failure(const Answer *answers, int size)
{
    Answer out = { 0 };
    int first = 0;
    bool alike = true;
    while (first < size && answers[first].code == OK) first++;
    if (first == size) return out;
    for (int i = 0; i < size; i++)
        alike = alike && memcmp(&answers[i], &answers[first], sizeof out) == 0;
    out.code = answers[first].code;
    (void)snprintf(out.message, sizeof out.message, "%s%.*d%s%.990s", alike ? "" : "rank ",
                   alike ? 0 : 1, alike ? 0 : first, alike ? "" : ": ", answers[first].message);
    return out;
}

Status comm_agree_at(Comm *comm, Status status, const char *site)
{
    Answer answers[RANKS_MAX] = { 0 }, mine = { .code = (int32_t)status };
    (void)site;
    if (comm->size == 1) return status;
    if (status != OK) (void)snprintf(mine.message, sizeof mine.message, "%s", status_message());
    if (comm->rank > 0) put(comm, 0, &mine, sizeof mine);
    answers[0] = mine;
    for (int i = 1; comm->rank == 0 && i < comm->size; i++)
        get(comm, i, &answers[i], sizeof answers[i]);
    mine = first_failure(answers, comm->size);
    TRY(broadcast(&comm->world, tensor_of(&mine, U8, SHAPE((int64_t)sizeof mine)), 0));
    return mine.code == OK ? OK : status_fail((Status)mine.code, "%s", mine.message);
}

/* --- starting them --- */

void shim_read_variables(void)
{
    void (*reset)(void);
    *(void **)&reset = dlsym(RTLD_DEFAULT, "shim_reset");
    if (reset) reset();
}

static MeshGroups seat(Comm *comm)
{
    const MeshShape shape = { .data = comm->size, .tensor = 1, .pipeline = 1, .context = 1 };
    MeshGroups groups = { .mesh = mesh_of_rank(shape, comm->rank) };
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const MeshSeat at = mesh_seat(&groups.mesh, (MeshAxis)axis);
        *mesh_group_slot(&groups, (MeshAxis)axis) = at.size > 1 ? &comm->world : &comm->self;
    }
    return groups;
}

static int run(Comm *comm, RankBody body, void *argument)
{
    comm->world = (Group){ .rank = comm->rank, .size = comm->size, .ops = &ops, .impl = comm };
    comm->self = group_self();
    const MeshGroups groups = seat(comm);
    return body(comm, &groups, argument);
}

void rank_alone(RankBody body, void *argument)
{
    Comm comm = { .size = 1 };
    (void)run(&comm, body, argument);
}

static void run_child(int rank, int size, int sockets[RANKS_MAX][RANKS_MAX], RankBody body,
                      void *argument, unsigned limit_s)
{
    Comm comm = { .rank = rank, .size = size };
    char text[16];
    for (int i = 0; i < size; i++) {
        comm.peers[i] = sockets[rank][i];
        /* so that a rank that ends is seen by those that wait for it */
        for (int k = 0; k < size; k++)
            if (i != rank && k != i) (void)close(sockets[i][k]);
    }
    (void)alarm(limit_s);
    (void)snprintf(text, sizeof text, "%d", rank);
    (void)setenv("OMPI_COMM_WORLD_RANK", text, 1);
    log_set_rank(rank, size);
    shim_read_variables();
    _exit(run(&comm, body, argument));
}

void ranks_run(int size, RankBody body, void *argument, unsigned limit_s, int *codes)
{
    int sockets[RANKS_MAX][RANKS_MAX], pair[2];
    pid_t children[RANKS_MAX];
    for (int i = 0; i < size; i++)
        for (int k = 0; k < i; k++) {
            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) abort();
            sockets[i][k] = pair[0];
            sockets[k][i] = pair[1];
        }
    for (int i = 0; i < size; i++) {
        sockets[i][i] = -1;
        (void)fflush(NULL);
        children[i] = fork();
        if (children[i] < 0) abort();
        if (children[i] == 0) run_child(i, size, sockets, body, argument, limit_s);
    }
    for (int i = 0; i < size; i++)
        for (int k = 0; k < size; k++)
            if (i != k) (void)close(sockets[i][k]);
    for (int i = 0; i < size; i++) {
        int status = 0;
        while (waitpid(children[i], &status, 0) < 0 && errno == EINTR) {
        }
        codes[i] = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    }
}
