#include "core/parallel/pipeline.h"

#include "tests/support/bubble_formula.h"
#include "tests/support/group_threads.h"
#include "tests/support/pipeline_chain.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

typedef struct Job {
    const Schedule *schedule;
    Trace *traces; /* (stages), or NULL */
} Job;

static Status run_rank(int rank, const MeshGroups *groups, void *argument)
{
    const Job *job = argument;
    return pipeline_chain_run(job->schedule, groups->pipeline, 1,
                              job->traces ? &job->traces[rank] : NULL);
}

static void run_on_threads(const Schedule *schedule, Trace *traces)
{
    Job job = { schedule, traces };
    const Status s = threads_run(mesh_shape(1, 1, schedule->stages, 1), run_rank, &job);
    if (s != OK)
        fail_msg("%d stages, %d chunks, %d micro-batches: %s", schedule->stages, schedule->chunks,
                 schedule->micros, status_message());
}

static void run_kind(ScheduleKind kind, int chunks)
{
    for (int stages = chunks > 1 ? 2 : 1; stages <= 4; stages++) {
        for (int micros = 0; micros <= 9; micros++) {
            const ScheduleOptions options = { kind, stages, chunks, micros };
            Schedule s;
            assert_int_equal(schedule_create(&options, &s), OK);
            run_on_threads(&s, NULL);
            schedule_destroy(&s);
        }
    }
}

static void numbers_flow_through_all_stages_and_gradients_come_back(void **state)
{
    (void)state;
    run_kind(SCHEDULE_1F1B, 1);
    run_kind(SCHEDULE_GPIPE, 1);
    run_kind(SCHEDULE_ZERO_BUBBLE, 1);
}

static void numbers_wrap_around_through_all_chunks(void **state)
{
    (void)state;
    run_kind(SCHEDULE_INTERLEAVED, 1);
    run_kind(SCHEDULE_INTERLEAVED, 2);
    run_kind(SCHEDULE_INTERLEAVED, 3);
}

static void numbers_flow_through_all_stages_forward_only(void **state)
{
    (void)state;
    run_kind(SCHEDULE_FORWARD, 1);
    run_kind(SCHEDULE_FORWARD, 3);
}

/* A row's trace is the row; a message is received after it was sent. */
static void interpreter_records_what_ran(void **state)
{
    (void)state;
    enum { STAGES = 3, CHUNKS = 2, MICROS = 5 };
    const ScheduleOptions options = { SCHEDULE_INTERLEAVED, STAGES, CHUNKS, MICROS };
    double sent[STAGES * CHUNKS][MICROS] = { { 0 } };
    Trace traces[STAGES];
    Schedule s;
    assert_int_equal(schedule_create(&options, &s), OK);
    for (int rank = 0; rank < STAGES; rank++)
        assert_int_equal(trace_create(s.counts[rank], &traces[rank]), OK);
    run_on_threads(&s, traces);
    for (int rank = 0; rank < STAGES; rank++) {
        assert_int_equal(traces[rank].count, s.counts[rank]);
        for (int i = 0; i < traces[rank].count; i++) {
            const TraceEvent e = traces[rank].events[i];
            assert_memory_equal(&e.slot, &s.slots[rank][i], sizeof e.slot);
            assert_true(e.start <= e.end);
            assert_true(i == 0 || traces[rank].events[i - 1].end <= e.start);
            if (e.slot.kind == SLOT_SEND_FORWARD)
                sent[schedule_virtual_stage(&s, rank, e.slot.chunk)][e.slot.micro] = e.start;
        }
    }
    for (int rank = 0; rank < STAGES; rank++) {
        for (int i = 0; i < traces[rank].count; i++) {
            const TraceEvent e = traces[rank].events[i];
            if (e.slot.kind == SLOT_RECEIVE_FORWARD)
                assert_true(e.end >
                            sent[schedule_virtual_stage(&s, rank, e.slot.chunk) - 1][e.slot.micro]);
        }
    }
    const double bubble = trace_bubble(traces, STAGES);
    assert_true(bubble >= 0.0 && bubble < 1.0);
    traces_destroy(traces, STAGES);
    schedule_destroy(&s);
}

