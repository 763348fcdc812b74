/*
 * allocations: after its first step a run asks for no memory.
 *
 * This program has malloc and its kin of its own, which count by who calls: the project's code,
 * whose return addresses lie in this program, or a library (MPI, HDF5, oneDNN, and libc itself),
 * whose lie elsewhere. The project's calls in steps 2 to 5 must be none; the libraries' are only
 * told. A run of five steps is compared with one of one step: what start, checkpoint and end ask
 * for is the same in both, and so is the first held-out measurement. All threads count: the
 * loader's, the reducer's.
 */
/* ranks: 1 2 4 */
#include "core/base/log.h"
#include "tests/support/plan_case.h"
#include "train/trainer.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

/* ---- malloc --------------------------------------------------------------------------------- */

/* glibc's own, under the names that it keeps for programs like this one */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern const char __executable_start, etext; /* the linker's: where this program's code lies */

enum { SITES = 512 };

static atomic_llong own_calls, library_calls;
/* where the project called from, so that a failure can be looked up */
static _Atomic(const char *) sites[SITES];

static void count_call(const void *caller)
{
    const char *at = caller;
    if (at < &__executable_start || at >= &etext) {
        atomic_fetch_add(&library_calls, 1);
        return;
    }
    const long long n = atomic_fetch_add(&own_calls, 1);
    atomic_store(&sites[n % SITES], at);
}

void *malloc(size_t bytes)
{
    count_call(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    count_call(__builtin_return_address(0));
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    count_call(__builtin_return_address(0));
    return __libc_realloc(old, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    count_call(__builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    count_call(__builtin_return_address(0));
    void *p = __libc_memalign(alignment, bytes);
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}

/* ---- runs ----------------------------------------------------------------------------------- */

static Comm *comm;

static void must(Status status)
{
    if (status != OK) print_error("%s\n", status_message());
    assert_int_equal(status, OK);
}

typedef struct Calls {
    long long own, libraries;
} Calls;

static Calls run(const char *dir, const char *keys, int steps)
{
    static int number;
    TrainConfig config;
    char name[32], all[512];
    snprintf(name, sizeof name, "run-%d", number++);
    snprintf(all, sizeof all, "%s train.steps=%d", keys, steps);
    plan_case_config(dir, name, all, &config);
    must(comm_barrier(comm));
    const long long own = atomic_load(&own_calls), libraries = atomic_load(&library_calls);
    must(trainer_run(comm, &config));
    return (Calls){ atomic_load(&own_calls) - own, atomic_load(&library_calls) - libraries };
}

static void name_sites(long long count)
{
    const long long end = atomic_load(&own_calls);
    char text[8 * SITES];
    int used = 0;
    for (long long i = end > count ? end - count : 0; i < end && used < (int)sizeof text - 24; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, " %#tx",
                         atomic_load(&sites[i % SITES]) - &__executable_start);
    print_error("the project's calls of the run, for addr2line:%s\n", text);
}

static void check(const char *dir, const char *keys)
{
    (void)run(dir, keys, 1); /* what a process asks for once */
    const Calls one = run(dir, keys, 1), five = run(dir, keys, 5);
    if (comm_rank(comm) == 0)
        printf("note: %s: steps 2 to 5: %lld calls of the project, %lld of libraries\n", keys,
               five.own - one.own, five.libraries - one.libraries);
    if (five.own != one.own) name_sites(five.own);
    assert_int_equal(five.own, one.own);
}

static void no_step_after_the_first_allocates(void **state)
{
    (void)state;
    static const PlanCase cases[] = {
        { 1, "data.micro_batch=2" },
        { 1, "parallel.recompute=block heldout train.heldout_every=1" },
        { 2, "parallel.data=2 train.check_every=1" },
        { 2, "parallel.pipeline=2" },
        { 2, "parallel.context=2 parallel.ulysses=1" },
        { 4, "parallel.tensor=2 parallel.data=2 parallel.zero=0" },
        { 4, "parallel.context=2 parallel.data=2" },
        { 1, "numerics=exact" },
        { 2, "parallel.pipeline=2 parallel.schedule=zero_bubble" },
        { 4, "numerics=exact parallel.pipeline=2 parallel.data=2 parallel.schedule=interleaved "
             "parallel.chunks_per_rank=2 model.num_layers=4" },
    };
    const DatasetBucket bucket = plan_case_bucket(3, 6, 10);
    char dir[256];
    plan_case_dataset(comm, &bucket, 1, dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].ranks == comm_size(comm)) check(dir, cases[i].keys);
    plan_case_remove(comm, dir);
}

int main(void)
{
    must(comm_start(&comm));
    log_set_quiet(true);
    const struct CMUnitTest tests[] = { cmocka_unit_test(no_step_after_the_first_allocates) };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(comm);
    return failed;
}
