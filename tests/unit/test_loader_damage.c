/* loader_damage: damaged clips come marked, the same ones on every mesh, and leave the step. */
#include "core/base/rng.h"
#include "data/loader.h"
#include "tests/support/small_dataset.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <cmocka.h>

enum { CLIPS = 12, BATCH = 5, STEPS = 6, FLIPS = 400 };

static char dir[256];

/* How a step is shared out: data ranks, and parts of each clip. */
typedef struct Ways {
    int ranks, parts;
} Ways;

static const Ways ways[] = { { 1, 1 }, { 2, 1 }, { 1, 2 }, { 2, 3 }, { 3, 8 } };

enum { WAYS = sizeof ways / sizeof ways[0] };

static LoaderOptions options_of(int rank, Ways w, int part)
{
    return (LoaderOptions){ .sampler = { .seed = 5, .batch = BATCH, .micro_batch = 2 },
                            .rank = rank,
                            .size = w.ranks,
                            .part = part,
                            .parts = w.parts };
}

static void note_batch(const Batch *batch, int64_t marks[STEPS * BATCH])
{
    int64_t damaged = 0;
    for (int64_t m = 0; m < batch->micro_count; m++) {
        const MicroBatch *micro = &batch->micros[m];
        for (int64_t i = 0; i < micro->clips; i++) {
            marks[micro->samples[i]] |= micro->damaged[i];
            damaged += micro->damaged[i];
        }
    }
    assert_int_equal(batch->damaged, damaged);
    if (damaged > 0) assert_non_null(strstr(batch->damage, "shard-00000.h5: clip "));
}

/* What all ranks of a mesh together find. */
static void find_damage(Dataset *ds, Ways w, int64_t marks[STEPS * BATCH])
{
    memset(marks, 0, STEPS * BATCH * sizeof *marks);
    for (int rank = 0; rank < w.ranks; rank++) {
        for (int part = 0; part < w.parts; part++) {
            Loader *loader = NULL;
            const LoaderOptions options = options_of(rank, w, part);
            assert_int_equal(loader_create(ds, &options, &loader), OK);
            for (int step = 0; step < STEPS; step++) {
                const Batch *batch = NULL;
                assert_int_equal(loader_next(loader, &batch), OK);
                note_batch(batch, marks);
            }
            loader_destroy(loader);
        }
    }
}

/* Returns how many samples are damaged, the same ones in every way of sharing them out. */
static int64_t damage_of_all_ways(void)
{
    static int64_t first[STEPS * BATCH], marks[STEPS * BATCH];
    Dataset *ds = NULL;
    int64_t count = 0;
    if (dataset_open(dir, &ds) != OK) return 0; /* the index is damaged */
    find_damage(ds, ways[0], first);
    for (int i = 1; i < WAYS; i++) {
        find_damage(ds, ways[i], marks);
        assert_memory_equal(marks, first, sizeof marks);
    }
    for (int i = 0; i < STEPS * BATCH; i++) count += first[i];
    dataset_close(ds);
    return count;
}

static void every_mesh_finds_the_same_clips(void **state)
{
    (void)state;
    int64_t length, found = 0;
    small_dataset(dir, CLIPS, 0);
    free(small_read(dir, "shard-00000.h5", &length));
    assert_int_equal(damage_of_all_ways(), 0);
    for (uint64_t i = 0; i < FLIPS; i++) {
        /* most of so small a file is not latents */
        const Rng rng = rng_make(3, RNG_TEST, i);
        const int64_t place = rng_u32(rng, 0) % length;
        const int delta = 1 << rng_u32(rng, 1) % 7;
        small_damage(dir, "shard-00000.h5", place, delta);
        found += damage_of_all_ways() > 0;
        small_damage(dir, "shard-00000.h5", place, -delta);
    }
    print_message("%lld of %d flips are in a clip\n", (long long)found, FLIPS);
    assert_true(found > FLIPS / 40);
}

