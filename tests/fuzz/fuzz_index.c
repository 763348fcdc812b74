/*
 * fuzz_index: the index of a set of safetensors files, two of which lie in a folder of its own:
 * one.safetensors with the tensors a and b, two.safetensors with c. Beside the folder lies
 * secret.safetensors, which no index may reach.
 */
#include "core/base/file.h"
#include "core/formats/safetensors_set.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/small_dataset.h"

#include <limits.h>

static char parent[256], folder[300];

static void write_file(const char *below, const char *name, const char *const *tensors,
                       int64_t count)
{
    char path[FILE_PATH_BYTES];
    SafetensorsSpec specs[2];
    SafetensorsWriter *writer = NULL;
    const float values[4] = { 0 };
    for (int64_t i = 0; i < count; i++) specs[i] = (SafetensorsSpec){ tensors[i], F32, SHAPE(2) };
    MUST(file_join(path, below, name) == OK);
    MUST(safetensors_create(path, specs, count, NULL, &writer) == OK);
    MUST(safetensors_write(writer, values, (size_t)count * 2 * sizeof *values) == OK);
    MUST(safetensors_finish(writer, NULL, NULL) == OK);
}

static void remove_folder(void)
{
    (void)file_remove_tree(parent);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char *const one[] = { "a", "b" }, *const two[] = { "c" };
    (void)argc;
    (void)argv;
    small_folder(parent);
    (void)atexit(remove_folder);
    (void)snprintf(folder, sizeof folder, "%s/set", parent);
    MUST(file_make_folders(folder) == OK);
    write_file(folder, "one.safetensors", one, 2);
    write_file(folder, "two.safetensors", two, 1);
    write_file(parent, "secret.safetensors", two, 1);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    SafetensorsSet set = { 0 };
    char *text = fuzz_copy(bytes, size);
    /* a file that is named and is not there: ERR_IO */
    const Status s = safetensors_set_open_index(folder, "fuzz.index.json", text, size, &set);
    if (s != OK) fuzz_refused(s, ERR_IO);
    for (int64_t i = 0; i < set.count; i++) {
        const char *path = safetensors_path(set.files[i]);
        MUST(strncmp(path, folder, strlen(folder)) == 0);
        MUST(!strchr(path + strlen(folder) + 1, '/'));
    }
    safetensors_set_close(&set);
    free(text);
    return 0;
}