/* ---- time that does not depend on the machine ---- */

static const ScheduleTimes unit = { 12, 12, 12 };

/* A rank whose work takes no time but counts it: a message says when it was ready. */
typedef struct Watch {
    const Schedule *schedule;
    int rank;
    PipelineBuffers buffers;
    double now;
    Trace *trace;
} Watch;

static void work(Watch *w, SlotKind kind, PipelineTurn turn, double cost, Tensor in, Tensor out)
{
    const double ready = in.data ? (double)tensor_f32(in)[0] : 0.0;
    const double start = ready > w->now ? ready : w->now;
    w->now = start + cost / w->schedule->chunks;
    trace_add(w->trace, (Slot){ kind, turn.micro, turn.chunk }, start, w->now);
    if (out.data) tensor_f32(out)[0] = (float)w->now;
}

static Status watch_forward(void *context, PipelineTurn turn)
{
    Watch *w = context;
    const PipelineSlot b = pipeline_slot(&w->buffers, turn);
    work(w, SLOT_FORWARD, turn, unit.forward, b.in, b.out);
    return OK;
}

static Status watch_backward(void *context, PipelineTurn turn)
{
    Watch *w = context;
    const PipelineSlot b = pipeline_slot(&w->buffers, turn);
    const double late = w->schedule->weights ? 0.0 : unit.weights;
    work(w, SLOT_BACKWARD, turn, unit.backward + late, b.dout, b.din);
    return OK;
}

static Status watch_weights(void *context, PipelineTurn turn)
{
    work(context, SLOT_WEIGHTS, turn, unit.weights, tensor_none(), tensor_none());
    return OK;
}

static int64_t one_value(const void *context, int micro)
{
    (void)context;
    (void)micro;
    return 1;
}

static Status run_watch(int rank, const MeshGroups *groups, void *argument)
{
    const Job *job = argument;
    const Schedule *s = job->schedule;
    Watch w = { .schedule = s, .rank = rank, .trace = &job->traces[rank] };
    const PipelineStage stage = { .context = &w,
                                  .forward = watch_forward,
                                  .backward = watch_backward,
                                  .weights = watch_weights,
                                  .message_count = one_value };
    const PipelineLayout layout = { rank, s->stages, s->chunks, s->in_flight, 1, true };
    Arena arena;
    TRY(arena_create(&arena, "test", 64 * 1024));
    Status status = pipeline_buffers_create(&arena, &layout, &w.buffers);
    if (status == OK) status = pipeline_run(s, groups->pipeline, &stage, &w.buffers);
    pipeline_buffers_destroy(&w.buffers);
    arena_destroy(&arena);
    return status;
}

static void check_bubble(const ScheduleOptions *options)
{
    Schedule s;
    Trace traces[8];
    assert_int_equal(schedule_create(options, &s), OK);
    for (int rank = 0; rank < s.stages; rank++)
        assert_int_equal(trace_create(s.counts[rank], &traces[rank]), OK);
    Job job = { &s, traces };
    if (threads_run(mesh_shape(1, 1, s.stages, 1), run_watch, &job) != OK)
        fail_msg("%s", status_message());
    const double got = trace_bubble(traces, s.stages), want = bubble_fraction(options, &unit);
    /* whole numbers but for the last division */
    if (!(fabs(got - want) < 1e-15))
        fail_msg("kind %d, %d stages, %d chunks, %d micro-batches: bubble %g, expected %g",
                 (int)options->kind, s.stages, s.chunks, s.micros, got, want);
    traces_destroy(traces, s.stages);
    schedule_destroy(&s);
}

static void bubble_of_what_ran_is_the_formulas(void **state)
{
    (void)state;
    for_every_bubble(check_bubble);
}

/* The checker proves what the interpreter does: whatever it lets pass runs to its end with the
 * right numbers. Every exchange of two slots of one row is tried. */
