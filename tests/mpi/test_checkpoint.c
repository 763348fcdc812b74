/*
 * checkpoint: what one mesh saves, every other loads, element by element; damage is named and an
 * older checkpoint used; nothing partial stands under a final name.
 */
/* ranks: 1 2 4 */
#include "core/base/log.h"
#include "core/formats/manifest.h"
#include "tests/support/checkpoint_side.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void damage(int64_t step, const char *name, bool cut)
{
    assert_int_equal(comm_barrier(comm), OK);
    if (comm_rank(comm) == 0) {
        char *bytes = NULL;
        size_t length = 0;
        const char *path = step_file(step, name);
        assert_int_equal(file_read(path, 1 << 26, &bytes, &length), OK);
        bytes[length / 2] ^= 4;
        assert_int_equal(file_write(path, bytes, cut ? length / 2 : length), OK);
        free(bytes);
    }
    assert_int_equal(comm_barrier(comm), OK);
}

/* --- promises --- */

/* Loads are sharded and not in turn, beginning with `to_zero`. */
static void save_and_load(MeshShape from, bool zero, const MeshShape *to, int count, bool to_zero,
                          int64_t max_file_bytes)
{
    Side side;
    remove_run();
    side_create(from, zero, &side);
    set_step(&side, 10);
    assert_int_equal(save(&side, 0, max_file_bytes), OK);
    assert_holds(&side, 10);
    side_destroy(&side);
    for (int k = 0; k < count; k++) load_sharded(to[k], to_zero == (k % 2 == 0), 10);
}

static void what_one_mesh_saves_any_other_loads(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    const int count = meshes(shapes);
    /* that both ways of holding moments save the same bytes is another test's */
    for (int k = 0; k < count; k++) save_and_load(shapes[k], true, shapes, count, k % 2 == 0, 0);
}

/* So small that every rank writes several. */
static void files_of_any_size_hold_the_same(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    const int count = meshes(shapes);
    for (int k = 0; k < count; k++)
        save_and_load(shapes[k], k % 2 == 0, &shapes[(k + 1) % count], 1, true, 100000);
}

/* The same bytes from every mesh; the root was computed by one rank alone. */
static void the_digest_does_not_depend_on_mesh_or_shards(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    const int count = meshes(shapes);
    Digest roots[SIDE_MESHES][2];
    for (int k = 0; k < 2 * count; k++) {
        Side side;
        Digest *root = &roots[k / 2][k % 2];
        remove_run();
        side_create(shapes[k / 2], k % 2, &side);
        set_step(&side, 10);
        assert_int_equal(save(&side, 0, 100000), OK);
        side_destroy(&side);
        char folder[FILE_PATH_BYTES];
        assert_int_equal(model_dir_step_path(run_dir, 10, "", folder), OK);
        assert_int_equal(manifest_verify(folder, root), OK);
        assert_memory_equal(root, &roots[0][0], sizeof *root);
    }
}

static void damage_is_passed_over(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    bool found = false;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL), OK);
    assert_false(found);
    for (int64_t step = 1; step <= 4; step++) {
        set_step(&side, step);
        assert_int_equal(save(&side, 0, 0), OK);
    }
    load_into(shapes[0], 4);
    damage(4, "transformer/diffusion_pytorch_model.safetensors", false);
    load_into(shapes[0], 3);
    damage(3, "optimizer/exp_avg_sq.safetensors", true);
    load_into(shapes[0], 2);
    damage(2, "state.json", false);
    load_into(shapes[0], 1);
    damage(1, "manifest.json", true);
    found = false;
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL),
                     ERR_FORMAT);
    assert_non_null(strstr(status_message(), "none of its 4 checkpoints is whole"));
    assert_non_null(strstr(status_message(), "diffusion_pytorch_model.safetensors: is damaged"));

    /* when its step comes again, the damaged one is replaced */
    set_step(&side, 4);
    assert_int_equal(save(&side, 0, 0), OK);
    load_into(shapes[0], 4);
    assert_steps("step-00000001 step-00000002 step-00000003 step-00000004");
    side_destroy(&side);
}

static void what_was_interrupted_is_ignored_and_cleaned_up(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    char partial[FILE_PATH_BYTES], final[FILE_PATH_BYTES];
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    set_step(&side, 1);
    assert_int_equal(save(&side, 0, 0), OK);
    set_step(&side, 2);
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(comm_barrier(comm), OK);
    assert_int_equal(model_dir_step_path(run_dir, 2, "", final), OK);
    assert_int_equal(model_dir_step_path(run_dir, 2, ".partial", partial), OK);
    if (comm_rank(comm) == 0) assert_int_equal(file_rename(final, partial), OK);
    load_into(shapes[0], 1);
    set_step(&side, 3);
    assert_int_equal(save(&side, 0, 0), OK);
    assert_steps("step-00000001 step-00000003");
    side_destroy(&side);
}

static void a_copy_under_another_steps_name_is_passed_over(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    char from[FILE_PATH_BYTES], to[FILE_PATH_BYTES];
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    for (int64_t step = 1; step <= 2; step++) {
        set_step(&side, step);
        assert_int_equal(save(&side, 0, 0), OK);
    }
    assert_int_equal(model_dir_step_path(run_dir, 1, "", from), OK);
    assert_int_equal(model_dir_step_path(run_dir, 9, "", to), OK);
    assert_int_equal(comm_barrier(comm), OK);
    if (comm_rank(comm) == 0) assert_int_equal(file_rename(from, to), OK);
    assert_steps("step-00000002 step-00000009");
    load_into(shapes[0], 2);
    side_destroy(&side);
}

