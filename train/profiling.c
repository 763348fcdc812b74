#include "train/profiling.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/ops.h"

#include <stdlib.h>

/* The mesh's groups share what they can: the same one twice is no harm. */
static void point(Comm *comm, MeshGroups *groups, Profile *profile)
{
    comm_world(comm)->profile = profile;
    for (int axis = 0; axis < MESH_AXES; axis++) {
        Group *group = *mesh_group_slot(groups, (MeshAxis)axis);
        if (group && group->size > 1) group->profile = profile;
    }
}

Status profiling_create(const TrainConfig *config, Comm *comm, MeshGroups *groups, Device *device,
                        Profiling *out)
{
    const bool trace = config->train.trace[0] != 0;
    *out = (Profiling){ .asked = config->train.profile || trace };
    if (!out->asked) return OK;
    TRY(profile_create(trace ? PROFILING_EVENTS : 0, &out->profile));
    device->profile = &out->profile;
    point(comm, groups, &out->profile);
    return OK;
}

void profiling_destroy(Profiling *p, Comm *comm, MeshGroups *groups)
{
    if (p->asked) point(comm, groups, NULL);
    profile_destroy(&p->profile);
    *p = (Profiling){ 0 };
}

void profiling_begin(Profiling *p)
{
    p->profile.paused = false;
}

void profiling_end(Profiling *p, double seconds)
{
    p->profile.paused = true;
    if (!p->asked) return;
    if (p->steps == 0 && p->seconds == 0.0) {
        profile_restart(&p->profile);
        p->seconds = 1e-9; /* the first one is behind us */
        return;
    }
    p->steps++;
    p->seconds += seconds;
}

/* Bytes a second of an op that reads two tensors, of more than a cache, and writes one. */
static Status measure_memory(const Device *device, double *gbytes)
{
    enum { COUNT = 16 << 20, RUNS = 4 };
    Device quiet = *device;
    Arena arena;
    Tensor x, y;
    double best_s = 1e9;
    Status s = OK;
    quiet.profile = NULL;
    TRY(arena_create(&arena, "memory rate", 2 * (COUNT * sizeof(float) + ARENA_ALIGN)));
    TRY_TO(done, s, tensor_alloc(&arena, F32, SHAPE(COUNT), "x", &x));
    TRY_TO(done, s, tensor_alloc(&arena, F32, SHAPE(COUNT), "y", &y));
    for (int i = 0; i < RUNS; i++) {
        const double start = clock_seconds();
        TRY_TO(done, s, op_axpby(&quiet, y, 0.5f, x, 0.5f));
        const double took_s = clock_seconds() - start;
        if (took_s < best_s) best_s = took_s;
    }
    *gbytes = 3.0 * COUNT * sizeof(float) / best_s * 1e-9;
done:
    arena_destroy(&arena);
    return s;
}

/* Another rank's events; *text is owned by the caller. */
static Status receive_rank(Group *world, int rank, char **text, int64_t *length)
{
    TRY(group_receive(world, tensor_of(length, I64, SHAPE(1)), rank));
    *text = malloc((size_t)*length + 1);
    CHECK(*text, ERR_MEMORY, "no memory for a timeline of %lld bytes", (long long)*length);
    return group_receive(world, tensor_of(*text, U8, SHAPE(*length)), rank);
}

/* Rank 0 takes the ranks' events one after the other, also when they can no longer be written: the
 * others wait until they are taken. */
static Status write_all(const char *path, Group *world, const char *own, size_t own_length)
{
    static const char begin[] = "{\"traceEvents\":[\n";
    static const char end[] =
        "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":0,\"args\":{\"name\":\"rank 0\"}}\n]}\n";
    FileWriter writer;
    file_writer_none(&writer);
    Status s = file_writer_open(&writer, path);
    if (s == OK) s = file_writer_write(&writer, begin, sizeof begin - 1);
    if (s == OK) s = file_writer_write(&writer, own, own_length);
    for (int rank = 1; rank < world->size; rank++) {
        char *text = NULL;
        int64_t length = 0;
        const Status received = receive_rank(world, rank, &text, &length);
        if (s == OK) s = received;
        if (s == OK) s = file_writer_write(&writer, text, (size_t)length);
        free(text);
    }
    if (s == OK) s = file_writer_write(&writer, end, sizeof end - 1);
    if (s == OK) return file_writer_commit(&writer);
    KeptStatus kept = { 0 };
    status_keep(&kept, s);
    file_writer_abandon(&writer);
    return status_kept(&kept);
}

static Status send_own(Group *world, char *own, size_t own_length)
{
    int64_t length = (int64_t)own_length;
    GroupRequest first = { 0 }, second = { 0 };
    TRY(group_send(world, tensor_of(&length, I64, SHAPE(1)), 0, &first));
    TRY(group_wait(world, &first));
    TRY(group_send(world, tensor_of(own, U8, SHAPE(length)), 0, &second));
    return group_wait(world, &second);
}

static Status write_trace(const Profiling *p, const char *path, Comm *comm)
{
    Group *world = comm_world(comm);
    char *own = NULL;
    size_t length = 0;
    TRY(comm_agree(comm, profile_events(&p->profile, world->rank, &own, &length)));
    const Status s =
        world->rank == 0 ? write_all(path, world, own, length) : send_own(world, own, length);
    free(own);
    TRY(comm_agree(comm, s));
    log_info("%s: a timeline for https://ui.perfetto.dev", path);
    return OK;
}

Status profiling_finish(Profiling *p, const TrainConfig *config, Comm *comm, const Device *device,
                        double gflops)
{
    ProfileLimits limits = { .gflops = gflops };
    if (!p->asked || p->steps == 0) return OK;
    TRY(comm_agree(comm, measure_memory(device, &limits.gbytes)));
    if (config->train.profile && comm_rank(comm) == 0)
        profile_print(&p->profile, p->steps, p->seconds, limits, stderr);
    return config->train.trace[0] ? write_trace(p, config->train.trace, comm) : OK;
}
