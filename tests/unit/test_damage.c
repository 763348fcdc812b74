/*
 * damage: bits that flip in stored files, files that are cut, lost, swapped or added.
 *
 * Every one is found and its file named, before anything of it is used: in a checkpoint by its
 * manifest, after which the checkpoint before is taken; in a dataset when it is opened or the clip
 * is read, or the flip is in a byte that holds nothing and everything reads as it was written, and
 * dataset_verify finds that as well.
 *
 * Flips are one bit at a random place of all files together, 1,000 of each kind, 20,000 with
 * LONG=1; ZT_DAMAGE_SEED makes another run.
 */
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/rng.h"
#include "core/formats/manifest.h"
#include "core/formats/model_dir.h"
#include "data/dataset.h"
#include "tests/support/small_dataset.h"
#include "tools/folder_check.h"
#include "train/checkpoint_progress.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { FLIPS = 1000, FLIPS_LONG = 20000, CLIPS = 12, FILES_MAX = 64 };

static char root[256];

static const char *at(const char *folder, const char *name)
{
    static char paths[4][FILE_PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];
    assert_int_equal(file_join(path, folder, name), OK);
    return path;
}

static int64_t flips(void)
{
    const char *text = getenv("LONG");
    return text != NULL && text[0] != 0 && text[0] != '0' ? FLIPS_LONG : FLIPS;
}

