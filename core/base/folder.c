/* The folder half of core/base/file.h. */
#include "core/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 64 }; /* of a tree that is listed or removed: each level holds a descriptor */

/* As in core/base/file.c. */
static Status fail_errno(const char *path)
{
    return status_fail(errno == ENOMEM ? ERR_MEMORY : ERR_IO, "%s: %s", path, strerror(errno));
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
        if (mkdir(part, 0777) == 0) {
            TRY(file_sync_parent(part));
            continue;
        }
        if (errno != EEXIST) return fail_errno(part);
        CHECK(file_kind(part) == FILE_FOLDER, ERR_IO, "%s: is not a folder", part);
    }
    return OK;
}

Status file_sync_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno(path);
    Status s = OK;
    /* some network file systems cannot flush a folder and say so with EINVAL */
    if (fsync(fd) != 0 && errno != EINVAL) s = fail_errno(path);
    (void)close(fd);
    return s;
}

Status file_sync_parent(const char *path)
{
    char parent[FILE_PATH_BYTES];
    size_t length = strlen(path);
    CHECK(length < sizeof parent, ERR_IO, "%.200s...: the path is longer than %d bytes", path,
          FILE_PATH_BYTES - 1);
    while (length > 1 && path[length - 1] == '/') length--;
    while (length > 0 && path[length - 1] != '/') length--;
    if (length == 0) return file_sync_folder(".");
    memcpy(parent, path, length);
    parent[length] = 0;
    return file_sync_folder(parent);
}

Status file_rename(const char *from, const char *to)
{
    CHECK(rename(from, to) == 0, ERR_IO, "%s: cannot become %s: %s", from, to, strerror(errno));
    return file_sync_parent(to);
}

Status file_exchange(const char *a, const char *b, bool *swapped)
{
    *swapped = renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0;
    if (*swapped) return file_sync_parent(b);
    if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP) return OK;
    return status_fail(ERR_IO, "%s: cannot change places with %s: %s", a, b, strerror(errno));
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

Status file_list(const char *path, FileList *out)
{
    Status s = OK;
    FileList list = { 0 };
    DIR *dir = opendir(path);
    if (!dir) return fail_errno(path);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        CHECK_TO(done, s, entry || errno == 0, ERR_IO, "%s: %s", path, strerror(errno));
        if (!entry) break;
        if (!is_dots(entry->d_name)) TRY_TO(done, s, list_add(&list, path, entry->d_name));
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
        CHECK_TO(done, s, lstat(path, &st) == 0, ERR_IO, "%s: %s", path, strerror(errno));
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

static Status remove_at(int parent, const char *name, const char *shown, int depth)
{
    Status s = OK;
    DIR *dir = NULL;
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return OK;
    CHECK(errno == EISDIR || errno == EPERM, ERR_IO, "%s: %s", shown, strerror(errno));
    CHECK(depth < MAX_DEPTH, ERR_IO, "%s: folders nest deeper than %d", shown, MAX_DEPTH);

    const int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    CHECK(fd >= 0, ERR_IO, "%s: %s", shown, strerror(errno));
    dir = fdopendir(fd);
    if (!dir) {
        s = fail_errno(shown);
        (void)close(fd);
        return s;
    }
    const struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (!is_dots(entry->d_name))
            TRY_TO(done, s, remove_at(dirfd(dir), entry->d_name, shown, depth + 1));
    }
    CHECK_TO(done, s, unlinkat(parent, name, AT_REMOVEDIR) == 0, ERR_IO, "%s: %s", shown,
             strerror(errno));
done:
    (void)closedir(dir);
    return s;
}

Status file_remove_tree(const char *path)
{
    return remove_at(AT_FDCWD, path, path, 0);
}
