#include "tools/bench_parts.h"

#include <stdio.h>

static Status reduce_all(Bench *b)
{
    const ParamList *params = &b->dit.params;
    for (int i = params->buckets - 1; i >= 0; i--) {
        const int64_t first = params->bucket_first[i], end = params->bucket_first[i + 1];
        TRY(reducer_submit(b->step.reducer, tensor_slice(b->optimizer.grads, first, end - first)));
    }
    return reducer_wait(b->step.reducer);
}

/* A step that finds no reducer leaves its rank's own gradient; then the sums come on their own. */
static Status reduce_after(Bench *b)
{
    Reducer *reducer = b->step.reducer;
    b->step.reducer = NULL;
    const Status s = bench_train_once(b);
    b->step.reducer = reducer;
    TRY(s);
    return reduce_all(b);
}

enum { OVERLAPPED, AFTER, ALONE, WAYS };

typedef struct Best {
    double seconds[WAYS];
    double waited_s; /* of the overlapped step: in no other does it matter */
} Best;

static void keep_least(double *least, double value)
{
    if (*least == 0.0 || value < *least) *least = value;
}

/* The best of each: a difference of medians would be that of what else the machine does. */
static Status measure(Bench *b, int repeats, Best *best)
{
    static Status (*const ways[WAYS])(Bench *) = { bench_train_once, reduce_after, reduce_all };
    *best = (Best){ 0 };
    for (int way = 0; way < WAYS; way++) TRY(ways[way](b));
    for (int i = 0; i < repeats; i++) {
        for (int way = 0; way < WAYS; way++) {
            BenchTime time;
            TRY(bench_time(b, ways[way], &time));
            keep_least(&best->seconds[way], time.seconds);
            if (way == OVERLAPPED) keep_least(&best->waited_s, time.waited_s);
        }
    }
    return OK;
}

static Status run(Bench *b, int repeats, ReducerWay chosen)
{
    Best best;
    TRY(measure(b, repeats, &best));
    if (comm_rank(b->comm) != 0) return OK;
    const double *s = best.seconds;
    /* what of the reduction the step still waits for is not hidden */
    const double hidden = best.waited_s < s[ALONE] ? 1.0 - best.waited_s / s[ALONE] : 0.0;
    printf("%-6s %5d %8.1f %11.1f %11.1f %11.1f %11.1f %6.0f%% %8s\n", b->job->name,
           b->groups.data->size, (double)b->dit.params.local_elements * 4 / (1 << 20),
           s[OVERLAPPED] * 1e3, s[AFTER] * 1e3, s[ALONE] * 1e3, best.waited_s * 1e3, 100.0 * hidden,
           chosen == REDUCER_BESIDE ? "overlap" : "after");
    (void)fflush(stdout);
    return OK;
}

Status bench_overlap(Comm *comm, const BenchCase *job, int repeats)
{
    Bench b;
    TRY(bench_open(comm, 1, 1, &b));
    b.job = job;
    const ReducerWay chosen = b.reduce;
    b.reduce = REDUCER_BESIDE;
    if (comm_rank(comm) == 0)
        printf("\n%-6s %5s %8s %11s %11s %11s %11s %7s %8s\n", "model", "ranks", "MiB",
               "overlap ms", "after ms", "alone ms", "waited ms", "hidden", "auto");
    Status s = comm_agree(comm, bench_create(&b));
    if (s == OK) s = comm_agree(comm, run(&b, repeats, chosen));
    bench_destroy(&b);
    return s;
}
