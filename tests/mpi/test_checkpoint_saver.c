/*
 * checkpoint_saver: what is saved beside training is what the tensors held when the save began,
 * whatever becomes of them meanwhile and however small the buffer is; nothing of a save that was
 * given up or failed is ever taken for a checkpoint.
 */
/* ranks: 1 2 4 */
#include "core/formats/manifest.h"
#include "tests/support/checkpoint_side.h"
#include "train/checkpoint_saver.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* less than one tensor, not a multiple of anything; and more than all files together */
enum { TIGHT = 4099, WIDE = 8 << 20 };

typedef struct Saving {
    Side side;
    CheckpointSaver *saver;
    void *buffer;
} Saving;

/* On a mesh on which shards travel, where there is one. */
static MeshShape sharded_mesh(void)
{
    MeshShape shapes[SIDE_MESHES];
    return shapes[meshes(shapes) > 2 ? 2 : 0];
}

static void saving_create(int64_t bytes, int keep, Saving *s)
{
    const CheckpointOptions options = { .run_dir = run_dir,
                                        .keep = keep,
                                        .max_file_bytes = 100000 };
    *s = (Saving){ .buffer = malloc((size_t)bytes) };
    remove_run();
    side_create(sharded_mesh(), true, &s->side);
    assert_int_equal(
        checkpoint_saver_create(comm, &s->side.groups, &options, s->buffer, bytes, &s->saver), OK);
}

static void saving_destroy(Saving *s)
{
    checkpoint_saver_destroy(s->saver);
    side_destroy(&s->side);
    free(s->buffer);
}

static Status begin(Saving *s, int64_t step)
{
    set_step(&s->side, step);
    const Status status = checkpoint_saver_begin(s->saver, &s->side.state, true);
    /* the next step overwrites all */
    set_step(&s->side, step + 1000);
    return status;
}

/* As the trainer does it, with each step's control all-reduce: the files, then the commit. */
static void take_steps_until_saved(Saving *s)
{
    for (int advanced = 0; advanced < 2;) {
        double ready = checkpoint_saver_ready(s->saver) ? 1.0 : 0.0;
        assert_int_equal(group_all_reduce(comm_world(comm), tensor_of(&ready, F64, SHAPE(1))), OK);
        if ((int)ready < comm_size(comm)) continue;
        assert_int_equal(checkpoint_saver_advance(s->saver), OK);
        advanced++;
    }
}

static void what_is_saved_is_what_was_there(void **state)
{
    (void)state;
    const int64_t sizes[] = { TIGHT, WIDE };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        Saving s;
        saving_create(sizes[i], 0, &s);
        assert_int_equal(begin(&s, 7), OK);
        assert_int_equal(checkpoint_saver_finish(s.saver), OK);
        assert_steps("step-00000007");
        load_sharded(sharded_mesh(), true, 7);
        saving_destroy(&s);
    }
}

static void saved_beside_or_at_once_is_the_same(void **state)
{
    (void)state;
    Digest beside, at_once;
    Saving s;
    saving_create(TIGHT, 0, &s);
    char folder[FILE_PATH_BYTES];
    assert_int_equal(model_dir_step_path(run_dir, 3, "", folder), OK);
    assert_int_equal(begin(&s, 3), OK);
    assert_int_equal(checkpoint_saver_finish(s.saver), OK);
    assert_int_equal(manifest_verify(folder, &beside), OK);
    remove_run();
    set_step(&s.side, 3);
    assert_int_equal(save(&s.side, 0, 100000), OK);
    assert_int_equal(manifest_verify(folder, &at_once), OK);
    assert_memory_equal(&beside, &at_once, sizeof beside);
    saving_destroy(&s);
}

static void the_commit_comes_with_a_later_step(void **state)
{
    (void)state;
    Saving s;
    saving_create(WIDE, 0, &s);
    assert_false(checkpoint_saver_ready(s.saver));
    assert_int_equal(begin(&s, 2), OK);
    take_steps_until_saved(&s);
    assert_steps("step-00000002");
    /* nothing is in flight: no step waits for it */
    assert_false(checkpoint_saver_ready(s.saver));
    assert_int_equal(checkpoint_saver_advance(s.saver), OK);
    load_sharded(sharded_mesh(), true, 2);
    saving_destroy(&s);
}

