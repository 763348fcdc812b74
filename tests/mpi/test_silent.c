/*
 * Silent faults, made by hand in a run's own memory: a bit in a replica's weights, moments
 * or average, and in sums that a step has left; what a second computation leaves of the first.
 */
/* ranks: 1 2 4 */
#include "core/base/clock.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "tests/support/plan_case.h"
#include "train/replay.h"
#include "train/state.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static Comm *comm;
static char dataset[256];

static void must(Status status)
{
    if (status != OK) print_error("%s\n", status_message());
    assert_int_equal(status, OK);
}

/* A run under way: its weights, its first batch. */
typedef struct Scene {
    TrainState state;
    Replicas replicas;
    Replay replay;
    const Batch *batch;
    ExactTotals totals;
} Scene;

static void scene_open(Scene *s, const char *keys)
{
    TrainConfig config;
    int64_t step;
    plan_case_config(dataset, "silent", keys, &config);
    *s = (Scene){ 0 };
    must(train_state_create(comm, &config, &s->state));
    must(train_state_load(&s->state, &step));
    must(replicas_create(comm, &s->state.optimizer, &s->replicas));
    must(replay_create(&s->state, &s->replicas, &s->replay));
    must(loader_next(s->state.loader, &s->batch));
}

static void scene_close(Scene *s)
{
    replay_destroy(&s->replay);
    replicas_destroy(&s->replicas);
    train_state_destroy(&s->state);
}

static void run_step(Scene *s)
{
    double loss_sum;
    must(train_step_run(&s->state.step, s->batch, &loss_sum));
    if (s->state.step.exact) must(exact_totals(&s->state, &s->totals));
}

static void flip(Tensor t, int64_t element)
{
    ((unsigned char *)t.data)[4 * element] ^= 1;
}

/* What the first rank says in its last message, everybody has. */
static bool all_have_said(const char *text)
{
    double said = strstr(status_message(), text) ? 1.0 : 0.0;
    if (said == 0.0) print_error("'%s' is not in: %s\n", text, status_message());
    must(group_all_reduce(comm_world(comm), tensor_of(&said, F64, SHAPE(1))));
    return (int)said == comm_size(comm);
}

/* ---- replicas ------------------------------------------------------------------------------- */

/* One bit of one rank's, in every part that is compared, and the honest state between them. */
static void check_flips(const char *keys, int rank, const char *named)
{
    Scene s;
    scene_open(&s, keys);
    Optimizer *o = &s.state.optimizer;
    const Tensor parts[] = { o->weights, o->exp_avg, o->exp_avg_sq, o->ema };
    static const char *const names[] = { "weights", "exp_avg", "exp_avg_sq", "ema" };
    must(replicas_check(&s.replicas, 0));
    for (int i = 0; i < (o->shards ? 1 : 4); i++) {
        char text[160];
        const int64_t at = tensor_count(parts[i]) / 3 * 2;
        (void)snprintf(text, sizeof text, "step 7: %s of %s", names[i], named);
        if (comm_rank(comm) == rank) flip(parts[i], at);
        assert_int_equal(replicas_check(&s.replicas, 7), ERR_DEVICE);
        assert_true(all_have_said(text));
        if (comm_rank(comm) == rank) flip(parts[i], at);
        must(replicas_check(&s.replicas, 8));
    }
    scene_close(&s);
}

static void flipped_bit_is_found_in_every_part(void **state)
{
    (void)state;
    static const struct {
        int ranks, rank;
        const char *keys, *named;
    } cases[] = {
        { 2, 1, "parallel.data=2", "rank 0 (" },
        { 2, 0, "parallel.data=2 parallel.zero=0", "rank 0 (" },
        { 2, 1, "parallel.context=2 parallel.zero=0", "rank 0 (" },
        { 4, 2, "parallel.data=4", "rank 2 (" },
        { 4, 0, "parallel.data=4 parallel.zero=0", "rank 0 (" },
        { 4, 3, "parallel.data=2 parallel.context=2 parallel.zero=0", "rank 3 (" },
        { 4, 3, "parallel.data=2 parallel.tensor=2 parallel.zero=0", "rank 1 (" },
        { 4, 1, "parallel.data=2 parallel.pipeline=2 numerics=exact", "rank 0 (" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].ranks == comm_size(comm))
            check_flips(cases[i].keys, cases[i].rank, cases[i].named);
}

