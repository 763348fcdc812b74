#include "tools/disk.h"

#include "core/base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_DEPTH = 8, MAX_FILES = 100000 };

Status disk_size(const char *path, int64_t *bytes)
{
    struct stat st;
    CHECK(stat(path, &st) == 0, ERR_IO, "%s: %s", path, strerror(errno));
    CHECK(S_ISREG(st.st_mode), ERR_IO, "%s: is not a regular file", path);
    *bytes = st.st_size;
    return OK;
}

static Status add(DiskFiles *files, const char *path, const char *name)
{
    CHECK(files->count < MAX_FILES, ERR_FORMAT, "%s: one of more than %d files in its folder", path,
          MAX_FILES);
    /* room doubles at powers of two */
    if ((files->count & (files->count - 1)) == 0) {
        const size_t room = files->count > 0 ? 2 * (size_t)files->count : 1;
        DiskFile *items = realloc(files->items, room * sizeof *items);
        CHECK(items, ERR_MEMORY, "%s: no memory to list it", path);
        files->items = items;
    }
    DiskFile *file = &files->items[files->count];
    TRY(disk_size(path, &file->bytes));
    file->name = strdup(name);
    CHECK(file->name, ERR_MEMORY, "%s: no memory to list it", path);
    files->bytes += file->bytes;
    files->count++;
    return OK;
}

/* path is the folder, `below` what of it lies below the first one (length 0: nothing). */
static Status list_folder(DiskFiles *files, const char *path, size_t root_length, int depth)
{
    Status s = OK;
    FileList list = { 0 };
    CHECK(depth < MAX_DEPTH, ERR_FORMAT, "%s: lies more than %d folders deep", path, MAX_DEPTH);
    TRY(file_list(path, &list));
    for (int64_t i = 0; i < list.count && s == OK; i++) {
        char entry[FILE_PATH_BYTES];
        s = file_join(entry, path, list.names[i]);
        if (s != OK) break;
        const FileKind kind = file_kind(entry);
        if (kind == FILE_REGULAR) s = add(files, entry, entry + root_length);
        if (kind == FILE_FOLDER) s = list_folder(files, entry, root_length, depth + 1);
    }
    file_list_destroy(&list);
    return s;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const DiskFile *)a)->name, ((const DiskFile *)b)->name);
}

Status disk_list(const char *folder, DiskFiles *out)
{
    DiskFiles files = { 0 };
    char probe[FILE_PATH_BYTES];
    /* where file_join puts names: after the folder and its one slash */
    TRY(file_join(probe, folder, "x"));
    const Status s = list_folder(&files, folder, strlen(probe) - 1, 0);
    if (s != OK) {
        disk_destroy(&files);
        return s;
    }
    if (files.count > 0)
        qsort(files.items, (size_t)files.count, sizeof *files.items, compare_names);
    *out = files;
    return OK;
}

void disk_destroy(DiskFiles *files)
{
    for (int64_t i = 0; i < files->count; i++) free(files->items[i].name);
    free(files->items);
    *files = (DiskFiles){ 0 };
}

void byte_progress_begin(ByteProgress *progress, const char *what, int64_t total_bytes)
{
    progress->bytes = 0;
    progress_begin(&progress->bar, what, "MiB", total_bytes >> 20);
}

void byte_progress_add(ByteProgress *progress, int64_t bytes)
{
    const int64_t before = progress->bytes >> 20;
    progress->bytes += bytes;
    /* the last MiB may be many small files: it is shown once */
    if (progress->bytes >> 20 != before)
        progress_update(&progress->bar, progress->bytes >> 20, NULL);
}

void byte_progress_end(ByteProgress *progress)
{
    progress_end(&progress->bar);
}
