/*
 * Jobs that would hang or mix bytes: each is started under mpirun, and must end with code 4 and a
 * line on every rank that names who is to blame. The program is its own job: `test_hang ROLE` is
 * what each of three ranks runs. What a rank that is stopped does is in tests/e2e/watchdog.sh.
 */
#include "comm/comm.h"
#include "core/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static const double TIMEOUT_S = 1.0;
enum { RANKS = 3, OUTPUT_BYTES = 16384 };

/* ---- what the ranks do ---- */

typedef struct Job {
    Comm *comm;
    Group *world;
    MeshGroups mesh; /* all ranks data-parallel */
    bool odd;        /* this rank does it otherwise */
    double x[64];
} Job;

static void idle(double seconds)
{
    for (const double end_s = clock_seconds() + seconds; clock_seconds() < end_s;)
        (void)nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
}

static Tensor values(Job *job, DType dtype, int64_t count)
{
    return tensor_of(job->x, dtype, SHAPE(count));
}

static Status sum(Job *job, Group *group)
{
    return group_all_reduce(group, values(job, F64, 4));
}

static Status skips(Job *job)
{
    if (!job->odd) TRY(group_all_reduce(job->world, values(job, F64, 4)));
    TRY(group_all_reduce(job->world, values(job, F64, 4)));
    return OK;
}

static Status other_count(Job *job)
{
    return group_all_reduce(job->world, values(job, F64, job->odd ? 5 : 4));
}

static Status other_type(Job *job)
{
    return group_all_reduce(job->world, values(job, job->odd ? F32 : F64, 4));
}

static Status other_operation(Job *job)
{
    if (job->odd) return group_broadcast(job->world, values(job, F64, 4), 0);
    return group_all_reduce(job->world, values(job, F64, 4));
}

static Status other_root(Job *job)
{
    return group_broadcast(job->world, values(job, F64, 4), job->odd ? 1 : 0);
}

static Status other_parts(Job *job)
{
    static const int64_t counts[][RANKS] = { { 1, 1, 2 }, { 2, 1, 1 } };
    const int64_t *own = counts[job->odd ? 1 : 0];
    double in[2] = { 0 };
    return group_all_gather_v(job->world, values(job, F64, 4),
                              tensor_of(in, F64, SHAPE(own[job->world->rank])), own);
}

static Status works_too_long(Job *job)
{
    if (job->odd) idle(30);
    return sum(job, job->world);
}

static Status leaves_early(Job *job)
{
    return job->odd ? OK : sum(job, job->mesh.data);
}

static Status waits_elsewhere(Job *job)
{
    if (!job->odd) TRY(sum(job, job->mesh.data));
    return sum(job, job->world);
}

static Status never_sends(Job *job)
{
    if (job->world->rank == 0) TRY(group_receive(job->world, values(job, F64, 4), 1));
    return sum(job, job->world);
}

static Status reducer_lacks_a_bucket(Job *job)
{
    Reducer *reducer;
    TRY(reducer_create(job->mesh.gradient, REDUCER_BESIDE, &reducer));
    if (!job->odd) TRY(reducer_submit(reducer, values(job, F64, 4)));
    TRY(reducer_wait(reducer));
    TRY(sum(job, job->world));
    reducer_destroy(reducer);
    return OK;
}

/* Longer than the timeout, but nobody waits for so long. */
static Status works_long_together(Job *job)
{
    idle(1.5 * TIMEOUT_S + (job->odd ? 0.3 : 0));
    TRY(sum(job, job->world));
    if (!job->odd) TRY(sum(job, job->world));
    if (job->odd) idle(0.6 * TIMEOUT_S);
    return job->odd ? sum(job, job->world) : OK;
}

typedef struct Role {
    const char *name;
    Status (*run)(Job *job);
    bool check;
} Role;

static const Role roles[] = {
    { "skips", skips, true },
    { "other_count", other_count, true },
    { "other_type", other_type, true },
    { "other_operation", other_operation, true },
    { "other_root", other_root, true },
    { "other_parts", other_parts, true },
    { "works_too_long", works_too_long, false },
    { "leaves_early", leaves_early, false },
    { "waits_elsewhere", waits_elsewhere, false },
    { "never_sends", never_sends, false },
    { "reducer_lacks_a_bucket", reducer_lacks_a_bucket, false },
    { "works_long_together", works_long_together, false },
};
enum { ROLES = sizeof roles / sizeof roles[0] };

static const Role *find_role(const char *name)
{
    for (int i = 0; i < ROLES; i++)
        if (strcmp(roles[i].name, name) == 0) return &roles[i];
    return NULL;
}

static int run_rank(const char *name)
{
    const Role *role = find_role(name);
    Job job = { 0 };
    (void)alarm(60);
    if (!role || comm_start(&job.comm) != OK) return 1;
    job.world = comm_world(job.comm);
    job.odd = comm_rank(job.comm) == 1;
    comm_set_step(job.comm, 12);
    comm_set_timeout(job.comm, TIMEOUT_S);
    comm_set_check(job.comm, role->check);
    Status s = comm_mesh(job.comm, mesh_shape(RANKS, 1, 1, 1), &job.mesh);
    if (s == OK) s = role->run(&job);
    comm_finish(job.comm);
    return s == OK ? 0 : 1;
}

/* ---- what is seen of it ---- */

static char self[4096];

