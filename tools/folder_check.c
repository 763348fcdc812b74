#include "tools/folder_check.h"

#include <stdio.h>
#include <string.h>

typedef struct Check {
    const char *folder;
    FolderCheckOptions options;
    FolderCheck *result;
} Check;

/* Takes this thread's message. */
static void add_problem(const Check *check)
{
    FolderCheck *result = check->result;
    if (check->options.speak) log_error("%s", status_message());
    if (result->problems++ == 0)
        (void)snprintf(result->first, sizeof result->first, "%s", status_message());
}

static Status check_size(const char *path, const ManifestFile *file)
{
    int64_t bytes;
    TRY(disk_size(path, &bytes));
    CHECK(bytes == file->bytes, ERR_FORMAT, "%s: has %lld bytes, %lld were written", path,
          (long long)bytes, (long long)file->bytes);
    return OK;
}

static Status check_file(const Check *check, const Manifest *manifest, int64_t index)
{
    const ManifestFile *file = &manifest->files[index];
    char path[FILE_PATH_BYTES];
    TRY(file_join(path, check->folder, file->name));
    TRY(check_size(path, file));
    if (check->options.quick) return OK;
    TRY(manifest_check_file(check->folder, manifest, index));
    if (check->options.progress) byte_progress_add(check->options.progress, file->bytes);
    return OK;
}

/* Both lists are sorted: one walk finds what is missing and what was added. Only what the folder
 * was seen to hold is opened, whatever paths the manifest names. */
static void compare(const Check *check, const Manifest *manifest, const FileList *list)
{
    const int size = check->options.size > 0 ? check->options.size : 1;
    const bool names = check->options.rank == 0;
    int64_t i = 0, k = 0;
    while (i < manifest->count || k < list->count) {
        const char *wanted = i < manifest->count ? manifest->files[i].name : NULL;
        const char *there = k < list->count ? list->names[k] : NULL;
        const int order = !wanted ? 1 : !there ? -1 : strcmp(wanted, there);
        Status s = OK;
        if (order == 0 && i % size == check->options.rank)
            s = check_file(check, manifest, i);
        else if (order < 0 && names)
            s = status_fail(ERR_FORMAT, "%s/%s: is missing; manifest.json lists it", check->folder,
                            wanted);
        else if (order > 0 && names && !manifest_leaves_out(there))
            s = status_fail(ERR_FORMAT, "%s/%s: was added later; manifest.json does not list it",
                            check->folder, there);
        if (s != OK) add_problem(check);
        i += order <= 0;
        k += order >= 0;
    }
}

Status folder_sides_read(const char *folder, FolderSides *out)
{
    FolderSides sides = { 0 };
    TRY(manifest_read(folder, &sides.manifest));
    const Status s = file_list_tree(folder, &sides.list);
    if (s == OK)
        *out = sides;
    else
        folder_sides_destroy(&sides);
    return s;
}

void folder_sides_destroy(FolderSides *sides)
{
    file_list_destroy(&sides->list);
    manifest_destroy(&sides->manifest);
}

void folder_compare(const char *folder, const FolderSides *sides, FolderCheckOptions options,
                    FolderCheck *out)
{
    const Check check = { folder, options, out };
    const Manifest *manifest = &sides->manifest;
    *out = (FolderCheck){ .files = manifest->count, .root = manifest->root };
    for (int64_t i = 0; i < manifest->count; i++) out->bytes += manifest->files[i].bytes;
    compare(&check, manifest, &sides->list);
}

Status folder_check(const char *folder, FolderCheckOptions options, FolderCheck *out)
{
    const Check check = { folder, options, out };
    FolderSides sides = { 0 };
    *out = (FolderCheck){ 0 };
    const Status s = folder_sides_read(folder, &sides);
    if (s == OK)
        folder_compare(folder, &sides, options, out);
    else if (s != ERR_MEMORY)
        add_problem(&check);
    folder_sides_destroy(&sides);
    return s == ERR_MEMORY ? s : OK;
}

int64_t folder_check_bytes(const char *folder)
{
    Manifest manifest = { 0 };
    int64_t bytes = 0;
    if (manifest_read(folder, &manifest) != OK) return 0;
    for (int64_t i = 0; i < manifest.count; i++) bytes += manifest.files[i].bytes;
    manifest_destroy(&manifest);
    return bytes;
}
