/*
 * How jobs start and end: alone, under mpirun, under Slurm without PMIx, with a rank that dies. The
 * program is its own job: `test_launch ROLE` is what each rank runs.
 */
#include "comm/comm.h"
#include "comm/launch.h"
#include "core/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static const char *const launch_variables[] = {
    "OMPI_COMM_WORLD_SIZE",
    "PMIX_RANK",
    "PMI_RANK",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_JOB_ID",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "OMPI_MCA_mpi_yield_when_idle",
};

/* Nothing of the shell that runs the tests, which may be a Slurm job. */
static int clear_environment(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof launch_variables / sizeof launch_variables[0]; i++)
        (void)unsetenv(launch_variables[i]);
    return 0;
}

static void set(const char *name, const char *value)
{
    assert_int_equal(setenv(name, value, 1), 0);
}

static void alone_is_a_world_of_one_without_mpi(void **state)
{
    (void)state;
    Comm *comm;
    MeshGroups g;
    Reducer *reducer;
    float x[3] = { 1, 2, 3 }, y[3] = { 0 };
    const Tensor tx = tensor_of(x, F32, SHAPE(3)), ty = tensor_of(y, F32, SHAPE(1, 3));
    const double start = clock_seconds();
    assert_int_equal(comm_start(&comm), OK);
    /* starting MPI alone takes 0.3 s */
    assert_true(clock_seconds() - start < 0.1);
    assert_int_equal(comm_size(comm), 1);
    assert_int_equal(comm_local_size(comm), 1);
    assert_int_equal(comm_mesh(comm, mesh_shape(1, 1, 1, 1), &g), OK);
    assert_int_equal(group_all_reduce(g.tensor, tx), OK);
    assert_int_equal(group_all_gather(comm_world(comm), ty, tx), OK);
    assert_memory_equal(x, y, sizeof x);
    assert_int_equal(comm_barrier(comm), OK);
    assert_int_equal(comm_agree(comm, OK), OK);
    assert_int_equal(comm_agree(comm, status_fail(ERR_IO, "as it is")), ERR_IO);
    assert_string_equal(status_message(), "as it is");
    assert_int_equal(reducer_create(g.data, REDUCER_BESIDE, &reducer), OK);
    assert_int_equal(reducer_submit(reducer, tx), OK);
    assert_int_equal(reducer_wait(reducer), OK);
    assert_true(x[0] == 1 && x[2] == 3);
    reducer_destroy(reducer);
    comm_finish(comm);
}

static void slurm_tasks_that_do_not_know_each_other_are_refused(void **state)
{
    (void)state;
    Comm *comm;
    /* srun without PMIx */
    set("SLURM_PROCID", "1");
    set("SLURM_NTASKS", "4");
    set("SLURM_STEP_NUM_TASKS", "4");
    assert_int_equal(comm_start(&comm), ERR_USAGE);
    assert_non_null(strstr(status_message(), "Slurm has 4 tasks here but this rank is alone"));
    assert_non_null(strstr(status_message(), "srun --mpi=pmix"));
    /* a batch script that forgot srun */
    (void)unsetenv("SLURM_STEP_NUM_TASKS");
    assert_int_equal(comm_start(&comm), ERR_USAGE);
}

static void one_rank_inside_slurm_is_welcome(void **state)
{
    (void)state;
    Comm *comm;
    /* srun -n 1 in an allocation of 4 */
    set("SLURM_PROCID", "0");
    set("SLURM_NTASKS", "4");
    set("SLURM_STEP_NUM_TASKS", "1");
    assert_int_equal(comm_start(&comm), OK);
    comm_finish(comm);
    /* the shell of salloc */
    clear_environment(NULL);
    set("SLURM_NTASKS", "4");
    assert_int_equal(comm_start(&comm), OK);
    comm_finish(comm);
    /* mpirun -n 1 in a batch script: asked for */
    set("SLURM_PROCID", "0");
    set("OMPI_COMM_WORLD_SIZE", "1");
    const Launch launch = launch_detect();
    assert_true(launch.by_mpi);
    assert_int_equal(launch_check_size(&launch, 1), OK);
}

static void waiting_ranks_yield_only_when_cores_are_short(void **state)
{
    (void)state;
    set("OMPI_COMM_WORLD_LOCAL_SIZE", "1");
    launch_set_defaults();
    assert_null(getenv("OMPI_MCA_mpi_yield_when_idle"));
    set("OMPI_COMM_WORLD_LOCAL_SIZE", "5000");
    launch_set_defaults();
    assert_string_equal(getenv("OMPI_MCA_mpi_yield_when_idle"), "1");
    /* what the user set stays */
    set("OMPI_MCA_mpi_yield_when_idle", "0");
    launch_set_defaults();
    assert_string_equal(getenv("OMPI_MCA_mpi_yield_when_idle"), "0");
}