typedef struct Outcome {
    int code;
    double seconds;
    char output[OUTPUT_BYTES];
} Outcome;

static void start(const char *role, Outcome *out)
{
    char line[4400];
    size_t length = 0, n = 0;
    const double begin_s = clock_seconds();
    /* Open MPI would sleep for a second between SIGTERM, which ends these ranks, and SIGKILL */
    (void)snprintf(line, sizeof line,
                   "OMPI_MCA_odls_base_sigkill_timeout=0 mpirun -n %d '%s' %s 2>&1 < /dev/null",
                   RANKS, self, role);
    FILE *pipe = popen(line, "re");
    assert_non_null(pipe);
    while (length < OUTPUT_BYTES - 1 &&
           (n = fread(out->output + length, 1, OUTPUT_BYTES - 1 - length, pipe)) > 0)
        length += n;
    out->output[length] = 0;
    const int status = pclose(pipe);
    out->code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    out->seconds = clock_seconds() - begin_s;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), 0);
    const bool found = regexec(&regex, text, 0, NULL, 0) == 0;
    regfree(&regex);
    return found;
}

/* Code 4, in time, and a line of every rank in `by` ("02") that matches the pattern. */
static void ends(const char *role, const char *by, const char *pattern)
{
    Outcome o;
    start(role, &o);
    if (o.code != 4) fail_msg("code %d: %s", o.code, o.output);
    if (o.seconds > 8) fail_msg("after %.1f s", o.seconds);
    for (; *by; by++) {
        char line[1024];
        (void)snprintf(line, sizeof line, "^zoetrope: rank %c: %s", *by, pattern);
        if (!matches(o.output, line)) fail_msg("no line '%s' in %s", line, o.output);
    }
}

#define ON "ranks disagree on call [0-9]+ of the world group, step 12: rank 0 \\([^)]+\\): "
#define AT "at tests/unit/test_hang.c:[0-9]+"
#define ODD "; rank 1 \\([^)]+\\): "

static void rank_that_skips_a_collective_is_named(void **state)
{
    (void)state;
    ends("skips", "012", ON "all-reduce of 4 F64 " AT ODD "all-reduce of 4 F64 " AT);
}

static void other_count_is_named(void **state)
{
    (void)state;
    ends("other_count", "012", ON "all-reduce of 4 F64 " AT ODD "all-reduce of 5 F64 " AT);
}

static void other_type_is_named(void **state)
{
    (void)state;
    ends("other_type", "012", ON "all-reduce of 4 F64 " AT ODD "all-reduce of 4 F32 " AT);
}

static void other_operation_is_named(void **state)
{
    (void)state;
    ends("other_operation", "012",
         ON "all-reduce of 4 F64 " AT ODD "broadcast of 4 F64 from .* " AT);
}

static void other_root_is_named(void **state)
{
    (void)state;
    ends("other_root", "012",
         ON "broadcast of 4 F64 from rank 0 .* " AT ODD "broadcast of 4 F64 from rank 1 .* " AT);
}

static void other_parts_are_named(void **state)
{
    (void)state;
    ends("other_parts", "012", ON "all-gather-v .*other parts");
}

#define STUCK "no rank can go on: rank [012] \\([^)]+\\) waits [0-9.]+ s for rank [012] .* in "
#define LATE "rank 1 \\([^)]+\\) does not come to "

static void rank_that_works_too_long_is_named(void **state)
{
    (void)state;
    ends("works_too_long", "02",
         LATE "all-reduce [0-9]+ of the world group \\(4 F64\\) " AT
              ", step 12, waited for [12]\\.[0-9] s: it waits for nobody");
}

static void rank_that_ends_early_is_named(void **state)
{
    (void)state;
    ends("leaves_early", "012",
         STUCK
         "(all-reduce 1 of the data group .* in end of the job|end of the job .* in all-reduce 1)");
}

static void ranks_that_wait_for_each_other_are_named(void **state)
{
    (void)state;
    ends("waits_elsewhere", "012",
         STUCK "all-reduce .* " AT ", step 12, which waits in all-reduce .* " AT);
}

static void rank_that_never_sends_is_named(void **state)
{
    (void)state;
    ends("never_sends", "012", STUCK "(all-reduce .* in receive 1|receive 1 .* in all-reduce)");
}

static void missing_bucket_is_named(void **state)
{
    (void)state;
    ends("reducer_lacks_a_bucket", "012", STUCK "all-reduce .* which waits in all-reduce");
}

static void long_work_is_no_alarm(void **state)
{
    (void)state;
    Outcome o;
    start("works_long_together", &o);
    if (o.code != 0) fail_msg("code %d: %s", o.code, o.output);
}

int main(int argc, char **argv)
{
    if (argc > 1) return run_rank(argv[1]);
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rank_that_skips_a_collective_is_named),
        cmocka_unit_test(other_count_is_named),
        cmocka_unit_test(other_type_is_named),
        cmocka_unit_test(other_operation_is_named),
        cmocka_unit_test(other_root_is_named),
        cmocka_unit_test(other_parts_are_named),
        cmocka_unit_test(rank_that_works_too_long_is_named),
        cmocka_unit_test(rank_that_ends_early_is_named),
        cmocka_unit_test(ranks_that_wait_for_each_other_are_named),
        cmocka_unit_test(rank_that_never_sends_is_named),
        cmocka_unit_test(missing_bucket_is_named),
        cmocka_unit_test(long_work_is_no_alarm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
