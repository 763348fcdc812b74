#include "core/parallel/pipeline.h"

#include "tests/support/group_threads.h"
#include "tests/support/pipeline_chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

typedef struct Job {
    const Schedule *schedule;
    bool backward;
} Job;

static Status run_rank(int rank, const MeshGroups *groups, void *argument)
{
    (void)rank;
    const Job *job = argument;
    return pipeline_chain_run(job->schedule, groups->pipeline, job->backward, 1);
}

static void run_on_threads(const Schedule *schedule, bool backward)
{
    Job job = { schedule, backward };
    const MeshShape shape = { 1, 1, schedule->stages, 1, 0 };
    const Status s = threads_run(shape, run_rank, &job);
    if (s != OK)
        fail_msg("%d stages, %d micro-batches: %s", schedule->stages, schedule->micros,
                 status_message());
}

static void numbers_flow_through_all_stages_and_gradients_come_back(void **state)
{
    (void)state;
    for (int stages = 1; stages <= 4; stages++) {
        for (int micros = 0; micros <= 9; micros++) {
            Schedule s;
            assert_int_equal(schedule_create(SCHEDULE_1F1B, stages, micros, &s), OK);
            run_on_threads(&s, true);
            schedule_destroy(&s);
        }
    }
}

static void numbers_flow_through_all_stages_forward_only(void **state)
{
    (void)state;
    for (int stages = 1; stages <= 4; stages++) {
        for (int micros = 0; micros <= 9; micros++) {
            Schedule s;
            assert_int_equal(schedule_create(SCHEDULE_FORWARD, stages, micros, &s), OK);
            run_on_threads(&s, false);
            schedule_destroy(&s);
        }
    }
}

/* The checker proves what the interpreter does: whatever it lets pass runs to its end with the
 * right numbers. Every exchange of two slots of one row is tried. */
static void every_accepted_table_runs(void **state)
{
    (void)state;
    int accepted = 0, refused = 0;
    for (int stage = 0; stage < 3; stage++) {
        Schedule s;
        assert_int_equal(schedule_create(SCHEDULE_1F1B, 3, 3, &s), OK);
        for (int i = 0; i < s.counts[stage]; i++) {
            for (int j = i + 1; j < s.counts[stage]; j++) {
                Slot *row = s.slots[stage];
                const Slot a = row[i], b = row[j];
                row[i] = b;
                row[j] = a;
                const bool good = schedule_check(&s, 1) == OK;
                if (good) run_on_threads(&s, true);
                accepted += good;
                refused += !good;
                row[i] = a;
                row[j] = b;
            }
        }
        schedule_destroy(&s);
    }
    /* such as a send that comes one slot later: the test is not empty */
    assert_true(accepted >= 5 && refused >= 100);
}

static Status fail_in_the_middle(void *context, int micro, int slot)
{
    (void)slot;
    const Group *group = context;
    CHECK(group->rank != 1 || micro != 2, ERR_DEVICE, "planted");
    return OK;
}

static int64_t one_value(const void *context, int micro)
{
    (void)context;
    (void)micro;
    return 1;
}

static Status run_failing_rank(int rank, const MeshGroups *groups, void *argument)
{
    (void)rank;
    char memory[4096];
    Arena arena = { .base = memory, .size = sizeof memory, .name = "test" };
    const PipelineStage stage = { groups->pipeline, fail_in_the_middle, fail_in_the_middle,
                                  one_value };
    const PipelineLayout layout = { groups->pipeline->rank, 3, 3, 1, true };
    PipelineBuffers buffers;
    TRY(pipeline_buffers_create(&arena, &layout, &buffers));
    const Status s = pipeline_run(argument, groups->pipeline, &stage, &buffers);
    pipeline_buffers_destroy(&buffers);
    return s;
}

static void stage_that_fails_ends_the_run_with_its_error(void **state)
{
    (void)state;
    Schedule s;
    assert_int_equal(schedule_create(SCHEDULE_1F1B, 3, 5, &s), OK);
    assert_int_equal(threads_run(mesh_shape(1, 1, 3, 1), run_failing_rank, &s), ERR_DEVICE);
    assert_string_equal(status_message(), "rank 1: planted");
    schedule_destroy(&s);
}

static void counting_arena_plans_what_the_buffers_take(void **state)
{
    (void)state;
    /* (100) F32 in 448 bytes, a multiple of 64; the middle stage needs all four a slot */
    static const int64_t expected[3] = { 2 * 2 * 448, 4 * 2 * 448, 2 * 2 * 448 };
    for (int stage = 0; stage < 3; stage++) {
        Arena plan = arena_counting("plan");
        const PipelineLayout layout = { stage, 3, 2, 100, true };
        PipelineBuffers buffers;
        assert_int_equal(pipeline_buffers_create(&plan, &layout, &buffers), OK);
        assert_int_equal(plan.peak, expected[stage]);
        pipeline_buffers_destroy(&buffers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_flow_through_all_stages_and_gradients_come_back),
        cmocka_unit_test(numbers_flow_through_all_stages_forward_only),
        cmocka_unit_test(every_accepted_table_runs),
        cmocka_unit_test(stage_that_fails_ends_the_run_with_its_error),
        cmocka_unit_test(counting_arena_plans_what_the_buffers_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
