#include "tools/target.h"

#include "core/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const names[] = {
    [TARGET_DATASET] = "dataset",
    [TARGET_RUN] = "run",
    [TARGET_CHECKPOINT] = "checkpoint",
    [TARGET_MODEL] = "model directory",
    [TARGET_CODEC] = "codec",
    [TARGET_WEIGHTS] = "weights folder",
    [TARGET_SAFETENSORS] = "safetensors",
    [TARGET_INDEX] = "safetensors index",
};

/* What a folder with such an entry is; the first that is there decides. */
static const struct {
    const char *entry;
    TargetKind kind;
    bool file; /* its path stands for the folder */
} marks[] = {
    { "dataset.json", TARGET_DATASET, true },   { "shard-00000.h5", TARGET_DATASET, true },
    { "state.json", TARGET_CHECKPOINT, true },  { "manifest.json", TARGET_CHECKPOINT, true },
    { "model_index.json", TARGET_MODEL, true }, { "linear_codec.safetensors", TARGET_CODEC, false },
    { "vae.json", TARGET_CODEC, true },         { "metrics.jsonl", TARGET_RUN, true },
    { "checkpoints", TARGET_RUN, false },
};
enum { MARK_COUNT = sizeof marks / sizeof marks[0] };

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static Status find_folder(const char *path, Target *out)
{
    FileList list = { 0 };
    char entry[FILE_PATH_BYTES];
    for (int i = 0; i < MARK_COUNT; i++) {
        TRY(file_join(entry, path, marks[i].entry));
        if (file_kind(entry) == FILE_ABSENT) continue;
        out->kind = marks[i].kind;
        return OK;
    }
    TRY(file_list(path, &list));
    bool found = false;
    for (int64_t i = 0; i < list.count && !found; i++)
        found = ends_with(list.names[i], ".safetensors");
    file_list_destroy(&list);
    CHECK(found, ERR_FORMAT,
          "%s: is no dataset, run, checkpoint, model directory or codec, and holds no safetensors "
          "files",
          path);
    out->kind = TARGET_WEIGHTS;
    return OK;
}

/* The first 16 bytes, or as many as there are. */
static Status read_start(const char *path, char out[16], ssize_t *length)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0, ERR_IO, "%s: %s", path, strerror(errno));
    *length = read(fd, out, 16);
    const int error = errno;
    (void)close(fd);
    CHECK(*length >= 0, ERR_IO, "%s: %s", path, strerror(error));
    return OK;
}

static void parent_of(const char *path, char out[FILE_PATH_BYTES])
{
    const int length = (int)(file_name(path) - path);
    if (length == 0)
        (void)snprintf(out, FILE_PATH_BYTES, ".");
    else
        (void)snprintf(out, FILE_PATH_BYTES, "%.*s", length > 1 ? length - 1 : 1, path);
}

/* Whether the file's name is that of a folder's mark. */
static bool is_mark(const char *path)
{
    for (int i = 0; i < MARK_COUNT; i++)
        if (marks[i].file && strcmp(file_name(path), marks[i].entry) == 0) return true;
    return false;
}

static Status find_file(const char *path, Target *out)
{
    char start[16], folder[FILE_PATH_BYTES];
    ssize_t length = 0;
    TRY(read_start(path, start, &length));
    const bool shard = length >= 8 && memcmp(start, "\x89HDF\r\n\x1a\n", 8) == 0;
    if (shard || is_mark(path)) {
        parent_of(path, folder);
        TRY(find_folder(folder, out));
        CHECK(!shard || out->kind == TARGET_DATASET, ERR_FORMAT,
              "%s: is an HDF5 file without a dataset.json beside it", path);
        (void)snprintf(out->path, sizeof out->path, "%s", folder);
        log_info("%s belongs to the %s %s", path, names[out->kind], folder);
        return OK;
    }
    if (ends_with(path, ".safetensors.index.json")) {
        out->kind = TARGET_INDEX;
        return OK;
    }
    /* a safetensors file under another name: its header starts with a brace */
    const bool header = length >= 9 && start[8] == '{' && memcmp(start + 4, "\0\0\0\0", 4) == 0;
    CHECK(header || ends_with(path, ".safetensors"), ERR_FORMAT,
          "%s: is neither an HDF5 shard nor a safetensors file nor an index of some", path);
    out->kind = TARGET_SAFETENSORS;
    return OK;
}

Status target_find(const char *path, Target *out)
{
    Target target = { 0 };
    FileKind kind;
    TRY(file_look(path, &kind));
    CHECK(kind != FILE_ABSENT, ERR_IO, "%.200s: no such file or folder", path);
    CHECK(kind != FILE_OTHER, ERR_FORMAT, "%s: is neither a file nor a folder", path);
    CHECK(strlen(path) < sizeof target.path, ERR_IO, "%.200s...: the path is too long", path);
    (void)snprintf(target.path, sizeof target.path, "%s", path);
    TRY(kind == FILE_FOLDER ? find_folder(path, &target) : find_file(path, &target));
    target.name = names[target.kind];
    *out = target;
    return OK;
}
