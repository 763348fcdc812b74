/*
 * dataset_fuzz: thousands of broken copies of a small dataset are opened and read.
 *
 * Each must be refused in one line or give exactly what was written; none may crash, hang or take
 * memory. A child process reads them and tells in shared memory where it is, so that what kills it
 * is named by its number. ZT_FUZZ_MUTANTS and ZT_FUZZ_SEED make longer and other runs.
 */
#include "core/base/rng.h"
#include "data/dataset.h"
#include "data/shard.h"
#include "tests/support/h5_hostile.h"
#include "tests/support/small_dataset.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

enum { CLIPS = 6, MUTANTS = 1200, CHILD_TIMEOUT_S = 120 };

typedef struct FuzzProgress {
    int64_t at, refused, whole;
    bool wrong;        /* a mutant gave other values than were written */
    char message[512]; /* what was wrong with it */
} FuzzProgress;

static int64_t setting(const char *name, int64_t fallback)
{
    const char *text = getenv(name);
    return text != NULL ? atoll(text) : fallback;
}

/* Changes 1 to 6 bytes, or copies or clears a short run: the same for the same number. */
static void mutate(char *bytes, int64_t length, uint64_t number)
{
    const Rng rng = rng_make((uint64_t)setting("ZT_FUZZ_SEED", 1), RNG_TEST, number);
    const uint32_t kind = rng_u32(rng, 0) % 8;
    const int64_t from = rng_u32(rng, 1) % length, to = rng_u32(rng, 2) % length;
    int64_t run = 1 + rng_u32(rng, 3) % 32;
    if (run > length - from) run = length - from;
    if (run > length - to) run = length - to;
    if (kind == 0) {
        memmove(bytes + to, bytes + from, (size_t)run);
    } else if (kind == 1) {
        memset(bytes + to, (int)(rng_u32(rng, 4) % 2) * 255, (size_t)run);
    } else {
        const uint32_t changes = 1 + rng_u32(rng, 4) % 6;
        for (uint32_t i = 0; i < changes; i++) {
            const int64_t at = rng_u32(rng, 8 + 2 * i) % length;
            bytes[at] = (char)rng_u32(rng, 9 + 2 * i);
        }
    }
}

/* ---- what a child does with one mutant ------------------------------------------------------ */

static void note_wrong(FuzzProgress *progress, const char *what)
{
    progress->wrong = true;
    snprintf(progress->message, sizeof(progress->message), "%s", what);
}

/* Latents of every clip; values must be those written when the digests say so. */
static Status read_clips(Dataset *ds, FuzzProgress *progress)
{
    for (int64_t clip = 0; clip < dataset_clips(ds); clip++) {
        float values[SMALL_MOST_VALUES], expected[SMALL_MOST_VALUES];
        const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
        const int64_t count = small_values(clip, expected);
        if (b->tokens * b->patch != count) {
            note_wrong(progress, "a clip has another size");
            return ERR_FORMAT;
        }
        TRY(dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip),
                                 tensor_of(values, F32, SHAPE(b->tokens, b->patch))));
        if (memcmp(values, expected, (size_t)count * sizeof(float)) != 0) {
            note_wrong(progress, "a clip has other values");
        }
    }
    return OK;
}

static void read_dataset(const char *dir, FuzzProgress *progress)
{
    Dataset *ds = NULL;
    Status s = dataset_open(dir, &ds);
    if (s == OK) s = read_clips(ds, progress);
    dataset_close(ds);
    if (s == OK) {
        progress->whole++;
        return;
    }
    progress->refused++;
    if (strchr(status_message(), '\n') != NULL) note_wrong(progress, "message of several lines");
}

