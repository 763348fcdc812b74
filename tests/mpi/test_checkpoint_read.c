/*
 * Loading reads each byte of a checkpoint's tensors once over all ranks, in buffers of any size,
 * and gives every rank the same values; what one rank cannot read is the same error on all.
 */
/* ranks: 1 2 4 */
#include "core/formats/manifest.h"
#include "tests/support/checkpoint_side.h"
#include "train/checkpoint_read.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MESHES = 7 };

/* Every axis that this number of ranks can have, alone and in pairs. */
static int all_meshes(MeshShape out[MESHES])
{
    const MeshShape all[] = { mesh_shape(1, 1, 1, 1), mesh_shape(2, 1, 1, 1),
                              mesh_shape(1, 2, 1, 1), mesh_shape(1, 1, 2, 1),
                              mesh_shape(1, 1, 1, 2), mesh_shape(4, 1, 1, 1),
                              mesh_shape(2, 2, 1, 1), mesh_shape(1, 4, 1, 1),
                              mesh_shape(2, 1, 2, 1), mesh_shape(1, 2, 2, 1),
                              mesh_shape(2, 1, 1, 2), mesh_shape(1, 2, 1, 2) };
    int count = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (mesh_ranks(all[i]) == comm_size(comm)) out[count++] = all[i];
    return count;
}

/* RUN/checkpoints/step-00000001, saved on the first mesh. */
static void make_checkpoint(char path[FILE_PATH_BYTES])
{
    Side side;
    MeshShape shapes[MESHES];
    (void)all_meshes(shapes);
    side_create(shapes[0], false, &side);
    set_step(&side, 1);
    assert_int_equal(save(&side, 0, 0), OK);
    assert_int_equal(model_dir_step_path(run_dir, 1, "", path), OK);
    side_destroy(&side);
}

static int64_t sum(int64_t value)
{
    assert_int_equal(group_all_reduce(comm_world(comm), tensor_of(&value, I64, SHAPE(1))), OK);
    return value;
}

static Status read_tensors(Side *side, const char *path, int64_t buffer_bytes, int64_t *bytes,
                           int64_t *stored)
{
    CheckpointSets sets;
    assert_int_equal(checkpoint_sets_create(&side->state, INT64_MAX, &sets), OK);
    *stored = 0;
    for (int k = 0; k < sets.count; k++) *stored += sets.items[k].plan.total_bytes;
    const Status s =
        checkpoint_read(comm, &side->groups, &sets, &side->params, path, buffer_bytes, bytes);
    checkpoint_sets_destroy(&sets);
    return s;
}

/* --- promises --- */

static void every_byte_is_read_once_on_any_mesh(void **state)
{
    (void)state;
    static const int64_t buffers[] = { 30011, 200000 }; /* loading has that of a real run */
    char path[FILE_PATH_BYTES];
    MeshShape shapes[MESHES];
    const int count = all_meshes(shapes);
    make_checkpoint(path);
    for (int m = 0; m < count; m++)
        for (int zero = 0; zero < 2; zero++) {
            Side side;
            side_create(shapes[m], zero, &side);
            int64_t bytes = 0, stored = 0;
            assert_int_equal(read_tensors(&side, path, buffers[(m + zero) % 2], &bytes, &stored),
                             OK);
            assert_values(&side, 1);
            assert_int_equal(sum(bytes), stored);
            side_destroy(&side);
        }
}

/* What this process has read of files, by the kernel's count. */
static int64_t bytes_read(void)
{
    char text[64] = "";
    long long bytes = -1;
    FILE *file = fopen("/proc/self/io", "re");
    if (!file || !fgets(text, sizeof text, file))
        bytes = -1;
    else if (sscanf(text, "rchar: %lld", &bytes) != 1)
        bytes = -1;
    if (file) (void)fclose(file);
    return bytes;
}

/* Of the whole checkpoint, and of what is beside its tensors: headers, indices, configurations. */
static void stored_bytes(const char *path, int64_t *all, int64_t *beside)
{
    Side side;
    Manifest manifest;
    MeshShape shapes[MESHES];
    CheckpointSets sets;
    (void)all_meshes(shapes);
    assert_int_equal(manifest_read(path, &manifest), OK);
    *all = 0;
    for (int64_t i = 0; i < manifest.count; i++) *all += manifest.files[i].bytes;
    manifest_destroy(&manifest);
    side_create(shapes[0], false, &side);
    assert_int_equal(checkpoint_sets_create(&side.state, INT64_MAX, &sets), OK);
    *beside = *all;
    for (int k = 0; k < sets.count; k++) *beside -= sets.items[k].plan.total_bytes;
    checkpoint_sets_destroy(&sets);
    side_destroy(&side);
}

/*
 * What loading has all ranks read. The kernel's count is of the process, and now and then MPI or a
 * sanitizer's runtime reads something in it, too: a load that stays within the limit is looked for
 * a few times. What loading itself reads is the same each time.
 */
static int64_t load(Side *side, int64_t limit)
{
    enum { LOADS = 4 };
    int64_t least = INT64_MAX;
    for (int i = 0; i < LOADS && least > limit; i++) {
        bool found = false;
        assert_int_equal(comm_barrier(comm), OK);
        const int64_t before = bytes_read();
        assert_int_equal(checkpoint_load(comm, &side->groups, run_dir, &side->state, &found, NULL),
                         OK);
        const int64_t total = sum(bytes_read() - before);
        assert_true(found);
        assert_values(side, 1);
        if (total < least) least = total;
    }
    return least;
}

