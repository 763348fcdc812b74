#include "core/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* No memory, of libc's or the kernel's, says nothing of the file: nobody must pass it over. */
static Status fail_errno(const char *path)
{
    return status_fail(errno == ENOMEM ? ERR_MEMORY : ERR_IO, "%s: %s", path, strerror(errno));
}

FileKind file_kind(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return FILE_ABSENT;
    if (S_ISREG(st.st_mode)) return FILE_REGULAR;
    return S_ISDIR(st.st_mode) ? FILE_FOLDER : FILE_OTHER;
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

/* Reads until `length` bytes or the end; -1 with errno. */
static ssize_t read_fully(int fd, char *bytes, size_t length)
{
    size_t done = 0;
    while (done < length) {
        const ssize_t n = read(fd, bytes + done, length - done);
        if (n < 0 && errno == EINTR) continue;
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
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return fail_errno(path);

    CHECK_TO(done, s, fstat(fd, &st) == 0, ERR_IO, "%s: %s", path, strerror(errno));
    CHECK_TO(done, s, !S_ISDIR(st.st_mode), ERR_IO, "%s: is a folder, a file is wanted", path);
    CHECK_TO(done, s, S_ISREG(st.st_mode), ERR_IO, "%s: is not a regular file", path);
    CHECK_TO(done, s, (uint64_t)st.st_size <= limit, ERR_FORMAT,
             "%s: has %lld bytes, at most %zu are read", path, (long long)st.st_size, limit);
    const size_t size = (size_t)st.st_size;
    buffer = malloc(size + 1);
    CHECK_TO(done, s, buffer, ERR_MEMORY, "%s: no memory for its %zu bytes", path, size);
    const ssize_t n = read_fully(fd, buffer, size);
    CHECK_TO(done, s, n >= 0, ERR_IO, "%s: %s", path, strerror(errno));
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
    writer->fd = -1;
    writer->path[0] = writer->temporary[0] = 0;
}

Status file_writer_open(FileWriter *writer, const char *path)
{
    file_writer_none(writer);
    const int n = snprintf(writer->temporary, FILE_PATH_BYTES, "%s.tmp", path);
    CHECK(n >= 0 && n < FILE_PATH_BYTES, ERR_IO, "%.200s...: the path is longer than %d bytes",
          path, FILE_PATH_BYTES - 1);
    (void)snprintf(writer->path, FILE_PATH_BYTES, "%s", path);
    /* what a killed run left is not followed when it is a link, and not appended to */
    if (unlink(writer->temporary) != 0 && errno != ENOENT) return fail_errno(writer->temporary);
    writer->fd =
        open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (writer->fd < 0) return fail_errno(path);
    return OK;
}

Status file_writer_write(FileWriter *writer, const void *bytes, size_t length)
{
    const char *from = bytes;
    while (length > 0) {
        const ssize_t n = write(writer->fd, from, length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_errno(writer->path);
        from += n;
        length -= (size_t)n;
    }
    return OK;
}

Status file_writer_commit(FileWriter *writer)
{
    Status s = OK;
    /* an fsync that failed once may have dropped the pages: never tried again as if it had not */
    if (fsync(writer->fd) != 0) s = fail_errno(writer->path);
    const int fd = writer->fd;
    writer->fd = -1;
    if (close(fd) != 0 && s == OK) s = fail_errno(writer->path);
    if (s == OK && rename(writer->temporary, writer->path) != 0) s = fail_errno(writer->path);
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