/* The same without dataset.json: what its digests would refuse is parsed to the end. */
static void read_shard(const char *dir, FuzzProgress *progress)
{
    char path[300];
    H5File *file = NULL;
    InfoStore *info = NULL;
    static Shard shard;
    snprintf(path, sizeof(path), "%s/shard-00000.h5", dir);
    Status s = h5_open(path, &file);
    if (s == OK) s = shard_read(file, &shard, &info);
    for (int64_t i = 0; s == OK && i < shard.bucket_count; i++) {
        static uint16_t values[1 << 16];
        H5Array *latents = NULL;
        s = shard_open_latents(file, &shard.buckets[i], &latents);
        const int64_t count = s == OK ? shard.buckets[i].tokens * shard.buckets[i].patch : 0;
        if (s == OK && count <= (int64_t)(sizeof(values) / sizeof(values[0]))) {
            s = h5_array_read(latents, 0, 1, values);
        }
        h5_array_close(latents);
    }
    *(s == OK ? &progress->whole : &progress->refused) += 1;
    info_store_destroy(info);
    shard_destroy(&shard);
    h5_close(file);
}

typedef void Reader(const char *dir, FuzzProgress *progress);

static void run_mutants(const char *dir, const char *name, Reader *reader, FuzzProgress *progress)
{
    int64_t length;
    char *good = small_read(dir, name, &length), *bytes = malloc((size_t)length);
    const int64_t mutants = setting("ZT_FUZZ_MUTANTS", MUTANTS);
    for (; bytes != NULL && progress->at < mutants && !progress->wrong; progress->at++) {
        memcpy(bytes, good, (size_t)length);
        mutate(bytes, length, (uint64_t)progress->at);
        small_write(dir, name, bytes, length);
        reader(dir, progress);
    }
    free(bytes);
    free(good);
}

/* ---- the parent ----------------------------------------------------------------------------- */

/* Runs all mutants of one file of the dataset in a child. */
static void fuzz(const char *dir, const char *name, Reader *reader)
{
    FuzzProgress *progress =
        mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(progress != MAP_FAILED);
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on in the child */
        signal(SIGABRT, SIG_DFL);
        signal(SIGFPE, SIG_DFL);
        alarm(CHILD_TIMEOUT_S);
        run_mutants(dir, name, reader, progress);
        _exit(0);
    }
    int how = 0;
    assert_int_equal(waitpid(child, &how, 0), child);
    print_message("%s: %lld mutants, %lld refused, %lld as written\n", name,
                  (long long)progress->at, (long long)progress->refused,
                  (long long)progress->whole);
    if (!WIFEXITED(how) || WEXITSTATUS(how) != 0) {
        fail_msg("%s: mutant %lld ended the reader with signal %d", name, (long long)progress->at,
                 WIFSIGNALED(how) ? WTERMSIG(how) : 0);
    }
    if (progress->wrong) {
        fail_msg("%s: mutant %lld: %s", name, (long long)progress->at - 1, progress->message);
    }
    assert_true(progress->refused > 0);
    munmap(progress, sizeof(*progress));
}

static char dir[256];

static int make_dataset(void **state)
{
    (void)state;
    small_folder(dir);
    small_dataset(dir, CLIPS, 0);
    return 0;
}

static int remove_dataset(void **state)
{
    (void)state;
    small_remove(dir);
    return 0;
}

static void broken_shards_are_refused_or_read_as_written(void **state)
{
    (void)state;
    fuzz(dir, "shard-00000.h5", read_dataset);
}

static void broken_records_are_refused_or_read_as_written(void **state)
{
    (void)state;
    fuzz(dir, "dataset.json", read_dataset);
}

static void broken_shards_without_their_record_do_no_harm(void **state)
{
    (void)state;
    fuzz(dir, "shard-00000.h5", read_shard);
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    /* the file has some 30 kB; the sanitizers' own memory is most of this */
    assert_true(usage.ru_maxrss < 1024 * 1024);
}

#define WITH_DATA(test) cmocka_unit_test_setup_teardown(test, make_dataset, remove_dataset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DATA(broken_shards_are_refused_or_read_as_written),
        WITH_DATA(broken_records_are_refused_or_read_as_written),
        WITH_DATA(broken_shards_without_their_record_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