static void only_the_newest_are_kept(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    for (int64_t step = 1; step <= 4; step++) {
        set_step(&side, step);
        assert_int_equal(save(&side, step == 4 ? 2 : 0, 0), OK);
    }
    assert_steps("step-00000003 step-00000004");
    load_into(shapes[0], 4);
    /* a run that goes on from an older step never loses what it just saved */
    set_step(&side, 2);
    assert_int_equal(save(&side, 1, 0), OK);
    assert_steps("step-00000002 step-00000003 step-00000004");
    side_destroy(&side);
}

static void multiples_of_keep_every_are_kept(void **state)
{
    const CheckpointOptions options = { .run_dir = run_dir, .keep = 1, .keep_every = 2 };
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    for (int64_t step = 1; step <= 5; step++) {
        set_step(&side, step);
        assert_int_equal(checkpoint_save(comm, &side.groups, &side.state, &options), OK);
    }
    assert_steps("step-00000002 step-00000004 step-00000005");
    side_destroy(&side);
}

static void a_step_that_is_there_is_not_written_again(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    Digest before, after;
    char folder[FILE_PATH_BYTES];
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    set_step(&side, 5);
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(model_dir_step_path(run_dir, 5, "", folder), OK);
    assert_int_equal(manifest_verify(folder, &before), OK);
    assert_int_equal(comm_barrier(comm), OK);
    ((float *)side.state.weights.data)[0] += 1.0f;
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(manifest_verify(folder, &after), OK);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(comm_barrier(comm), OK);

    /* another configuration at the same step is another checkpoint */
    (void)strcpy(side.state.progress.config_digest, "def");
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(manifest_verify(folder, &after), OK);
    assert_true(memcmp(&before, &after, sizeof before) != 0);
    assert_steps("step-00000005");
    side_destroy(&side);
}

/* A limit on file sizes on one rank only: the way a full disk looks to it. */
static void a_full_disk_on_one_rank_is_an_error_on_all(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    struct rlimit before, limit;
    const int count = meshes(shapes);
    remove_run();
    /* a mesh on which shards travel */
    side_create(shapes[count > 2 ? 2 : 0], true, &side);
    set_step(&side, 1);
    assert_int_equal(save(&side, 0, 0), OK);

    for (int who = 0; who < comm_size(comm); who++) {
        set_step(&side, 2);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        limit = before;
        limit.rlim_cur = 20000;
        void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
        if (comm_rank(comm) == who) assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        const Status s = save(&side, 1, 100000);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        (void)signal(SIGXFSZ, handler);
        assert_int_equal(s, ERR_IO);
        assert_non_null(strstr(status_message(), ".safetensors: write: File too large"));
        assert_steps("step-00000001");
    }
    load_into(shapes[0], 1);
    assert_int_equal(save(&side, 0, 0), OK);
    load_into(shapes[0], 2);
    side_destroy(&side);
}

static void another_model_is_refused(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    Side side;
    bool found = false;
    (void)meshes(shapes);
    remove_run();
    side_create(shapes[0], false, &side);
    set_step(&side, 1);
    assert_int_equal(save(&side, 0, 0), OK);
    side.model.config.dit.ffn_dim = 128;
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL),
                     ERR_CONFIG);
    assert_non_null(strstr(status_message(), "has ffn_dim 96, the configuration asks for 128"));
    side_destroy(&side);
}

static void start_averages(MeshShape shape, bool zero)
{
    Side side;
    bool found = false;
    remove_run();
    side_create(shape, zero, &side);
    set_step(&side, 1);
    const Tensor ema = side.state.ema;
    side.state.ema = tensor_none();
    assert_int_equal(save(&side, 0, 0), OK);
    side.state.ema = ema;
    assert_int_equal(checkpoint_load(comm, &side.groups, run_dir, &side.state, &found, NULL), OK);
    for (int b = 0; b < side.params.buckets; b++) {
        const int64_t *first = side.params.bucket_first;
        const Range own = zero ? bucket_shards_range(&side.shards, b)
                               : (Range){ first[b], first[b + 1] - first[b] };
        assert_memory_equal(tensor_f32(ema) + (zero ? side.shards.place[b] : own.first),
                            tensor_f32(side.state.weights) + own.first, (size_t)own.count * 4);
    }
    side_destroy(&side);
}

static void averages_that_were_not_stored_start_from_the_weights(void **state)
{
    (void)state;
    MeshShape shapes[SIDE_MESHES];
    const int count = meshes(shapes);
    start_averages(shapes[count > 1 ? 1 : 0], false);
    start_averages(shapes[count > 1 ? 1 : 0], true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_mesh_saves_any_other_loads),
        cmocka_unit_test(files_of_any_size_hold_the_same),
        cmocka_unit_test(the_digest_does_not_depend_on_mesh_or_shards),
        cmocka_unit_test(damage_is_passed_over),
        cmocka_unit_test(what_was_interrupted_is_ignored_and_cleaned_up),
        cmocka_unit_test(a_copy_under_another_steps_name_is_passed_over),
        cmocka_unit_test(only_the_newest_are_kept),
        cmocka_unit_test(multiples_of_keep_every_are_kept),
        cmocka_unit_test(a_step_that_is_there_is_not_written_again),
        cmocka_unit_test(a_full_disk_on_one_rank_is_an_error_on_all),
        cmocka_unit_test(another_model_is_refused),
        cmocka_unit_test(averages_that_were_not_stored_start_from_the_weights),
    };
    if (!side_start(120)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    side_end();
    return failed;
}
