#include "comm/comm.h"

#include "comm/comm_internal.h"
#include "comm/launch.h"
#include "core/base/log.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* ERR_COMM for calls on communicators that are not a group yet. */
static Status check_start(int code, const char *operation)
{
    CHECK(code == MPI_SUCCESS, ERR_COMM, "%s failed with code %d", operation, code);
    return OK;
}

static Status add_group(Comm *comm, MPI_Comm handle, const char *name, Group **out)
{
    MpiGroup **grown = realloc(comm->groups, ((size_t)comm->group_count + 1) * sizeof(MpiGroup *));
    CHECK(grown, ERR_MEMORY, "no memory for %d groups of ranks", comm->group_count + 1);
    comm->groups = grown;
    MpiGroup *mpi;
    TRY(group_mpi_create(handle, name, comm->watchdog, &mpi));
    comm->groups[comm->group_count++] = mpi;
    *out = &mpi->group;
    return OK;
}

static Status start_mpi(Comm *comm)
{
    launch_set_defaults();
    /* writing to a rank that is gone is an error to tell, not this rank's silent end */
    (void)signal(SIGPIPE, SIG_IGN);
    /* the reducer talks while the step computes and talks too */
    int provided = MPI_THREAD_SINGLE;
    TRY(check_start(MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &provided),
                    "MPI_Init_thread"));
    comm->mpi = true;
    CHECK(provided == MPI_THREAD_MULTIPLE, ERR_COMM,
          "this MPI library gives thread level %d, not MPI_THREAD_MULTIPLE: use one built with it",
          provided);

    MPI_Comm world, host;
    Group *group;
    TRY(watchdog_create(MPI_COMM_WORLD, &comm->watchdog));
    watchdog_set_timeout(comm->watchdog, COMM_TIMEOUT_S);
    TRY(check_start(MPI_Comm_dup(MPI_COMM_WORLD, &world), "MPI_Comm_dup"));
    TRY(add_group(comm, world, "world", &group));
    comm->rank = group->rank;
    comm->size = group->size;
    TRY(check_start(
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &host),
        "MPI_Comm_split_type"));
    (void)MPI_Comm_rank(host, &comm->local_rank);
    (void)MPI_Comm_size(host, &comm->local_size);
    return check_start(MPI_Comm_free(&host), "MPI_Comm_free");
}

Status comm_start(Comm **out)
{
    Comm *comm = calloc(1, sizeof *comm);
    CHECK(comm, ERR_MEMORY, "no memory for the communicator");
    *comm = (Comm){ .size = 1, .local_size = 1, .self = group_self() };
    const Launch launch = launch_detect();
    Status s = OK;
    if (launch.by_mpi) TRY_TO(fail, s, start_mpi(comm));
    TRY_TO(fail, s, launch_check_size(&launch, comm->size));
    log_set_rank(comm->rank, comm->size);
    *out = comm;
    return OK;
fail:
    log_failure(s);
    comm_finish(comm);
    return s;
}

/* One small collective that every rank comes to: its kind tells the watchdog why. */
static Status meet(Comm *comm, CallKind kind, const char *site)
{
    MpiGroup *world = comm->groups[0];
    const Call call = { .kind = kind, .peer = -1, .site = site };
    group_mpi_enter(world, &call);
    const Status s = group_mpi_check(world, MPI_Barrier(world->comm), "MPI_Barrier");
    group_mpi_leave(world);
    return s;
}

void comm_finish(Comm *comm)
{
    if (!comm) return;
    /* the watchdog answers until nobody waits for anybody any more */
    if (comm->size > 1 && comm->group_count > 0) (void)meet(comm, CALL_FINISH, GROUP_SITE);
    for (int i = comm->group_count - 1; i >= 0; i--) group_mpi_destroy(comm->groups[i]);
    watchdog_destroy(comm->watchdog);
    if (comm->mpi) (void)MPI_Finalize();
    free(comm->groups);
    free(comm);
}

