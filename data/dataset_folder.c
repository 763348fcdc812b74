#include "data/dataset_folder.h"

#include "core/base/file.h"
#include "data/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

static bool is_shard_name(const char *name)
{
    int64_t number = 0;
    int end = 0;
    return sscanf(name, "shard-%5" SCNd64 ".h5%n", &number, &end) == 1 && end > 0 &&
           (name[end] == '\0' || strcmp(name + end, ".partial") == 0);
}

/* What an interrupted writer left is removed; a whole file must say that it is ours. */
static Status clear_shard(const char *path)
{
    const size_t length = strlen(path);
    if (strcmp(path + length - 3, ".h5") == 0) {
        H5File *file = NULL;
        char format[H5_MAX_TEXT + 1] = "";
        Status s = h5_open(path, &file);
        if (s == OK) s = h5_read_text(file, "format", format);
        h5_close(file);
        if (s == ERR_MEMORY) return s;
        CHECK(s == OK && strcmp(format, SHARD_FORMAT) == 0, ERR_USAGE,
              "%s: is no shard of an unfinished dataset: choose another folder", path);
    }
    CHECK(unlink(path) == 0, ERR_IO, "%s: %s", path, strerror(errno));
    return OK;
}

Status dataset_folder_clear(const char *dir)
{
    FileList list;
    char path[FILE_PATH_BYTES];
    TRY(file_join(path, dir, "dataset.json"));
    CHECK(file_kind(path) == FILE_ABSENT, ERR_USAGE,
          "%s: holds a dataset already: choose another folder or remove it", dir);
    TRY(file_list(dir, &list));
    Status s = OK;
    for (int64_t i = 0; s == OK && i < list.count; i++) {
        if (!is_shard_name(list.names[i])) continue;
        s = file_join(path, dir, list.names[i]);
        if (s == OK) s = clear_shard(path);
    }
    file_list_destroy(&list);
    return s;
}

Status dataset_folder_check(const char *dir, int64_t shards)
{
    FileList list;
    TRY(file_list(dir, &list));
    Status s = OK;
    for (int64_t i = 0; s == OK && i < list.count; i++) {
        const char *name = list.names[i];
        char whole[SHARD_NAME_BYTES];
        if (!is_shard_name(name)) continue;
        const int64_t number = strtoll(name + strlen("shard-"), NULL, 10);
        shard_file_name(number, whole);
        if (number < 0 || number >= shards || strcmp(name, whole) != 0)
            s = status_fail(ERR_FORMAT, "%s/%s: is not in dataset.json: it was added later", dir,
                            name);
    }
    file_list_destroy(&list);
    return s;
}

Status dataset_folder_lock(const char *dir, int *out)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0, ERR_IO, "%s: %s", dir, strerror(errno));
    /* a file system without locks is no reason to refuse: the lock only guards against a mistake */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(fd);
        return status_fail(ERR_USAGE, "%s: another ingest is writing here", dir);
    }
    *out = fd;
    return OK;
}