typedef struct Outcome {
    int code; /* of mpirun; 128 + signal when it was killed */
    double seconds;
    char output[8192];
} Outcome;

/* mpirun -n 3 of this program in a role; what it said and how it ended. */
static void run_job(const char *role, Outcome *out)
{
    char self[4096], command[8192];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = 0;
    (void)snprintf(command, sizeof command, "mpirun -n 3 '%s' %s 2>&1", self, role);
    const double start = clock_seconds();
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    const size_t got = fread(out->output, 1, sizeof out->output - 1, pipe);
    out->output[got] = 0;
    const int status = pclose(pipe);
    out->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    out->seconds = clock_seconds() - start;
}

static void job_that_goes_well_ends_with_0(void **state)
{
    (void)state;
    Outcome o;
    run_job("well", &o);
    if (o.code != 0) print_error("%s\n", o.output);
    assert_int_equal(o.code, 0);
}

static void broken_pipe_does_not_end_a_rank(void **state)
{
    (void)state;
    Outcome o;
    run_job("piping", &o);
    if (o.code != 0) print_error("%s\n", o.output);
    assert_int_equal(o.code, 0);
}

static void killed_rank_ends_the_job_within_10_s(void **state)
{
    (void)state;
    Outcome o;
    run_job("killed", &o);
    assert_non_null(strstr(o.output, "rank 1 dies\n"));
    assert_int_not_equal(o.code, 0);
    assert_true(o.seconds < 10);
}

static void abort_ends_the_job_with_the_code_of_the_status(void **state)
{
    (void)state;
    Outcome o;
    run_job("aborting", &o);
    assert_int_equal(o.code, 3);
    assert_true(o.seconds < 10);
    assert_non_null(strstr(o.output, "zoetrope: rank 1: shard 7 is damaged\n"));
}

/* ---- what the ranks of those jobs do ---- */

static Status work(Comm *comm, int rounds)
{
    enum { VALUES = 100000 };
    float *x = calloc(VALUES, sizeof *x);
    CHECK(x, ERR_MEMORY, "no memory for the test");
    Status s = OK;
    for (int i = 0; i < rounds && s == OK; i++)
        s = group_all_reduce(comm_world(comm), tensor_of(x, F32, SHAPE(VALUES)));
    free(x);
    return s;
}

static int run_rank(const char *role)
{
    Comm *comm;
    (void)alarm(60);
    if (comm_start(&comm) != OK) return 1;
    const bool special = comm_rank(comm) == 1;
    if (strcmp(role, "piping") == 0) {
        int ends[2];
        const bool told = pipe(ends) == 0 && close(ends[0]) == 0 && write(ends[1], "x", 1) == -1;
        comm_finish(comm);
        return told ? 0 : 1;
    }
    Status s = work(comm, 10);
    if (strcmp(role, "well") == 0) {
        comm_finish(comm);
        return s == OK ? 0 : 1;
    }
    if (special && s == OK && strcmp(role, "killed") == 0) {
        (void)fprintf(stderr, "rank 1 dies\n");
        (void)raise(SIGKILL);
    }
    if (special) comm_abort(comm, status_fail(ERR_FORMAT, "shard 7 is damaged"));
    /* the others are in the middle of a sum that will never end */
    s = work(comm, 1000000);
    comm_abort(comm, s);
}

int main(int argc, char **argv)
{
    if (argc > 1) return run_rank(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(alone_is_a_world_of_one_without_mpi, clear_environment),
        cmocka_unit_test_setup(slurm_tasks_that_do_not_know_each_other_are_refused,
                               clear_environment),
        cmocka_unit_test_setup(one_rank_inside_slurm_is_welcome, clear_environment),
        cmocka_unit_test_setup(waiting_ranks_yield_only_when_cores_are_short, clear_environment),
        cmocka_unit_test_setup(job_that_goes_well_ends_with_0, clear_environment),
        cmocka_unit_test_setup(broken_pipe_does_not_end_a_rank, clear_environment),
        cmocka_unit_test_setup(killed_rank_ends_the_job_within_10_s, clear_environment),
        cmocka_unit_test_setup(abort_ends_the_job_with_the_code_of_the_status, clear_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