void comm_abort(Comm *comm, Status status)
{
    const int code = status == OK ? status_exit_code(ERR_COMM) : status_exit_code(status);
    if (comm->size > 1)
        log_error("rank %d: %s", comm->rank, status_message());
    else
        log_error("%s", status_message());
    if (comm->mpi) (void)MPI_Abort(MPI_COMM_WORLD, code);
    /* exit handlers could wait for ranks that are gone */
    _exit(code);
}

int comm_rank(const Comm *comm)
{
    return comm->rank;
}

int comm_size(const Comm *comm)
{
    return comm->size;
}

int comm_local_rank(const Comm *comm)
{
    return comm->local_rank;
}

int comm_local_size(const Comm *comm)
{
    return comm->local_size;
}

const char *comm_host(const Comm *comm, int rank)
{
    return comm->watchdog ? watchdog_host(comm->watchdog, rank) : "this host";
}

bool comm_overlap_pays(const Comm *comm, int threads)
{
    const bool wire = comm->local_size < comm->size;
    return wire || (long)threads * comm->local_size < sysconf(_SC_NPROCESSORS_ONLN);
}

Group *comm_world(Comm *comm)
{
    return comm->mpi ? &comm->groups[0]->group : &comm->self;
}

void comm_set_timeout(Comm *comm, double timeout_s)
{
    if (comm->watchdog) watchdog_set_timeout(comm->watchdog, timeout_s);
}

void comm_set_check(Comm *comm, bool check)
{
    if (comm->watchdog) watchdog_set_check(comm->watchdog, check);
}

void comm_set_step(Comm *comm, int64_t step)
{
    if (comm->watchdog) calls_set_step(watchdog_calls(comm->watchdog), step);
}

double comm_waited_s(Comm *comm)
{
    return comm->watchdog ? calls_waited_s(watchdog_calls(comm->watchdog)) : 0.0;
}

Status comm_barrier_at(Comm *comm, const char *site)
{
    return comm->size == 1 ? OK : meet(comm, CALL_BARRIER, site);
}

size_t comm_group_bytes(int size)
{
    return size > 1 ? group_mpi_scratch_bytes() : 0;
}

size_t comm_mesh_bytes(const MeshGroups *groups)
{
    MeshGroups copy = *groups;
    size_t bytes = comm_group_bytes(groups->mesh.size);
    for (int axis = 0; axis < MESH_AXES; axis++)
        bytes += comm_group_bytes((*mesh_group_slot(&copy, (MeshAxis)axis))->size);
    return bytes;
}

/* The ranks that share `color`, ordered by `key`, on a communicator of their own. */
static Status split(Comm *comm, const char *name, int color, int key, Group **out)
{
    if (comm->size == 1) {
        *out = &comm->self;
        return OK;
    }
    MpiGroup *world = comm->groups[0];
    MPI_Comm handle;
    const Call call = { .kind = CALL_SPLIT, .peer = -1, .site = GROUP_SITE };
    group_mpi_enter(world, &call);
    const int code = MPI_Comm_split(world->comm, color, key, &handle);
    group_mpi_leave(world);
    TRY(group_mpi_check(world, code, "MPI_Comm_split"));
    return add_group(comm, handle, name, out);
}

Status comm_mesh(Comm *comm, MeshShape shape, MeshGroups *out)
{
    char mesh[96];
    CHECK(mesh_ranks(shape) == comm->size, ERR_CONFIG, "mesh %s takes %lld ranks and there are %d",
          mesh_describe(shape, mesh), (long long)mesh_ranks(shape), comm->size);
    MeshGroups g = { .mesh = mesh_of_rank(shape, comm->rank) };
    for (int axis = 0; axis < MESH_AXES; axis++) {
        const MeshSeat seat = mesh_seat(&g.mesh, (MeshAxis)axis);
        TRY(split(comm, mesh_axis_name((MeshAxis)axis), seat.group, seat.rank,
                  mesh_group_slot(&g, (MeshAxis)axis)));
    }
    *out = g;
    return OK;
}

Status comm_guidance(Comm *comm, const Mesh *mesh, int halves, Group **out)
{
    const MeshSeat seat = mesh_guidance_seat(mesh, halves);
    return split(comm, "guidance", seat.group, seat.rank, out);
}
