/* The folder half of core/base/file.h. */
#include "core/base/file.h"

#include "core/base/retry.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 64 }; /* of a tree that is listed or removed: each level holds a descriptor */

static int open_folder(int parent, const char *name, int flags)
{
    int fd;
    RETRY(fd, openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags));
    return fd;
}

/* One folder that is there afterwards; *made: it was not there before. */
static Status make_folder(const char *path, bool *made)
{
    int result;
    RETRY(result, mkdir(path, 0777));
    *made = result == 0;
    if (*made) return OK;
    if (errno != EEXIST) return file_fail(path, "mkdir");
    FileKind kind;
    TRY(file_look(path, &kind));
    CHECK(kind == FILE_FOLDER, ERR_IO, "%s: is not a folder", path);
    return OK;
}

static Status parent_of(const char *path, char out[FILE_PATH_BYTES])
{
    size_t length = strlen(path);
    CHECK(length < FILE_PATH_BYTES, ERR_IO, "%.200s...: the path is longer than %d bytes", path,
          FILE_PATH_BYTES - 1);
    while (length > 1 && path[length - 1] == '/') length--;
    while (length > 0 && path[length - 1] != '/') length--;
    while (length > 1 && path[length - 1] == '/') length--;
    memcpy(out, path, length);
    out[length] = 0;
    if (length == 0) (void)snprintf(out, FILE_PATH_BYTES, ".");
    return OK;
}

/* A parent that may not be read is not ours: nothing was made in it. */
static Status sync_parent(const char *path, bool made)
{
    char parent[FILE_PATH_BYTES];
    TRY(parent_of(path, parent));
    return made || access(parent, R_OK) == 0 ? file_sync_folder(parent) : OK;
}

Status file_make_folders(const char *path)
{
    char part[FILE_PATH_BYTES];
    const size_t length = strlen(path);
    CHECK(length < sizeof part, ERR_IO, "%.200s...: the path is longer than %d bytes", path,
          FILE_PATH_BYTES - 1);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != 0) continue;
        memcpy(part, path, i);
        part[i] = 0;
        bool made;
        TRY(make_folder(part, &made));
        /* one that is there may be of a run that was killed before it came to this */
        if (made || i == length) TRY(sync_parent(part, made));
    }
    return OK;
}

Status file_sync_folder(const char *path)
{
    const int fd = open_folder(AT_FDCWD, path, 0);
    if (fd < 0) return file_fail(path, "open");
    Status s = OK;
    int result;
    RETRY(result, fsync(fd));
    /* some network file systems cannot flush a folder and say so with EINVAL */
    if (result != 0 && errno != EINVAL) s = file_fail(path, "fsync");
    (void)close(fd);
    return s;
}

Status file_sync_parent(const char *path)
{
    return sync_parent(path, true);
}

Status file_rename(const char *from, const char *to)
{
    int result;
    RETRY(result, rename(from, to));
    CHECK(result == 0, ERR_IO, "%s: rename: %s (to %s)", from, strerror(errno), to);
    return file_sync_parent(to);
}

Status file_exchange(const char *a, const char *b, bool *swapped)
{
    int result;
    RETRY(result, renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE));
    *swapped = result == 0;
    if (*swapped) return file_sync_parent(b);
    if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return OK;
    return status_fail(ERR_IO, "%s: rename: %s (to change places with %s)", a, strerror(errno), b);
}

/* --- lists --- */

void file_list_destroy(FileList *list)
{
    if (!list) return;
    for (int64_t i = 0; i < list->count; i++) free(list->names[i]);
    free(list->names);
    *list = (FileList){ 0 };
}