static void one_in_flight_is_finished_before_the_next(void **state)
{
    (void)state;
    Saving s;
    saving_create(WIDE, 2, &s);
    for (int64_t step = 1; step <= 4; step++) assert_int_equal(begin(&s, step), OK);
    assert_int_equal(checkpoint_saver_finish(s.saver), OK);
    assert_steps("step-00000003 step-00000004");
    load_sharded(sharded_mesh(), true, 4);
    /* the same step again: it is there */
    assert_int_equal(begin(&s, 4), OK);
    assert_false(checkpoint_saver_ready(s.saver));
    assert_steps("step-00000003 step-00000004");
    saving_destroy(&s);
}

static void one_that_is_given_up_is_none(void **state)
{
    (void)state;
    const int64_t sizes[] = { TIGHT, WIDE };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        Saving s;
        saving_create(sizes[i], 0, &s);
        assert_int_equal(begin(&s, 1), OK);
        assert_int_equal(checkpoint_saver_finish(s.saver), OK);
        assert_int_equal(begin(&s, 2), OK);
        checkpoint_saver_destroy(s.saver);
        s.saver = NULL;
        assert_int_equal(comm_barrier(comm), OK);
        load_sharded(sharded_mesh(), true, 1);
        /* and the next save tidies up */
        set_step(&s.side, 3);
        assert_int_equal(save(&s.side, 0, 100000), OK);
        assert_steps("step-00000001 step-00000003");
        saving_destroy(&s);
    }
}

/* A limit on file sizes on one rank only: the way a full disk looks to it. */
static void a_full_disk_is_an_error_on_all_when_it_is_noticed(void **state)
{
    (void)state;
    Saving s;
    saving_create(WIDE, 1, &s);
    struct rlimit before, limit;
    assert_int_equal(begin(&s, 1), OK);
    assert_int_equal(checkpoint_saver_finish(s.saver), OK);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (int who = 0; who < comm_size(comm); who++) {
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 20000;
        if (comm_rank(comm) == who) assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        Status status = begin(&s, 2);
        if (status == OK) status = checkpoint_saver_finish(s.saver);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_int_equal(status, ERR_IO);
        assert_non_null(strstr(status_message(), ".safetensors: write: File too large"));
        assert_steps("step-00000001");
    }
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(begin(&s, 2), OK);
    assert_int_equal(checkpoint_saver_finish(s.saver), OK);
    load_sharded(sharded_mesh(), true, 2);
    saving_destroy(&s);
}

static void the_bytes_of_all_ranks_are_the_checkpoint(void **state)
{
    (void)state;
    Saving s;
    saving_create(WIDE, 0, &s);
    const CheckpointOptions options = { .run_dir = run_dir, .max_file_bytes = 100000 };
    int64_t bytes;
    set_step(&s.side, 1);
    assert_int_equal(
        checkpoint_saver_bytes(&s.side.state, &options, comm_rank(comm), comm_size(comm), &bytes),
        OK);
    double sum = (double)bytes;
    assert_int_equal(group_all_reduce(comm_world(comm), tensor_of(&sum, F64, SHAPE(1))), OK);
    assert_true(sum == 4.0 * SIDE_BUFFERS * (double)s.side.params.total);
    saving_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_is_what_was_there),
        cmocka_unit_test(saved_beside_or_at_once_is_the_same),
        cmocka_unit_test(the_commit_comes_with_a_later_step),
        cmocka_unit_test(one_in_flight_is_finished_before_the_next),
        cmocka_unit_test(one_that_is_given_up_is_none),
        cmocka_unit_test(a_full_disk_is_an_error_on_all_when_it_is_noticed),
        cmocka_unit_test(the_bytes_of_all_ranks_are_the_checkpoint),
    };
    if (!side_start(120)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    side_end();
    return failed;
}
