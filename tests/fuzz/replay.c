/*
 * replay: main() of a fuzz target without libFuzzer. Gives it every file of its corpus, and every
 * beginning and some broken copies of each: the same ones every time.
 *
 *     build/tests/fuzz/fuzz_json [FILE OR FOLDER...]
 */
#include "core/base/file.h"
#include "core/base/rng.h"
#include "tests/fuzz/fuzz.h"

#include <time.h>

#pragma weak LLVMFuzzerInitialize

enum { INPUT_BYTES_MAX = 1 << 24, BROKEN_COPIES = 200, BEGINNINGS = 200, SECONDS = 3 };

typedef struct Replay {
    int64_t files, inputs;
    double until_s; /* CPU time after which only the files themselves are given */
} Replay;

static double cpu_s(void)
{
    return (double)clock() / CLOCKS_PER_SEC;
}

static void give(Replay *replay, const char *bytes, size_t size)
{
    (void)LLVMFuzzerTestOneInput((const uint8_t *)bytes, size);
    replay->inputs++;
}

/* Copy `number` has one to three bytes changed. */
static void give_broken(Replay *replay, char *bytes, size_t size, uint64_t number)
{
    const Rng rng = rng_make(size, RNG_TEST, number);
    const uint32_t changes = 1 + rng_u32(rng, 0) % 3;
    char before[3];
    size_t at[3];
    for (uint32_t i = 0; i < changes; i++) {
        at[i] = rng_u32(rng, 1 + 2 * i) % size;
        before[i] = bytes[at[i]];
        bytes[at[i]] = (char)rng_u32(rng, 2 + 2 * i);
    }
    give(replay, bytes, size);
    for (uint32_t i = changes; i-- > 0;) bytes[at[i]] = before[i];
}

static void replay_file(Replay *replay, const char *path)
{
    char *bytes = NULL;
    size_t size = 0;
    MUST(file_read(path, INPUT_BYTES_MAX, &bytes, &size) == OK);
    replay->files++;
    give(replay, bytes, size);
    const size_t step = size / BEGINNINGS + 1;
    for (size_t length = 0; length < size && cpu_s() < replay->until_s; length += step)
        give(replay, bytes, length);
    for (uint64_t i = 0; size > 0 && i < BROKEN_COPIES && cpu_s() < replay->until_s; i++)
        give_broken(replay, bytes, size, i);
    free(bytes);
}

static void replay_path(Replay *replay, const char *path)
{
    char file[FILE_PATH_BYTES];
    FileList list = { 0 };
    if (file_kind(path) == FILE_REGULAR) {
        replay_file(replay, path);
        return;
    }
    MUST(file_list(path, &list) == OK);
    for (int64_t i = 0; i < list.count; i++) {
        MUST(file_join(file, path, list.names[i]) == OK);
        replay_file(replay, file);
    }
    file_list_destroy(&list);
}

int main(int argc, char **argv)
{
    const char *name = file_name(argv[0]) + strlen("fuzz_");
    char corpus[512];
    Replay replay = { .until_s = cpu_s() + SECONDS };
    if (LLVMFuzzerInitialize) (void)LLVMFuzzerInitialize(&argc, &argv);
    (void)snprintf(corpus, sizeof corpus, "tests/fuzz/corpus/%s", name);
    if (argc < 2) replay_path(&replay, corpus);
    for (int i = 1; i < argc; i++) replay_path(&replay, argv[i]);
    MUST(replay.files > 0);
    (void)printf("%s: %lld files, %lld inputs\n", name, (long long)replay.files,
                 (long long)replay.inputs);
    (void)printf("ok corpus_of_%s_does_no_harm\n", name);
    return 0;
}