static Status list_add(FileList *list, const char *folder, const char *name)
{
    /* capacity is the power of two at or above count */
    if ((list->count & (list->count - 1)) == 0) {
        const size_t capacity = list->count > 0 ? 2 * (size_t)list->count : 1;
        char **names = realloc(list->names, capacity * sizeof *names);
        CHECK(names, ERR_MEMORY, "%s: no memory to list it", folder);
        list->names = names;
    }
    char *copy = strdup(name);
    CHECK(copy, ERR_MEMORY, "%s: no memory to list it", folder);
    list->names[list->count++] = copy;
    return OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list_sort(FileList *list)
{
    if (list->count > 1)
        qsort(list->names, (size_t)list->count, sizeof *list->names, compare_names);
}

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* The folder that `fd` (then owned by *dir) stands for. */
static Status open_list(int fd, const char *path, DIR **dir)
{
    if (fd < 0) return file_fail(path, "open");
    *dir = fdopendir(fd);
    if (*dir) return OK;
    const Status s = file_fail(path, "open");
    (void)close(fd);
    return s;
}

/* The next entry but "." and ".."; NULL after the last. */
static Status next_entry(DIR *dir, const char *path, const struct dirent **entry)
{
    int tries = 0;
    do {
        errno = 0;
        *entry = readdir(dir);
    } while (*entry ? is_dots((*entry)->d_name) : errno == EINTR && ++tries < RETRY_LIMIT);
    return *entry || errno == 0 ? OK : file_fail(path, "readdir");
}

Status file_list(const char *path, FileList *out)
{
    Status s = OK;
    FileList list = { 0 };
    DIR *dir = NULL;
    const struct dirent *entry;
    TRY(open_list(open_folder(AT_FDCWD, path, 0), path, &dir));
    for (;;) {
        TRY_TO(done, s, next_entry(dir, path, &entry));
        if (!entry) break;
        TRY_TO(done, s, list_add(&list, path, entry->d_name));
    }
    list_sort(&list);
    *out = list;
    list = (FileList){ 0 };
done:
    file_list_destroy(&list);
    (void)closedir(dir);
    return s;
}

static Status tree_add(FileList *list, const char *root, const char *below, int depth)
{
    char folder[FILE_PATH_BYTES], path[FILE_PATH_BYTES], name[FILE_PATH_BYTES];
    Status s = OK;
    FileList entries = { 0 };
    CHECK(depth < MAX_DEPTH, ERR_FORMAT, "%s: folders nest deeper than %d", root, MAX_DEPTH);
    if (below)
        TRY(file_join(folder, root, below));
    else
        (void)snprintf(folder, sizeof folder, "%s", root);
    TRY(file_list(folder, &entries));
    for (int64_t i = 0; i < entries.count; i++) {
        struct stat st;
        TRY_TO(done, s, file_join(path, folder, entries.names[i]));
        if (below)
            TRY_TO(done, s, file_join(name, below, entries.names[i]));
        else
            (void)snprintf(name, sizeof name, "%s", entries.names[i]);
        int result;
        RETRY(result, lstat(path, &st));
        if (result != 0) TRY_TO(done, s, file_fail(path, "stat"));
        if (S_ISDIR(st.st_mode)) {
            TRY_TO(done, s, tree_add(list, root, name, depth + 1));
            continue;
        }
        CHECK_TO(done, s, S_ISREG(st.st_mode), ERR_FORMAT,
                 "%s: is neither a file nor a folder (links are not allowed here)", path);
        TRY_TO(done, s, list_add(list, root, name));
    }
done:
    file_list_destroy(&entries);
    return s;
}

Status file_list_tree(const char *path, FileList *out)
{
    FileList list = { 0 };
    const Status s = tree_add(&list, path, NULL, 0);
    if (s != OK) {
        file_list_destroy(&list);
        return s;
    }
    list_sort(&list);
    *out = list;
    return OK;
}

/* --- removal: by descriptors, so that a folder swapped for a link meanwhile is not followed --- */

/* `shown`: the same as a path, for messages; it is longer while what is below goes. */
static Status remove_at(int parent, const char *name, char shown[FILE_PATH_BYTES], int depth)
{
    Status s = OK;
    DIR *dir = NULL;
    int result;
    const size_t length = strlen(shown);
    RETRY(result, unlinkat(parent, name, 0));
    if (result == 0 || errno == ENOENT) return OK;
    if (errno != EISDIR && errno != EPERM) return file_fail(shown, "unlink");
    CHECK(depth < MAX_DEPTH, ERR_IO, "%s: folders nest deeper than %d", shown, MAX_DEPTH);

    const struct dirent *entry;
    TRY(open_list(open_folder(parent, name, O_NOFOLLOW), shown, &dir));
    for (;;) {
        TRY_TO(done, s, next_entry(dir, shown, &entry));
        if (!entry) break;
        (void)snprintf(shown + length, FILE_PATH_BYTES - length, "/%s", entry->d_name);
        TRY_TO(done, s, remove_at(dirfd(dir), entry->d_name, shown, depth + 1));
        shown[length] = 0;
    }
    RETRY(result, unlinkat(parent, name, AT_REMOVEDIR));
    if (result != 0) s = file_fail(shown, "rmdir");
done:
    (void)closedir(dir);
    return s;
}

Status file_remove_tree(const char *path)
{
    char shown[FILE_PATH_BYTES];
    (void)snprintf(shown, sizeof shown, "%s", path);
    return remove_at(AT_FDCWD, path, shown, 0);
}
