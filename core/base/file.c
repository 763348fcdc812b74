#include "core/base/file.h"

#include "core/base/retry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

Status file_fail(const char *path, const char *call)
{
    return status_fail(errno == ENOMEM ? ERR_MEMORY : ERR_IO, "%s: %s: %s", path, call,
                       strerror(errno));
}

Status file_look(const char *path, FileKind *out)
{
    struct stat st;
    int result;
    RETRY(result, stat(path, &st));
    /* only these two say that it is not there */
    const bool absent = result != 0 && (errno == ENOENT || errno == ENOTDIR);
    if (result != 0 && !absent) return file_fail(path, "stat");
    if (absent)
        *out = FILE_ABSENT;
    else if (S_ISREG(st.st_mode))
        *out = FILE_REGULAR;
    else
        *out = S_ISDIR(st.st_mode) ? FILE_FOLDER : FILE_OTHER;
    return OK;
}

FileKind file_kind(const char *path)
{
    FileKind kind;
    return file_look(path, &kind) == OK ? kind : FILE_OTHER;
}

Status file_join(char out[FILE_PATH_BYTES], const char *folder, const char *name)
{
    const size_t length = strlen(folder);
    const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
    const int n = snprintf(out, FILE_PATH_BYTES, "%s%s%s", folder, slash, name);
    CHECK(n >= 0 && n < FILE_PATH_BYTES, ERR_IO, "%.200s...: the path is longer than %d bytes",
          folder, FILE_PATH_BYTES - 1);
    return OK;
}

const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool file_is_below(const char *name)
{
    if (strlen(name) >= FILE_PATH_BYTES) return false;
    for (const char *part = name;; part++) {
        const size_t length = strcspn(part, "/");
        if (length <= 2 && strspn(part, ".") >= length) return false;
        part += length;
        if (*part == 0) return true;
    }
}

/* Reads until `length` bytes or the end; -1 with errno. */
static ssize_t read_fully(int fd, char *bytes, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n;
        RETRY(n, read(fd, bytes + done, length - done));
        if (n < 0) return -1;
        if (n == 0) break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

Status file_read(const char *path, size_t limit, char **bytes, size_t *length)
{
    Status s = OK;
    char *buffer = NULL;
    struct stat st;
    int fd, result;
    RETRY(fd, open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (fd < 0) return file_fail(path, "open");

    RETRY(result, fstat(fd, &st));
    if (result != 0) TRY_TO(done, s, file_fail(path, "stat"));
    CHECK_TO(done, s, !S_ISDIR(st.st_mode), ERR_IO, "%s: is a folder, a file is wanted", path);
    CHECK_TO(done, s, S_ISREG(st.st_mode), ERR_IO, "%s: is not a regular file", path);
    CHECK_TO(done, s, (uint64_t)st.st_size <= limit, ERR_FORMAT,
             "%s: has %lld bytes, at most %zu are read", path, (long long)st.st_size, limit);
    const size_t size = (size_t)st.st_size;
    buffer = malloc(size + 1);
    CHECK_TO(done, s, buffer, ERR_MEMORY, "%s: no memory for its %zu bytes", path, size);
    const ssize_t n = read_fully(fd, buffer, size);
    if (n < 0) TRY_TO(done, s, file_fail(path, "read"));
    /* a file that shrank meanwhile is as long as what was read */
    buffer[n] = 0;
    *bytes = buffer;
    *length = (size_t)n;
    buffer = NULL;
done:
    free(buffer);
    (void)close(fd);
    return s;
}

void file_writer_none(FileWriter *writer)
{
    *writer = (FileWriter){ .fd = -1 };
}

Status file_writer_open(FileWriter *writer, const char *path)
{
    file_writer_none(writer);
    const int n = snprintf(writer->temporary, FILE_PATH_BYTES, "%s.tmp", path);
    CHECK(n >= 0 && n < FILE_PATH_BYTES, ERR_IO, "%.200s...: the path is longer than %d bytes",
          path, FILE_PATH_BYTES - 1);
    (void)snprintf(writer->path, FILE_PATH_BYTES, "%s", path);
    /* what a killed run left is not followed when it is a link, and not appended to */
    int result;
    RETRY(result, unlink(writer->temporary));
    if (result != 0 && errno != ENOENT) return file_fail(writer->temporary, "unlink");
    RETRY(writer->fd,
          open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (writer->fd < 0) return file_fail(path, "open");
    return OK;
}

void file_writer_expect(FileWriter *writer, int64_t bytes)
{
    writer->expected = bytes;
}

/* A full disk: how much more it would have to hold is worth knowing. */
static Status fail_full(const FileWriter *writer, const char *call, size_t length)
{
    const int why = errno;
    struct statvfs st;
    const bool full = why == ENOSPC || why == EDQUOT;
    if (!full || fstatvfs(writer->fd, &st) != 0) {
        errno = why;
        return file_fail(writer->path, call);
    }
    const int64_t rest = writer->expected - writer->written;
    return status_fail(ERR_IO, "%s: %s: %s (%lld more bytes are needed for it, %llu are available)",
                       writer->path, call, strerror(why),
                       (long long)(rest > (int64_t)length ? rest : (int64_t)length),
                       (unsigned long long)st.f_bavail * st.f_frsize);
}

Status file_writer_write(FileWriter *writer, const void *bytes, size_t length)
{
    const char *from = bytes;
    int stuck = 0;
    while (length > 0) {
        ssize_t n;
        RETRY(n, write(writer->fd, from, length));
        if (n < 0) return fail_full(writer, "write", length);
        stuck = n == 0 ? stuck + 1 : 0;
        CHECK(stuck < RETRY_LIMIT, ERR_IO, "%s: write: nothing is taken", writer->path);
        from += n;
        length -= (size_t)n;
        writer->written += n;
    }
    return OK;
}

Status file_writer_commit(FileWriter *writer)
{
    Status s = OK;
    int result;
    /* an fsync that failed once may have dropped the pages: never tried again as if it had not */
    RETRY(result, fsync(writer->fd));
    if (result != 0) s = fail_full(writer, "fsync", 0);
    const int fd = writer->fd;
    writer->fd = -1;
    /* a close that a signal interrupted has closed, and the bytes are on the disk already */
    if (close(fd) != 0 && errno != EINTR && s == OK) s = file_fail(writer->path, "close");
    if (s == OK) {
        RETRY(result, rename(writer->temporary, writer->path));
        if (result != 0) s = file_fail(writer->path, "rename");
    }
    if (s != OK) {
        (void)unlink(writer->temporary);
        return s;
    }
    return file_sync_parent(writer->path);
}

void file_writer_abandon(FileWriter *writer)
{
    if (writer->fd < 0) return;
    (void)close(writer->fd);
    (void)unlink(writer->temporary);
    file_writer_none(writer);
}

Status file_write(const char *path, const void *bytes, size_t length)
{
    FileWriter writer;
    TRY(file_writer_open(&writer, path));
    const Status s = file_writer_write(&writer, bytes, length);
    if (s != OK) {
        file_writer_abandon(&writer);
        return s;
    }
    return file_writer_commit(&writer);
}
