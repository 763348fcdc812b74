/*
 * plan: what a plan says of any rank, from sizes alone, is what the run on that mesh reserves, to
 * the byte and row by row.
 */
/* ranks: 1 2 4 */
#include "core/base/log.h"
#include "tests/support/plan_case.h"
#include "train/state.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static Comm *comm;

static void must(Status status)
{
    if (status != OK) print_error("%s\n", status_message());
    assert_int_equal(status, OK);
}

/* Sizes that no degree divides, and whose largest is in the middle. */
static const int64_t odd_sizes[][3] = { { 1, 4, 6 }, { 3, 6, 10 }, { 5, 2, 6 } };
enum { SIZES = 3 };

static void make_sizes(DatasetBucket out[SIZES])
{
    for (int i = 0; i < SIZES; i++) {
        out[i] = plan_case_bucket(odd_sizes[i][0], odd_sizes[i][1], odd_sizes[i][2]);
        out[i].clips = (PLAN_CLIPS + SIZES - 1 - i) / SIZES; /* dealt in turn */
    }
}

/* The arena is memory of the size that it says. */
static void assert_held(const Arena *arena)
{
    assert_non_null(arena->base);
    const size_t usable = malloc_usable_size(arena->base);
    assert_true(usable >= arena->size);
    assert_true(usable <= arena->size + 8192); /* the heap's own rounding, to pages when large */
}

/* Everything large is an arena of the state. */
static int64_t held_in_arenas(const TrainState *s)
{
    const Arena *fixed[] = { &s->weights_arena, &s->grads_arena, &s->optimizer_arena,
                             &s->step.scratch, &s->saving_arena };
    int64_t bytes = 0;
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        assert_held(fixed[i]);
        bytes += (int64_t)fixed[i]->size;
    }
    for (int i = 0; i < s->step.slot_count * s->step.schedule.chunks; i++) {
        const StepSlot *slot = &s->step.slots[i];
        assert_held(&slot->model.arena);
        assert_held(&slot->arena);
        if (s->step.schedule.weights) assert_held(&slot->model.later.arena);
        bytes += (int64_t)(dit_slot_bytes(&slot->model) + slot->arena.size);
    }
    if (s->config.numerics) assert_held(&s->exact.arena);
    if (s->groups.pipeline->size > 1) assert_held(&s->step.messages);
    if (s->heldout) assert_held(&s->heldout_space.arena);
    if (s->heldout) assert_held(&s->velocity.arena);
    return bytes +
           (int64_t)(s->exact.arena.size + s->step.messages.size + velocity_bytes(&s->velocity) +
                     s->heldout_space.arena.size + sampling_bytes(&s->sampling));
}

static void compare_rows(const PlanCase *c, int rank, const RankMemory *planned,
                         const RankMemory *held)
{
    for (int i = 0; i < MEMORY_ROWS; i++)
        if (planned->bytes[i] != held->bytes[i])
            print_error("%s: rank %d, %s: planned %lld, held %lld\n", c->keys, rank,
                        memory_row_name((MemoryRow)i), (long long)planned->bytes[i],
                        (long long)held->bytes[i]);
    assert_memory_equal(planned, held, sizeof *planned);
}

/* What only some runs have is there in those, in its own row. */
static void check_rows(const TrainState *s, const RankMemory *held)
{
    assert_int_equal(held->bytes[MEMORY_EXACT], s->exact.arena.size);
    assert_int_equal(held->bytes[MEMORY_EXACT] > 0, s->config.numerics != 0);
    assert_int_equal(held->bytes[MEMORY_QUEUE] > 0, s->step.schedule.weights);
}

static void check_memory(const PlanCase *c, const char *dir, BucketList sizes)
{
    TrainConfig config;
    TrainState s;
    RankMemory held, all[4], planned;
    plan_case_config(dir, "memory", c->keys, &config);
    must(train_state_create(comm, &config, &s));
    must(train_state_memory(&s, &held));
    check_rows(&s, &held);
    const int64_t elsewhere = held.bytes[MEMORY_COLLECTIVES] + held.bytes[MEMORY_LOADER];
    assert_int_equal(held_in_arenas(&s) + elsewhere, memory_total(&held));

    /* every rank knows every rank's */
    must(group_all_gather(comm_world(comm), tensor_of(all, I64, SHAPE(c->ranks, MEMORY_ROWS)),
                          tensor_of(held.bytes, I64, SHAPE(MEMORY_ROWS))));
    const StatePlan plan = plan_case_plan(&config, sizes);
    for (int r = 0; r < c->ranks; r++) {
        const Mesh mesh = mesh_of_rank(s.groups.mesh.shape, r);
        must(state_plan_rank(&plan, &mesh, &planned, NULL));
        compare_rows(c, r, &planned, &all[r]);
    }
    train_state_destroy(&s);
}

static void plan_is_what_every_rank_reserves(void **state)
{
    (void)state;
    DatasetBucket buckets[SIZES];
    char dir[256];
    make_sizes(buckets);
    plan_case_dataset(comm, buckets, SIZES, dir);
    for (int i = 0; i < plan_case_count; i++)
        if (plan_cases[i].ranks == comm_size(comm))
            check_memory(&plan_cases[i], dir, (BucketList){ buckets, SIZES });
    plan_case_remove(comm, dir);
}

/* Exact numerics go clip by clip: larger micro-batches take no more. */
static void exact_micro_batches_take_what_one_clip_does(void **state)
{
    (void)state;
    static const char *const keys[] = { "numerics=exact", "numerics=exact data.micro_batch=4",
                                        "data.micro_batch=4" };
    const Mesh mesh = mesh_of_rank(mesh_shape(1, 1, 1, 1), 0);
    DatasetBucket buckets[SIZES];
    RankMemory memory[3];
    make_sizes(buckets);
    for (int i = 0; i < 3; i++) {
        TrainConfig config;
        plan_case_config("/nowhere", "run", keys[i], &config);
        const StatePlan plan = plan_case_plan(&config, (BucketList){ buckets, SIZES });
        must(state_plan_rank(&plan, &mesh, &memory[i], NULL));
    }
    assert_memory_equal(&memory[0], &memory[1], sizeof memory[0]);
    assert_true(memory[2].bytes[MEMORY_STREAM] > memory[1].bytes[MEMORY_STREAM]);
}

int main(void)
{
    must(comm_start(&comm));
    log_set_quiet(true);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_is_what_every_rank_reserves),
        cmocka_unit_test(exact_micro_batches_take_what_one_clip_does),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_finish(comm);
    return failed;
}
