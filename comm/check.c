#include "comm/check.h"

#include <stdio.h>
#include <string.h>

/* A call as ranks show it to each other. */
typedef struct Shown {
    int64_t number, count, detail;
    int32_t kind, dtype;
    char site[CHECK_ROW_BYTES - 32];
} Shown;

_Static_assert(sizeof(Shown) == CHECK_ROW_BYTES, "a row holds what is shown");

static Shown show(const Call *call, int64_t number)
{
    Shown shown = { .number = number,
                    .count = call->count,
                    .detail = call->detail,
                    .kind = (int32_t)call->kind,
                    .dtype = (int32_t)call->dtype };
    (void)snprintf(shown.site, sizeof shown.site, "%s", call->site);
    return shown;
}

/* "rank 2 (node7): broadcast of 5 F64, root or parts 0, at train/trainer.c:42". */
static int describe(const MpiGroup *mpi, int member, const Shown *shown, char *out, size_t bytes)
{
    const int rank = watchdog_calls(mpi->watchdog)->groups[mpi->calls].members[member];
    int n = snprintf(out, bytes, "rank %d (%s): %s", rank, watchdog_host(mpi->watchdog, rank),
                     call_kind_name((CallKind)shown->kind));
    if (shown->count > 0)
        n += snprintf(out + n, bytes - (size_t)n, " of %lld %s", (long long)shown->count,
                      dtype_name((DType)shown->dtype));
    if (shown->kind == CALL_BROADCAST)
        n += snprintf(out + n, bytes - (size_t)n, " from rank %lld of the group",
                      (long long)shown->detail);
    n += snprintf(out + n, bytes - (size_t)n, " at %s", shown->site);
    return n;
}

static void end_job(const MpiGroup *mpi, const Shown *shown, int other) __attribute__((noreturn));
static void end_job(const MpiGroup *mpi, const Shown *shown, int other)
{
    const long long step = (long long)calls_step(watchdog_calls(mpi->watchdog));
    char line[640];
    int n = snprintf(line, sizeof line, "ranks disagree on call %lld of the %s group, step %lld: ",
                     (long long)shown[0].number, mpi->name, step);
    n += describe(mpi, 0, &shown[0], line + n, sizeof line - (size_t)n);
    n += snprintf(line + n, sizeof line - (size_t)n, "; ");
    n += describe(mpi, other, &shown[other], line + n, sizeof line - (size_t)n);
    if (shown[0].kind == shown[other].kind && shown[0].count == shown[other].count &&
        shown[0].detail != shown[other].detail && shown[0].kind != CALL_BROADCAST)
        (void)snprintf(line + n, sizeof line - (size_t)n, "; they cut it in other parts");
    watchdog_end_job(mpi->watchdog, line);
}

void check_call(MpiGroup *mpi, const Call *call, int64_t number)
{
    const Shown own = show(call, number);
    Shown *rows = (Shown *)(void *)mpi->shown;
    MPI_Request request;
    int code =
        MPI_Iallgather(&own, sizeof own, MPI_BYTE, rows, sizeof own, MPI_BYTE, mpi->comm, &request);
    if (code == MPI_SUCCESS) code = group_mpi_wait_all(mpi, &request, 1);
    /* the call itself meets the same failure and tells */
    if (code != MPI_SUCCESS) return;
    for (int i = 1; i < mpi->group.size; i++)
        if (memcmp(&rows[0], &rows[i], sizeof rows[0]) != 0) end_job(mpi, rows, i);
}
