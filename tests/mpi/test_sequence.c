/* ranks: 2 4 */
/*
 * Attention over a context axis of processes: the numbers of one process, and in exact numerics
 * its bits. Every rank solves the case alone as well.
 */
#include "tests/model/sequence_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

static Comm *comm;

/* Forward and backward over a context axis of all ranks; every rank gets the whole clip. */
static Status run_over(SequenceRun *run, int ulysses)
{
    MeshGroups groups;
    const int size = comm_size(comm);
    TRY(comm_mesh(comm, (MeshShape){ 1, 1, 1, size, ulysses, 0 }, &groups));
    TRY(sequence_run_rank(groups.context->rank, &groups, run));
    /* other ranks' tokens are zero here */
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++)
        TRY(group_all_reduce(groups.context,
                             tensor_of(run->got[i], F32, SHAPE(sequence_case_count(run->c)))));
    return OK;
}

static Status run_alone(SequenceRun *run)
{
    Group one = group_self();
    const MeshGroups groups = { .ulysses = &one, .ring = &one };
    return sequence_run_rank(0, &groups, run);
}

/* Adding zeros makes 0 of -0, which equals it. */
static int64_t different_values(const SequenceRun *a, const SequenceRun *b)
{
    int64_t different = 0;
    for (int i = 0; i < SEQUENCE_OUTPUTS; i++)
        for (int64_t e = 0; e < sequence_case_count(a->c); e++)
            different += !(a->got[i][e] == b->got[i][e]);
    return different;
}

/* Blocks of 165 x 12 x 32 / 4 numbers: above what MPI sends without asking the receiver. */
static void any_cut_is_one_process(void **state)
{
    (void)state;
    SequenceCase c;
    sequence_case_create(&c, (SequenceShape){ 1, 165, 12, 32 }, 0.2f);
    sequence_case_solve(&c);
    for (int chunks = 0; chunks <= 8; chunks += 8) {
        SequenceRun alone;
        sequence_run_create(&alone, &c, chunks, NULL);
        assert_int_equal(run_alone(&alone), OK);
        for (int ulysses = 1; ulysses <= comm_size(comm); ulysses *= 2) {
            SequenceRun run;
            sequence_run_create(&run, &c, chunks, NULL);
            if (run_over(&run, ulysses) != OK) fail_msg("%s", status_message());
            assert_true(sequence_run_error(&run) < 2e-6); /* as derived in model/test_sequence.c */
            if (chunks > 0) assert_int_equal(different_values(&run, &alone), 0);
            sequence_run_destroy(&run);
        }
        sequence_run_destroy(&alone);
    }
    sequence_case_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(any_cut_is_one_process) };
    /* a rank that waits for one whose test failed ends the job instead */
    (void)alarm(240);
    if (comm_start(&comm) != OK) {
        (void)fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(comm);
    return failed;
}