/* ---- replays -------------------------------------------------------------------------------- */

static uint64_t bits_of(Tensor t)
{
    return hash_blocks(t.data, tensor_bytes(t), 1);
}

static void each_mesh(void (*check)(const char *keys))
{
    static const PlanCase cases[] = {
        { 1, "numerics=exact" },
        { 1, "numerics=exact parallel.schedule=zero_bubble data.batch=5" },
        { 2, "numerics=exact parallel.data=2 data.batch=5" },
        { 2, "numerics=exact parallel.tensor=2 parallel.zero=0" },
        { 2, "numerics=exact parallel.context=2 parallel.ulysses=1" },
        { 2, "numerics=exact parallel.pipeline=2 parallel.schedule=zero_bubble" },
        { 4, "numerics=exact parallel.data=4 data.batch=5" },
        { 4, "numerics=exact parallel.data=2 parallel.context=2 parallel.recompute=block" },
        { 4, "numerics=exact parallel.data=2 parallel.pipeline=2" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (cases[i].ranks == comm_size(comm)) check(cases[i].keys);
}

/* Told apart from its like by a made-up total, so that the replay has something to do: afterwards
 * the bits are those of before, and of the same totals. */
static void check_replay(const char *keys)
{
    Scene s;
    scene_open(&s, keys);
    run_step(&s);
    const Optimizer *o = &s.state.optimizer;
    const uint64_t grads = bits_of(o->grads), weights = bits_of(o->weights);
    const ExactSum loss = s.state.step.exact_loss;
    for (int i = 0; i < REPLAY_LEAST; i++)
        s.replay.norms[s.replay.count++] = sqrt(s.totals.square_norm) / (REPLAY_SPIKE + 1);
    must(replay_check(&s.replay, s.batch, 1, &s.totals));
    assert_true(bits_of(o->grads) == grads);
    assert_true(bits_of(o->weights) == weights);
    assert_memory_equal(&s.state.step.exact_loss, &loss, sizeof loss);
    /* the loader has not moved: the next step is the second */
    must(loader_next(s.state.loader, &s.batch));
    assert_int_equal(s.batch->step, 1);
    scene_close(&s);
}

static void replay_leaves_the_step_as_it_was(void **state)
{
    (void)state;
    each_mesh(check_replay);
}

/* The last rank's sums, or what all ranks' came to there, had one bit otherwise the first time. */
static void check_fault(const char *keys)
{
    for (int own = 0; own < 2; own++) {
        Scene s;
        char named[64];
        const int last = comm_size(comm) - 1;
        scene_open(&s, keys);
        run_step(&s);
        for (int i = 0; i < REPLAY_LEAST; i++) s.replay.norms[s.replay.count++] = 1e-30;
        if (comm_rank(comm) == last) flip(own ? s.state.exact.sums : s.state.optimizer.grads, 3);
        assert_int_equal(replay_check(&s.replay, s.batch, 9, &s.totals), ERR_DEVICE);
        (void)snprintf(named, sizeof named, "%s of rank %d (", own ? "sums" : "sums over all ranks",
                       last);
        assert_true(all_have_said("step 9: gradient norm"));
        assert_true(all_have_said(named));
        scene_close(&s);
    }
}

static void other_bits_are_hardware_and_the_rank_is_named(void **state)
{
    (void)state;
    each_mesh(check_fault);
}

static void wrong_weights_are_not_taken_for_data(void **state)
{
    (void)state;
    if (comm_size(comm) != 4) return;
    Scene s;
    scene_open(&s, "numerics=exact parallel.data=4");
    if (comm_rank(comm) == 1) flip(s.state.optimizer.weights, 0);
    run_step(&s);
    s.totals.loss_sum = NAN;
    assert_int_equal(replay_check(&s.replay, s.batch, 5, &s.totals), ERR_DEVICE);
    assert_true(all_have_said("step 4: weights of rank 1 ("));
    scene_close(&s);
}

/* Only what is far from usual is computed again: a step costs nothing otherwise. */
static void usual_norms_are_not_suspicious(void **state)
{
    (void)state;
    Scene s;
    scene_open(&s, "numerics=exact");
    run_step(&s);
    flip(s.state.exact.sums, 0); /* a second computation would see it */
    static const double norms[] = { 1e9, 4, 2, 1, 3, 7, 15, 1e-9, 3, 4, 20, 2, 2, 15, 1, 9, 3, 2 };
    for (size_t i = 0; i < sizeof norms / sizeof norms[0]; i++) {
        const ExactTotals totals = { 1.0, norms[i] * norms[i] };
        must(replay_check(&s.replay, s.batch, (int64_t)i, &totals));
    }
    /* the median of the last 16 is 3 */
    const ExactTotals just = { 1.0, 24.0 * 24.0 }, above = { 1.0, 24.1 * 24.1 };
    must(replay_check(&s.replay, s.batch, 20, &just));
    assert_int_equal(replay_check(&s.replay, s.batch, 21, &above), ERR_DEVICE);
    scene_close(&s);
}

/* ---- cost ----------------------------------------------------------------------------------- */

/* Weights of the preset `small`, 38.9 million, as docs/benchmarks.md sets them against a step. */
static void check_of_small_is_cheap(void **state)
{
    (void)state;
    enum { RUNS = 5 };
    const int64_t count = 38900000;
    if (comm_size(comm) != 2) return;
    float *weights = calloc((size_t)count, sizeof *weights);
    const Mesh mesh = mesh_of_rank(mesh_shape(2, 1, 1, 1), comm_rank(comm));
    const Device dev = { .threads = 1 };
    const BucketShards shards = { .size = 2 };
    const Optimizer o = { .dev = &dev,
                          .mesh = &mesh,
                          .weights = tensor_of(weights, F32, SHAPE(count)),
                          .shards = &shards };
    Replicas replicas;
    double best_s = 1e9;
    assert_non_null(weights);
    for (int64_t i = 0; i < count; i++) weights[i] = (float)(i % 1000) * 1e-3f;
    must(replicas_create(comm, &o, &replicas));
    for (int i = 0; i < RUNS; i++) {
        must(comm_barrier(comm));
        const double start_s = clock_seconds();
        must(replicas_check(&replicas, i));
        best_s = fmin(best_s, clock_seconds() - start_s);
    }
    if (comm_rank(comm) == 0)
        printf("note: 38.9 M weights on each of 2 ranks compared in %.1f ms, %.1f GB/s a rank\n",
               best_s * 1e3, 4e-9 * (double)count / best_s);
    replicas_destroy(&replicas);
    free(weights);
}

int main(void)
{
    must(comm_start(&comm));
    log_set_quiet(true);
    const DatasetBucket bucket = plan_case_bucket(3, 6, 10);
    plan_case_dataset(comm, &bucket, 1, dataset);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flipped_bit_is_found_in_every_part),
        cmocka_unit_test(replay_leaves_the_step_as_it_was),
        cmocka_unit_test(other_bits_are_hardware_and_the_rank_is_named),
        cmocka_unit_test(wrong_weights_are_not_taken_for_data),
        cmocka_unit_test(usual_norms_are_not_suspicious),
        cmocka_unit_test(check_of_small_is_cheap),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    plan_case_remove(comm, dataset);
    comm_finish(comm);
    return failed;
}
