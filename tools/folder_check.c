#include "tools/folder_check.h"

#include "core/formats/manifest.h"

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
    int64_t i = 0, k = 0;
    while (i < manifest->count || k < list->count) {
        const char *wanted = i < manifest->count ? manifest->files[i].name : NULL;
        const char *there = k < list->count ? list->names[k] : NULL;
        const int order = !wanted ? 1 : !there ? -1 : strcmp(wanted, there);
        Status s = OK;
        if (order < 0)
            s = status_fail(ERR_FORMAT, "%s/%s: is missing; manifest.json lists it", check->folder,
                            wanted);
        else if (order == 0)
            s = check_file(check, manifest, i);
        else if (strcmp(there, "manifest.json") != 0)
            s = status_fail(ERR_FORMAT, "%s/%s: was added later; manifest.json does not list it",
                            check->folder, there);
        if (s != OK) add_problem(check);
        i += order <= 0;
        k += order >= 0;
    }
}

Status folder_check(const char *folder, FolderCheckOptions options, FolderCheck *out)
{
    const Check check = { folder, options, out };
    Manifest manifest = { 0 };
    FileList list = { 0 };
    *out = (FolderCheck){ 0 };
    Status s = manifest_read(folder, &manifest);
    if (s == OK) {
        out->files = manifest.count;
        out->root = manifest.root;
        for (int64_t i = 0; i < manifest.count; i++) out->bytes += manifest.files[i].bytes;
        s = file_list_tree(folder, &list);
    }
    if (s == OK)
        compare(&check, &manifest, &list);
    else if (s != ERR_MEMORY)
        add_problem(&check);
    file_list_destroy(&list);
    manifest_destroy(&manifest);
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
