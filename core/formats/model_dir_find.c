/* From what a user names to a model directory: model_dir_steps, _resolve and _candidate. */
#include "core/formats/model_dir.h"

#include "core/base/log.h"
#include "core/base/stop.h"
#include "core/formats/manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Status model_dir_step_path(const char *run_dir, int64_t step, const char *suffix,
                           char out[FILE_PATH_BYTES])
{
    char name[64];
    (void)snprintf(name, sizeof name, "checkpoints/step-%08lld%s", (long long)step, suffix);
    return file_join(out, run_dir, name);
}

/* "step-00001000" -> 1000; -1 for anything else, such as "step-00001000.partial" and
 * "step-000001000": a step has one name, or its folder would be found twice. */
static int64_t step_of(const char *name)
{
    enum { PREFIX = 5, DIGITS = 8, DIGITS_MAX = 17 };
    if (strncmp(name, "step-", PREFIX) != 0) return -1;
    const char *digits = name + PREFIX;
    const size_t length = strlen(digits);
    if (length < DIGITS || length > DIGITS_MAX || strspn(digits, "0123456789") != length) return -1;
    if (length > DIGITS && digits[0] == '0') return -1;
    return strtoll(digits, NULL, 10);
}

static int compare_newest_first(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

Status model_dir_steps(const char *run_dir, int64_t **steps, int64_t *count)
{
    char folder[FILE_PATH_BYTES];
    FileList list = { 0 };
    int64_t *found, n = 0;
    TRY(file_join(folder, run_dir, "checkpoints"));
    if (file_kind(folder) != FILE_ABSENT) TRY(file_list(folder, &list));
    found = malloc(((size_t)list.count + 1) * sizeof *found);
    if (!found) {
        file_list_destroy(&list);
        return status_fail(ERR_MEMORY, "%s: no memory to list it", folder);
    }
    for (int64_t i = 0; i < list.count; i++) {
        const int64_t step = step_of(list.names[i]);
        if (step >= 0) found[n++] = step;
    }
    file_list_destroy(&list);
    qsort(found, (size_t)n, sizeof *found, compare_newest_first);
    *steps = found;
    *count = n;
    return OK;
}

/* manifest_verify that a signal may interrupt: a checkpoint can take minutes to read. */
static Status verify(const char *path)
{
    Manifest manifest = { 0 };
    TRY(manifest_read(path, &manifest));
    Status s = manifest_check_names(path, &manifest);
    for (int64_t i = 0; i < manifest.count && s == OK; i++) {
        s = stop_check("verifying a checkpoint");
        if (s == OK) s = manifest_check_file(path, &manifest, i);
    }
    manifest_destroy(&manifest);
    return s;
}

static Status newest_that_verifies(const char *run_dir, const int64_t *steps, int64_t count,
                                   char out[FILE_PATH_BYTES])
{
    char why[1024] = "";
    for (int64_t i = 0; i < count; i++) {
        char path[FILE_PATH_BYTES];
        TRY(model_dir_step_path(run_dir, steps[i], "", path));
        const Status s = verify(path);
        if (s == ERR_STOPPED || s == ERR_MEMORY) return s; /* says nothing of the checkpoint */
        if (s == OK) {
            log_info("%s: using checkpoint %s", run_dir, file_name(path));
            memcpy(out, path, sizeof path);
            return OK;
        }
        if (i == 0) (void)snprintf(why, sizeof why, "%s", status_message());
        log_warn("checkpoint %s passed over: %s", file_name(path), status_message());
    }
    return status_fail(ERR_FORMAT, "%s: none of its %lld checkpoints is whole; the newest: %s",
                       run_dir, (long long)count, why);
}

static Status copy_path(const char *path, char out[FILE_PATH_BYTES])
{
    (void)snprintf(out, FILE_PATH_BYTES, "%s", path);
    return OK;
}

/* *direct: the path is a model directory itself. Otherwise the steps of a run, at least one. */
static Status find(const char *path, bool *direct, int64_t **steps, int64_t *count)
{
    char index[FILE_PATH_BYTES];
    FileKind kind;
    TRY(file_look(path, &kind));
    CHECK(kind != FILE_ABSENT, ERR_IO, "%s: no such folder", path);
    CHECK(kind == FILE_FOLDER, ERR_FORMAT,
          "%s: is not a folder; a model directory, a checkpoint or a run's folder is wanted", path);
    TRY(file_join(index, path, "model_index.json"));
    TRY(file_look(index, &kind));
    *direct = kind == FILE_REGULAR;
    if (*direct) return OK;
    TRY(model_dir_steps(path, steps, count));
    if (*count > 0) return OK;
    free(*steps);
    return status_fail(ERR_FORMAT,
                       "%s: has neither model_index.json nor checkpoints/step-*: it is no model "
                       "directory, no checkpoint and no run's folder",
                       path);
}

Status model_dir_resolve(const char *path, char out[FILE_PATH_BYTES])
{
    int64_t *steps = NULL, count = 0;
    bool direct = false;
    TRY(find(path, &direct, &steps, &count));
    if (direct) return copy_path(path, out);
    const Status s = newest_that_verifies(path, steps, count, out);
    free(steps);
    return s;
}

Status model_dir_candidate(const char *path, int64_t index, int64_t *count,
                           char out[FILE_PATH_BYTES])
{
    int64_t *steps = NULL;
    bool direct = false;
    *count = 1;
    TRY(find(path, &direct, &steps, count));
    if (direct) return copy_path(path, out);
    Status s = OK;
    if (index < *count) s = model_dir_step_path(path, steps[index], "", out);
    free(steps);
    return s;
}