static uint64_t seed(void)
{
    const char *text = getenv("ZT_DAMAGE_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

/* ---- files ---------------------------------------------------------------------------------- */

/* A folder's files and their lengths. */
typedef struct Folder {
    const char *path;
    FileList list; /* owned */
    int64_t bytes[FILES_MAX], total;
} Folder;

static Folder open_folder(const char *path)
{
    Folder folder = { .path = path };
    assert_int_equal(file_list_tree(path, &folder.list), OK);
    assert_true(folder.list.count > 0 && folder.list.count <= FILES_MAX);
    for (int64_t i = 0; i < folder.list.count; i++) {
        struct stat st;
        assert_int_equal(stat(at(path, folder.list.names[i]), &st), 0);
        folder.bytes[i] = st.st_size;
        folder.total += st.st_size;
    }
    return folder;
}

/* One bit of a file. Twice is as before. */
typedef struct Flip {
    int64_t file, byte;
    int bit;
} Flip;

static Flip choose_flip(const Folder *folder, uint64_t number)
{
    const Rng rng = rng_make(seed(), RNG_TEST, number);
    int64_t place = (int64_t)(rng_u32(rng, 0) % (uint64_t)folder->total), file = 0;
    while (place >= folder->bytes[file]) place -= folder->bytes[file++];
    return (Flip){ file, place, (int)(rng_u32(rng, 1) % 8) };
}

static void flip(const Folder *folder, Flip f)
{
    unsigned char byte;
    const int fd = open(at(folder->path, folder->list.names[f.file]), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, f.byte), 1);
    byte = (unsigned char)(byte ^ 1 << f.bit);
    assert_int_equal(pwrite(fd, &byte, 1, f.byte), 1);
    assert_int_equal(close(fd), 0);
}

static void must_name(Status s, const char *file, const char *what)
{
    if (s == OK) fail_msg("%s: %s was not found", file, what);
    if (strstr(status_message(), file) == NULL)
        fail_msg("%s: %s: the file is not named: %s", file, what, status_message());
}

/* ---- a checkpoint --------------------------------------------------------------------------- */

static void write_tensors(const char *path, float start)
{
    const SafetensorsSpec specs[] = { { "a", F32, { 2, { 30, 10 } } },
                                      { "b", F32, { 1, { 50 } } } };
    float values[350];
    SafetensorsWriter *writer = NULL;
    for (int i = 0; i < 350; i++) values[i] = start + (float)i;
    assert_int_equal(safetensors_create(path, specs, 2, NULL, &writer), OK);
    assert_int_equal(safetensors_write(writer, values, sizeof values), OK);
    assert_int_equal(safetensors_finish(writer, NULL, NULL), OK);
}

/* The files of a checkpoint as training names them. */
static void make_checkpoint(const char *run, int64_t step, char path[FILE_PATH_BYTES])
{
    ModelDir model = { .shift = 1 };
    Manifest manifest = { 0 };
    const CheckpointProgress progress = { step, 8 * step, 1234, "" };
    assert_int_equal(model_dir_step_path(run, step, "", path), OK);
    assert_int_equal(file_make_folders(at(path, "optimizer")), OK);
    assert_int_equal(model_config_preset("tiny", &model.config), OK);
    assert_int_equal(model_dir_write(path, &model, true), OK);
    write_tensors(at(path, "transformer/diffusion_pytorch_model.safetensors"), 0);
    write_tensors(at(path, "transformer_ema/diffusion_pytorch_model.safetensors"), 1);
    write_tensors(at(path, "optimizer/exp_avg.safetensors"), 2);
    write_tensors(at(path, "optimizer/exp_avg_sq.safetensors"), 3);
    assert_int_equal(checkpoint_write_progress(path, &progress), OK);
    assert_int_equal(file_write(at(path, "config.yaml"), "run: {dir: r}\n", 14), OK);
    assert_int_equal(manifest_make(path, NULL, &manifest), OK);
    assert_int_equal(manifest_write(path, &manifest), OK);
    manifest_destroy(&manifest);
}

/* A run with two checkpoints: `path` is the newer. */
static Folder make_run(const char *name, char run[FILE_PATH_BYTES], char path[FILE_PATH_BYTES])
{
    assert_int_equal(file_join(run, root, name), OK);
    make_checkpoint(run, 5, path);
    make_checkpoint(run, 10, path);
    return open_folder(path);
}

/* The damage that is there now is found in three ways, and names the file. */
static void checkpoint_is_passed_over(const char *run, const char *path, const char *file,
                                      const char *what)
{
    char taken[FILE_PATH_BYTES];
    FolderCheck check = { 0 };
    must_name(manifest_verify(path, NULL), file, what);
    assert_int_equal(folder_check(path, (FolderCheckOptions){ 0 }, &check), OK);
    if (check.problems == 0) fail_msg("%s: %s: folder_check finds nothing", file, what);
    if (model_dir_resolve(run, taken) != OK) fail_msg("%s: %s", what, status_message());
    assert_string_equal(file_name(taken), "step-00000005");
}

static void a_flipped_bit_in_a_checkpoint_is_found(void **state)
{
    (void)state;
    char run[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    Folder folder = make_run("flips", run, path);
    for (int64_t i = 0; i < flips(); i++) {
        char what[96];
        const Flip f = choose_flip(&folder, (uint64_t)i);
        (void)snprintf(what, sizeof what, "flip %lld: bit %d of byte %lld", (long long)i, f.bit,
                       (long long)f.byte);
        flip(&folder, f);
        must_name(manifest_verify(path, NULL), folder.list.names[f.file], what);
        if (i % 50 == 0) checkpoint_is_passed_over(run, path, folder.list.names[f.file], what);
        flip(&folder, f);
    }
    assert_int_equal(manifest_verify(path, NULL), OK);
    print_message("%lld flips in %lld files of %lld bytes, all found\n", (long long)flips(),
                  (long long)folder.list.count, (long long)folder.total);
    file_list_destroy(&folder.list);
}

static void rename_file(const Folder *folder, int64_t file, const char *to)
{
    assert_int_equal(rename(at(folder->path, folder->list.names[file]), at(root, to)), 0);
}

static void put_back(const Folder *folder, int64_t file, const char *from)
{
    assert_int_equal(rename(at(root, from), at(folder->path, folder->list.names[file])), 0);
}

/* Leaves the first `bytes` of it in its place; the whole waits as ROOT/whole. */
static void cut_file(const Folder *folder, int64_t file, int64_t bytes)
{
    char *text = NULL;
    size_t length = 0;
    rename_file(folder, file, "whole");
    assert_int_equal(file_read(at(root, "whole"), 1 << 24, &text, &length), OK);
    assert_int_equal(file_write(at(folder->path, folder->list.names[file]), text, (size_t)bytes),
                     OK);
    free(text);
}

static void a_cut_or_lost_file_of_a_checkpoint_is_found(void **state)
{
    (void)state;
    char run[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    Folder folder = make_run("cut", run, path);
    for (int64_t i = 0; i < folder.list.count; i++) {
        const char *name = folder.list.names[i];
        const int64_t lengths[] = { 0, 1, folder.bytes[i] / 2, folder.bytes[i] - 1 };
        for (int k = 0; k < 4; k++) {
            if (folder.bytes[i] <= lengths[k]) continue;
            cut_file(&folder, i, lengths[k]);
            checkpoint_is_passed_over(run, path, name, "truncation");
            put_back(&folder, i, "whole");
        }
        rename_file(&folder, i, "whole");
        checkpoint_is_passed_over(run, path, name, "a missing file");
        assert_int_equal(symlink(at(root, "whole"), at(path, name)), 0);
        must_name(manifest_verify(path, NULL), name, "a link in place of a file");
        assert_int_equal(unlink(at(path, name)), 0);
        put_back(&folder, i, "whole");
    }
    assert_int_equal(manifest_verify(path, NULL), OK);
    file_list_destroy(&folder.list);
}

static bool same_bytes(const Folder *folder, int64_t a, int64_t b)
{
    Digest x, y;
    assert_int_equal(digest_file(at(folder->path, folder->list.names[a]), &x, NULL), OK);
    assert_int_equal(digest_file(at(folder->path, folder->list.names[b]), &y, NULL), OK);
    return memcmp(&x, &y, sizeof x) == 0;
}

static void swap(const Folder *folder, int64_t a, int64_t b)
{
    rename_file(folder, a, "aside");
    assert_int_equal(
        rename(at(folder->path, folder->list.names[b]), at(folder->path, folder->list.names[a])),
        0);
    put_back(folder, b, "aside");
}

static void swapped_and_added_files_of_a_checkpoint_are_found(void **state)
{
    (void)state;
    char run[FILE_PATH_BYTES], path[FILE_PATH_BYTES], taken[FILE_PATH_BYTES];
    Folder folder = make_run("swapped", run, path);
    for (int64_t a = 0; a < folder.list.count; a++) {
        for (int64_t b = a + 1; b < folder.list.count; b++) {
            if (same_bytes(&folder, a, b)) continue;
            swap(&folder, a, b);
            /* the first that is checked is named: the manifest, or the first in order of name */
            const bool manifest = strcmp(folder.list.names[b], "manifest.json") == 0;
            checkpoint_is_passed_over(run, path, folder.list.names[manifest ? b : a],
                                      "a swapped pair");
            swap(&folder, a, b);
        }
    }
    static const char *const added[] = { "x", "transformer/x.safetensors", "manifest.json.tmp" };
    for (int i = 0; i < 3; i++) {
        assert_int_equal(file_write(at(path, added[i]), "", 0), OK);
        checkpoint_is_passed_over(run, path, added[i], "an added file");
        assert_int_equal(unlink(at(path, added[i])), 0);
    }
    assert_int_equal(model_dir_resolve(run, taken), OK);
    assert_string_equal(file_name(taken), "step-00000010");
    file_list_destroy(&folder.list);
}

/* ---- a dataset ------------------------------------------------------------------------------ */

/* Opens it and reads every clip; wrong values fail the test. */
static Status read_all(const char *dir)
{
    Dataset *ds = NULL;
    float values[SMALL_MOST_VALUES], expected[SMALL_MOST_VALUES];
    TRY(dataset_open(dir, &ds));
    Status s = OK;
    for (int64_t clip = 0; clip < dataset_clips(ds) && s == OK; clip++) {
        const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
        const int64_t count = small_values(clip, expected);
        assert_int_equal(b->tokens * b->patch, count);
        s = dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip),
                                 tensor_of(values, F32, SHAPE(b->tokens, b->patch)));
        if (s == OK) assert_memory_equal(values, expected, (size_t)count * sizeof(float));
    }
    dataset_close(ds);
    return s;
}

static Status verify(const char *dir)
{
    Dataset *ds = NULL;
    TRY(dataset_open(dir, &ds));
    const Status s = dataset_verify(ds);
    dataset_close(ds);
    return s;
}

static Folder make_dataset(const char *name, char dir[FILE_PATH_BYTES])
{
    assert_int_equal(file_join(dir, root, name), OK);
    small_dataset(dir, CLIPS, 1300);
    const Folder folder = open_folder(dir);
    assert_true(folder.list.count >= 3); /* two shards */
    return folder;
}

static void a_flipped_bit_in_a_dataset_is_found(void **state)
{
    (void)state;
    char dir[FILE_PATH_BYTES];
    int64_t unseen = 0;
    Folder folder = make_dataset("data-flips", dir);
    for (int64_t i = 0; i < flips(); i++) {
        char what[96];
        const Flip f = choose_flip(&folder, (uint64_t)i);
        (void)snprintf(what, sizeof what, "flip %lld: bit %d of byte %lld", (long long)i, f.bit,
                       (long long)f.byte);
        flip(&folder, f);
        const Status s = read_all(dir);
        if (s != OK) must_name(s, folder.list.names[f.file], what);
        unseen += s == OK;
        if (s == OK || i % 20 == 0) must_name(verify(dir), folder.list.names[f.file], what);
        flip(&folder, f);
    }
    assert_int_equal(verify(dir), OK);
    print_message("%lld flips in %lld files of %lld bytes: all found by dataset_verify, %lld when "
                  "reading, %lld in bytes that hold nothing\n",
                  (long long)flips(), (long long)folder.list.count, (long long)folder.total,
                  (long long)(flips() - unseen), (long long)unseen);
    file_list_destroy(&folder.list);
}

static void a_cut_lost_or_swapped_file_of_a_dataset_is_found(void **state)
{
    (void)state;
    char dir[FILE_PATH_BYTES];
    Folder folder = make_dataset("data-cut", dir);
    for (int64_t i = 0; i < folder.list.count; i++) {
        const char *name = folder.list.names[i];
        const int64_t lengths[] = { 0, 1, folder.bytes[i] / 2, folder.bytes[i] - 1 };
        for (int k = 0; k < 4; k++) {
            cut_file(&folder, i, lengths[k]);
            must_name(read_all(dir), name, "truncation");
            put_back(&folder, i, "whole");
        }
        rename_file(&folder, i, "whole");
        must_name(read_all(dir), name, "a missing file");
        put_back(&folder, i, "whole");
    }
    for (int64_t a = 0; a < folder.list.count; a++) {
        for (int64_t b = a + 1; b < folder.list.count; b++) {
            swap(&folder, a, b);
            must_name(read_all(dir), folder.list.names[a], "a swapped pair");
            swap(&folder, a, b);
        }
    }
    static const char *const added[] = { "shard-00099.h5", "shard-00000.h5.partial" };
    for (int i = 0; i < 2; i++) {
        assert_int_equal(file_write(at(dir, added[i]), "", 0), OK);
        assert_int_equal(read_all(dir), OK); /* what is not listed is not read */
        must_name(verify(dir), added[i], "an added shard");
        assert_int_equal(unlink(at(dir, added[i])), 0);
    }
    assert_int_equal(verify(dir), OK);
    file_list_destroy(&folder.list);
}

static int set_up(void **state)
{
    (void)state;
    /* each checkpoint that is passed over is told, some hundred times */
    log_set_rank(1, 2);
    small_folder(root);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    small_remove(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_flipped_bit_in_a_checkpoint_is_found),
        cmocka_unit_test(a_cut_or_lost_file_of_a_checkpoint_is_found),
        cmocka_unit_test(swapped_and_added_files_of_a_checkpoint_are_found),
        cmocka_unit_test(a_flipped_bit_in_a_dataset_is_found),
        cmocka_unit_test(a_cut_lost_or_swapped_file_of_a_dataset_is_found),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
