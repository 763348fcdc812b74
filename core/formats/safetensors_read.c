/* The reading half of core/formats/safetensors.h. */
#include "core/formats/safetensors_header.h"

#include "core/base/retry.h"
#include "core/formats/safetensors_bytes.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct Safetensors {
    char *path; /* owned */
    int fd;     /* owned */
    pthread_mutex_t mutex;
    atomic_bool missed;
    pthread_mutex_t *disk; /* the mutex, also for those to whom the file is const */
    atomic_bool *absent;   /* likewise: some of the file was not in memory */
    SafetensorsHeader header;
};

/* As much from the start on as the system has in memory: threads copy that side by side. */
static size_t read_present(const Safetensors *file, int64_t offset, void *bytes, size_t length)
{
    size_t have = 0;
    while (have < length) {
        const struct iovec rest = { (char *)bytes + have, length - have };
        ssize_t n;
        RETRY(n, preadv2(file->fd, &rest, 1, (off_t)offset + (off_t)have, RWF_NOWAIT));
        if (n <= 0) break; /* not there, or not a system that can say so */
        have += (size_t)n;
    }
    return have;
}

/* Or an error: the file may have shrunk since it was opened. */
static Status read_rest(const Safetensors *file, int64_t offset, char *to, size_t length)
{
    while (length > 0) {
        ssize_t n;
        RETRY(n, pread(file->fd, to, length, (off_t)offset));
        CHECK(n >= 0, ERR_IO, "%s: read: %s", file->path, strerror(errno));
        CHECK(n > 0, ERR_FORMAT, "%s: ends at byte %lld, %zu more were expected", file->path,
              (long long)offset, length);
        to += n;
        offset += n;
        length -= (size_t)n;
    }
    return OK;
}

/* The disk is asked by one thread at a time, in order: then the system reads ahead of it. A file
 * that is not in memory as a whole is only asked that way: reads of what is there would spoil the
 * guess of what comes next. */
Status safetensors_read_bytes(const Safetensors *file, int64_t offset, void *bytes, size_t length)
{
    const size_t have = atomic_load(file->absent) ? 0 : read_present(file, offset, bytes, length);
    if (have == length) return OK;
    atomic_store(file->absent, true);
    pthread_mutex_lock(file->disk);
    const Status s = read_rest(file, offset + (int64_t)have, (char *)bytes + have, length - have);
    pthread_mutex_unlock(file->disk);
    return s;
}

static Status read_header(Safetensors *file)
{
    struct stat st;
    uint8_t prefix[8];
    uint64_t length = 0;
    int result;
    RETRY(result, fstat(file->fd, &st));
    CHECK(result == 0, ERR_IO, "%s: stat: %s", file->path, strerror(errno));
    CHECK(S_ISREG(st.st_mode), ERR_IO, "%s: is not a regular file", file->path);
    CHECK(st.st_size >= 8, ERR_FORMAT, "%s: has %lld bytes, a safetensors file has at least 8",
          file->path, (long long)st.st_size);
    TRY(safetensors_read_bytes(file, 0, prefix, sizeof prefix));
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    CHECK(length <= SAFETENSORS_MAX_HEADER, ERR_FORMAT,
          "%s: header of %llu bytes, at most %d are allowed", file->path,
          (unsigned long long)length, SAFETENSORS_MAX_HEADER);
    CHECK(length <= (uint64_t)st.st_size - 8, ERR_FORMAT,
          "%s: header of %llu bytes in a file of %lld", file->path, (unsigned long long)length,
          (long long)st.st_size);

    char *text = malloc((size_t)length + 1);
    CHECK(text, ERR_MEMORY, "%s: no memory for its header of %llu bytes", file->path,
          (unsigned long long)length);
    Status s = safetensors_read_bytes(file, 8, text, (size_t)length);
    const int64_t first = 8 + (int64_t)length;
    if (s == OK)
        s = safetensors_header_parse(text, (size_t)length, first, st.st_size - first, file->path,
                                     &file->header);
    free(text);
    return s;
}

Status safetensors_open(const char *path, Safetensors **out)
{
    Status s = OK;
    Safetensors *file = calloc(1, sizeof *file);
    CHECK(file, ERR_MEMORY, "%s: no memory to open it", path);
    file->fd = -1;
    file->disk = &file->mutex;
    file->absent = &file->missed;
    (void)pthread_mutex_init(file->disk, NULL);
    file->path = strdup(path);
    CHECK_TO(fail, s, file->path, ERR_MEMORY, "%s: no memory to open it", path);
    /* a pipe of that name must not hang the job; links are followed: caches of models are made of
     * them */
    RETRY(file->fd, open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    CHECK_TO(fail, s, file->fd >= 0, ERR_IO, "%s: open: %s", path, strerror(errno));
    TRY_TO(fail, s, read_header(file));
    *out = file;
    return OK;
fail:
    safetensors_close(file);
    return s;
}

void safetensors_close(Safetensors *file)
{
    if (!file) return;
    if (file->fd >= 0) (void)close(file->fd);
    (void)pthread_mutex_destroy(file->disk);
    safetensors_header_destroy(&file->header);
    free(file->path);
    free(file);
}

const char *safetensors_path(const Safetensors *file)
{
    return file->path;
}

int64_t safetensors_count(const Safetensors *file)
{
    return file->header.count;
}

const SafetensorsEntry *safetensors_entry(const Safetensors *file, int64_t index)
{
    assert(index >= 0 && index < file->header.count);
    return &file->header.entries[index];
}

const SafetensorsEntry *safetensors_find(const Safetensors *file, const char *name)
{
    int64_t low = 0, high = file->header.count;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        const SafetensorsEntry *e = &file->header.entries[file->header.by_name[middle]];
        const int order = strcmp(name, e->name);
        if (order == 0) return e;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

bool safetensors_metadata_at(const Safetensors *file, int64_t index, const char **key,
                             const char **value)
{
    if (index < 0 || index >= file->header.metadata_count) return false;
    *key = file->header.metadata[2 * index];
    *value = file->header.metadata[2 * index + 1];
    return true;
}

const char *safetensors_metadata(const Safetensors *file, const char *key)
{
    const char *k, *value;
    for (int64_t i = 0; safetensors_metadata_at(file, i, &k, &value); i++)
        if (strcmp(k, key) == 0) return value;
    return NULL;
}