static void try_every_exchange(const ScheduleOptions *options, int *accepted, int *refused)
{
    for (int stage = 0; stage < options->stages; stage++) {
        Schedule s;
        assert_int_equal(schedule_create(options, &s), OK);
        for (int i = 0; i < s.counts[stage]; i++) {
            for (int j = i + 1; j < s.counts[stage]; j++) {
                Slot *row = s.slots[stage];
                const Slot a = row[i], b = row[j];
                row[i] = b;
                row[j] = a;
                const bool good = schedule_check(&s) == OK;
                if (good) run_on_threads(&s, NULL);
                *accepted += good;
                *refused += !good;
                row[i] = a;
                row[j] = b;
            }
        }
        schedule_destroy(&s);
    }
}

static void every_accepted_table_runs(void **state)
{
    (void)state;
    static const ScheduleOptions tables[] = { { SCHEDULE_1F1B, 3, 1, 3 },
                                              { SCHEDULE_GPIPE, 3, 1, 2 },
                                              { SCHEDULE_INTERLEAVED, 2, 2, 2 },
                                              { SCHEDULE_ZERO_BUBBLE, 3, 1, 3 } };
    for (size_t k = 0; k < sizeof tables / sizeof tables[0]; k++) {
        int accepted = 0, refused = 0;
        try_every_exchange(&tables[k], &accepted, &refused);
        /* such as a send that comes one slot later: the test is not empty */
        assert_true(accepted >= 5 && refused >= 100);
    }
}

static Status fail_in_the_middle(void *context, PipelineTurn turn)
{
    const Group *group = context;
    CHECK(group->rank != 1 || turn.micro != 2, ERR_DEVICE, "planted");
    return OK;
}

static Status run_failing_rank(int rank, const MeshGroups *groups, void *argument)
{
    (void)rank;
    char memory[4096];
    Arena arena = { .base = memory, .size = sizeof memory, .name = "test" };
    const PipelineStage stage = { .context = groups->pipeline,
                                  .forward = fail_in_the_middle,
                                  .backward = fail_in_the_middle,
                                  .message_count = one_value };
    const PipelineLayout layout = { groups->pipeline->rank, 3, 1, 3, 1, true };
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
    const ScheduleOptions options = { SCHEDULE_1F1B, 3, 1, 5 };
    assert_int_equal(schedule_create(&options, &s), OK);
    assert_int_equal(threads_run(mesh_shape(1, 1, 3, 1), run_failing_rank, &s), ERR_DEVICE);
    assert_string_equal(status_message(), "rank 1: planted");
    schedule_destroy(&s);
}

static void counting_arena_plans_what_the_buffers_take(void **state)
{
    (void)state;
    /* (100) F32 in 448 bytes, a multiple of 64; a stage in the middle needs all four a slot, the
     * first and the last of all chunks two */
    static const int64_t expected[2][3] = { { 2 * 2 * 448, 4 * 2 * 448, 2 * 2 * 448 },
                                            { 6 * 2 * 448, 8 * 2 * 448, 6 * 2 * 448 } };
    for (int chunks = 1; chunks <= 2; chunks++) {
        for (int rank = 0; rank < 3; rank++) {
            Arena plan = arena_counting("plan");
            const PipelineLayout layout = { rank, 3, chunks, 2, 100, true };
            PipelineBuffers buffers;
            assert_int_equal(pipeline_buffers_create(&plan, &layout, &buffers), OK);
            assert_int_equal(plan.peak, expected[chunks - 1][rank]);
            pipeline_buffers_destroy(&buffers);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_flow_through_all_stages_and_gradients_come_back),
        cmocka_unit_test(numbers_wrap_around_through_all_chunks),
        cmocka_unit_test(numbers_flow_through_all_stages_forward_only),
        cmocka_unit_test(interpreter_records_what_ran),
        cmocka_unit_test(bubble_of_what_ran_is_the_formulas),
        cmocka_unit_test(every_accepted_table_runs),
        cmocka_unit_test(stage_that_fails_ends_the_run_with_its_error),
        cmocka_unit_test(counting_arena_plans_what_the_buffers_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
