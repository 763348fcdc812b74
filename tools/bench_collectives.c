#include "tools/bench_parts.h"

#include "core/base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int64_t BYTES_MIN = 1 << 10, BYTES_MAX = 64 << 20;
enum { BYTES_STEP = 4 };

/* Memory of the largest size, twice. */
typedef struct Buffers {
    Group *group;
    char *in, *out;  /* owned */
    int64_t *counts; /* owned; (size): equal parts */
} Buffers;

/* Sizes are those of nccl-tests: of the whole tensor where ranks hold parts of it. */
static Tensor whole(char *data, int64_t bytes)
{
    return tensor_of(data, F32, SHAPE(bytes / 4));
}

static Tensor part(const Buffers *b, char *data, int64_t bytes)
{
    return tensor_of(data, F32, SHAPE(bytes / 4 / b->group->size));
}

static Status all_reduce(Buffers *b, int64_t bytes)
{
    return group_all_reduce(b->group, whole(b->in, bytes));
}

static Status broadcast(Buffers *b, int64_t bytes)
{
    return group_broadcast(b->group, whole(b->in, bytes), 0);
}

static Status all_gather(Buffers *b, int64_t bytes)
{
    return group_all_gather(b->group, whole(b->out, bytes), part(b, b->in, bytes));
}

static Status reduce_scatter(Buffers *b, int64_t bytes)
{
    return group_reduce_scatter_v(b->group, part(b, b->out, bytes), whole(b->in, bytes), b->counts);
}

static Status all_to_all(Buffers *b, int64_t bytes)
{
    return group_all_to_all_v(b->group, whole(b->out, bytes), b->counts, whole(b->in, bytes),
                              b->counts);
}

/* To the next rank, from the one before. */
static Status send_receive(Buffers *b, int64_t bytes)
{
    const int rank = b->group->rank, size = b->group->size;
    GroupRequest request = { 0 };
    TRY(group_send(b->group, whole(b->in, bytes), (rank + 1) % size, &request));
    TRY(group_receive(b->group, whole(b->out, bytes), (rank + size - 1) % size));
    return group_wait(b->group, &request);
}

/* Bus bandwidth = algorithm bandwidth times what a link carries of each byte, so that it does not
 * depend on the number of ranks: 2 (n - 1) / n, (n - 1) / n or 1. */
typedef struct Operation {
    const char *name;
    Status (*run)(Buffers *b, int64_t bytes);
    int carries; /* (n - 1) / n so often; 0: once */
} Operation;

static const Operation operations[] = {
    { "all-reduce", all_reduce, 2 }, { "broadcast", broadcast, 0 },
    { "all-gather", all_gather, 1 }, { "reduce-scatter", reduce_scatter, 1 },
    { "all-to-all", all_to_all, 1 }, { "send/receive", send_receive, 0 },
};

/* Median seconds of one call, the mean over the ranks. */
static Status measure(Comm *comm, Buffers *b, const Operation *o, int64_t bytes, int repeats,
                      double *out)
{
    /* short ones in a row: a look at the clock and a late rank weigh less */
    const int calls = bytes <= (64 << 10) ? 20 : bytes <= (1 << 20) ? 5 : 1;
    const int n = b->group->size;
    double seconds[BENCH_REPEATS_MAX];
    for (int i = 0; i < n; i++) b->counts[i] = bytes / 4 / n;
    TRY(o->run(b, bytes));
    for (int i = 0; i < repeats; i++) {
        TRY(comm_barrier(comm));
        const double start = clock_seconds();
        for (int k = 0; k < calls; k++) TRY(o->run(b, bytes));
        seconds[i] = (clock_seconds() - start) / calls;
    }
    *out = bench_median(seconds, repeats);
    TRY(group_all_reduce(b->group, tensor_of(out, F64, SHAPE(1))));
    *out /= n;
    return OK;
}

static void print_row(const Operation *o, int ranks, int64_t bytes, double seconds)
{
    const double algorithm = (double)bytes / seconds * 1e-9;
    const double share = o->carries ? o->carries * (ranks - 1.0) / ranks : 1.0;
    printf("%-14s %5d %9lld %12.1f %9.3f %9.3f\n", o->name, ranks, (long long)(bytes >> 10),
           seconds * 1e6, algorithm, algorithm * share);
    (void)fflush(stdout);
}

static Status run(Comm *comm, Buffers *b, int repeats)
{
    const int ranks = b->group->size;
    if (comm_rank(comm) == 0)
        printf("%-14s %5s %9s %12s %9s %9s\n", "collective", "ranks", "KiB", "us", "alg GB/s",
               "bus GB/s");
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        for (int64_t size = BYTES_MIN; size <= BYTES_MAX; size *= BYTES_STEP) {
            const int64_t bytes = size / (4 * ranks) * (4 * ranks); /* equal parts */
            double seconds = 0.0;
            TRY(measure(comm, b, &operations[i], bytes, repeats, &seconds));
            if (comm_rank(comm) == 0) print_row(&operations[i], ranks, bytes, seconds);
        }
    }
    return OK;
}

Status bench_collectives(Comm *comm, int repeats)
{
    Buffers b = { .group = comm_world(comm) };
    CHECK(b.group->size > 1, ERR_USAGE, "bench comm needs two ranks or more: mpirun -n 2 ...");
    CHECK(b.group->size <= BYTES_MIN / 4, ERR_USAGE, "bench comm takes up to %lld ranks",
          (long long)(BYTES_MIN / 4));
    b.in = calloc(1, (size_t)BYTES_MAX);
    b.out = calloc(1, (size_t)BYTES_MAX);
    b.counts = calloc((size_t)b.group->size, sizeof *b.counts);
    Status s = OK;
    if (!b.in || !b.out || !b.counts)
        s = status_fail(ERR_MEMORY, "no memory for 2 x %lld MiB", (long long)(BYTES_MAX >> 20));
    s = comm_agree(comm, s);
    /* touched: fresh pages would be measured, too */
    if (s == OK) memset(b.in, 1, (size_t)BYTES_MAX);
    if (s == OK) memset(b.out, 1, (size_t)BYTES_MAX);
    if (s == OK) s = run(comm, &b, repeats);
    free(b.in);
    free(b.out);
    free(b.counts);
    return s;
}