/*
 * The whole of loading as the kernel counts it: the checkpoint twice in all, to verify it and to
 * load it, and beside that on each rank not more than the small files and headers, the manifest (as
 * large as they are, at most), and 64 KiB for MPI and /proc.
 */
static void replicas_read_a_checkpoint_once_and_verify_it_once(void **state)
{
    (void)state;
    char path[FILE_PATH_BYTES];
    MeshShape shapes[MESHES];
    const int count = all_meshes(shapes);
    int64_t all, beside;
    make_checkpoint(path);
    stored_bytes(path, &all, &beside);
    if (bytes_read() < 0) skip();
    const int64_t each = 2 * beside + (64 << 10);
    const int64_t limit = 2 * all + comm_size(comm) * each;
    for (int m = 0; m < count; m++)
        for (int zero = 0; zero < 2; zero++) {
            Side side;
            char mesh[96];
            side_create(shapes[m], zero, &side);
            const int64_t total = load(&side, limit);
            if (comm_rank(comm) == 0)
                printf("note: %s, zero %d: a checkpoint of %.2f MiB, %.2f MiB read by all\n",
                       mesh_describe(shapes[m], mesh), zero, (double)all * 0x1p-20,
                       (double)total * 0x1p-20);
            assert_in_range(total, 2 * (all - beside), limit);
            side_destroy(&side);
        }
}

/* Every value of the last file that ends in `name` is made infinite; its header stays. */
static void spoil(const char *path, const char *name)
{
    char file[FILE_PATH_BYTES];
    char *bytes = NULL;
    size_t length = 0;
    static const uint8_t infinity[4] = { 0, 0, 0x80, 0x7f };
    assert_int_equal(file_join(file, path, name), OK);
    assert_int_equal(file_read(file, 1 << 26, &bytes, &length), OK);
    const size_t first = 8 + ((size_t)(uint8_t)bytes[0] | (size_t)(uint8_t)bytes[1] << 8 |
                              (size_t)(uint8_t)bytes[2] << 16);
    for (size_t i = first; i + 4 <= length; i += 4) memcpy(bytes + i, infinity, 4);
    assert_int_equal(file_write(file, bytes, length), OK);
    free(bytes);
}

static void copy_files(const char *from, const char *to)
{
    FileList list = { 0 };
    assert_int_equal(file_list_tree(from, &list), OK);
    for (int64_t i = 0; i < list.count; i++) {
        char a[FILE_PATH_BYTES], b[FILE_PATH_BYTES], folder[FILE_PATH_BYTES];
        char *bytes = NULL;
        size_t length = 0;
        assert_int_equal(file_join(a, from, list.names[i]), OK);
        assert_int_equal(file_join(b, to, list.names[i]), OK);
        assert_int_equal(file_read(a, 1 << 26, &bytes, &length), OK);
        (void)snprintf(folder, sizeof folder, "%.*s", (int)(file_name(b) - b - 1), b);
        assert_int_equal(file_make_folders(folder), OK);
        assert_int_equal(file_write(b, bytes, length), OK);
        free(bytes);
    }
    file_list_destroy(&list);
}

/* One rank sees another disk than the others: a file that is gone, or values nobody can train
 * with, found before anything was read and in the middle of it. */
static void what_one_rank_cannot_read_is_the_same_error_on_all(void **state)
{
    (void)state;
    static const char spoiled[] = "optimizer/exp_avg_sq.safetensors";
    char path[FILE_PATH_BYTES], other[FILE_PATH_BYTES], gone[FILE_PATH_BYTES], prefix[32];
    MeshShape shapes[MESHES];
    const int count = all_meshes(shapes);
    make_checkpoint(path);
    assert_int_equal(file_join(other, run_dir, "other"), OK);
    assert_int_equal(file_join(gone, run_dir, "gone"), OK);
    if (comm_rank(comm) == 0) {
        copy_files(path, other);
        spoil(other, spoiled);
    }
    assert_int_equal(comm_barrier(comm), OK);
    /* all replicas, and where tensor ranks share too */
    for (int m = 0; m < count && m < 2; m++)
        for (int who = 0; who < comm_size(comm); who++) {
            Side side;
            int64_t bytes, stored;
            const bool me = comm_rank(comm) == who;
            side_create(shapes[m], true, &side);
            (void)snprintf(prefix, sizeof prefix, "rank %d: ", who);
            if (comm_size(comm) == 1) prefix[0] = 0;
            assert_int_equal(read_tensors(&side, me ? gone : path, 100003, &bytes, &stored),
                             ERR_FORMAT);
            assert_int_equal(strncmp(status_message(), prefix, strlen(prefix)), 0);
            assert_non_null(strstr(status_message(), "is missing"));
            assert_int_equal(sum(bytes), 0);
            assert_int_equal(read_tensors(&side, me ? other : path, 100003, &bytes, &stored),
                             ERR_FORMAT);
            assert_int_equal(strncmp(status_message(), prefix, strlen(prefix)), 0);
            assert_non_null(strstr(status_message(), "exp_avg_sq.safetensors: tensor"));
            assert_non_null(strstr(status_message(), "holds a value that is not finite"));
            assert_in_range(sum(bytes), 1, stored - 1);
            /* and all goes on */
            assert_int_equal(read_tensors(&side, path, 100003, &bytes, &stored), OK);
            assert_values(&side, 1);
            side_destroy(&side);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_read_once_on_any_mesh),
        cmocka_unit_test(replicas_read_a_checkpoint_once_and_verify_it_once),
        cmocka_unit_test(what_one_rank_cannot_read_is_the_same_error_on_all),
    };
    if (!side_start(240)) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    side_end();
    return failed;
}