/* No checksum of a chunk shows it: only who holds the SHA-256 against the whole clip. */
static void another_clips_latents_are_found_on_every_mesh(void **state)
{
    (void)state;
    small_dataset(dir, 1, 0);
    small_other_latents(dir);
    assert_int_equal(damage_of_all_ways(), STEPS * BATCH);
}

static atomic_long reads_until_fault; /* 0: never */

/* HDF5's reads come here; without unistd.h, whose own declaration may be fortified. */
long syscall(long number, ...);
ssize_t read_or_fail(int fd, void *to, size_t bytes, off_t at) __asm__("pread");
ssize_t read_or_fail(int fd, void *to, size_t bytes, off_t at)
{
    const long left = atomic_load(&reads_until_fault);
    if (left > 0) atomic_store(&reads_until_fault, left - 1);
    if (left != 1) return syscall(SYS_pread64, fd, to, bytes, at);
    errno = EIO;
    return -1;
}

/* The same run has the same clips, whether the disk had a bad moment or not. */
static void a_fault_that_passes_is_no_damage(void **state)
{
    (void)state;
    static int64_t marks[STEPS * BATCH];
    long fault = 0;
    small_dataset(dir, CLIPS, 0);
    do {
        Dataset *ds = NULL;
        assert_int_equal(dataset_open(dir, &ds), OK);
        atomic_store(&reads_until_fault, ++fault);
        find_damage(ds, ways[0], marks);
        for (int i = 0; i < STEPS * BATCH; i++) assert_int_equal(marks[i], 0);
        dataset_close(ds);
    } while (atomic_exchange(&reads_until_fault, 0) == 0);
    print_message("%ld reads\n", fault - 1);
    assert_true(fault > CLIPS);
}

static void what_is_dropped_is_out_of_the_step(void **state)
{
    (void)state;
    const int64_t marks[BATCH] = { 0, 1, 0, 2, 0 };
    Dataset *ds = NULL;
    Loader *loader = NULL;
    const Batch *batch = NULL;
    int64_t elements = 0, tokens = 0;
    small_dataset(dir, CLIPS, 0);
    assert_int_equal(dataset_open(dir, &ds), OK);
    const LoaderOptions options = options_of(0, ways[0], 0);
    assert_int_equal(loader_create(ds, &options, &loader), OK);
    for (int step = 0; step < 2; step++) assert_int_equal(loader_next(loader, &batch), OK);
    loader_drop(loader, marks);
    for (int64_t m = 0; m < batch->micro_count; m++) {
        const MicroBatch *micro = &batch->micros[m];
        for (int64_t i = 0; i < micro->clips; i++) {
            static const float zeros[SMALL_MOST_VALUES];
            float expected[SMALL_MOST_VALUES];
            const bool dropped = marks[micro->samples[i] - BATCH] != 0;
            const Tensor latents = tensor_at(micro->latents, i);
            (void)small_values(micro->clip_ids[i], expected);
            assert_int_equal(micro->damaged[i], dropped);
            assert_memory_equal(latents.data, dropped ? zeros : expected, tensor_bytes(latents));
            assert_int_equal(loader_clip_of(loader, micro->samples[i]), micro->clip_ids[i]);
            elements += dropped ? 0 : tensor_count(latents);
            tokens += dropped ? 0 : micro->tokens;
        }
    }
    assert_int_equal(batch->dropped, 2);
    assert_int_equal(batch->global_clips, BATCH - 2);
    assert_int_equal(batch->global_elements, elements);
    assert_int_equal(batch->global_tokens, tokens);
    /* the next one is whole again */
    assert_int_equal(loader_next(loader, &batch), OK);
    assert_int_equal(batch->dropped, 0);
    assert_int_equal(batch->global_clips, BATCH);
    loader_destroy(loader);
    dataset_close(ds);
}

static int make_folder(void **state)
{
    (void)state;
    small_folder(dir);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    small_remove(dir);
    return 0;
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(every_mesh_finds_the_same_clips),
        IN_FOLDER(another_clips_latents_are_found_on_every_mesh),
        IN_FOLDER(a_fault_that_passes_is_no_damage),
        IN_FOLDER(what_is_dropped_is_out_of_the_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
