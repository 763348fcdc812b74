/* The file calls that the program makes, each asked about first. See tests/fault/shim.h.
 *
 * The kernel is called directly: nothing here depends on what another library puts in between. */
#include "tests/fault/shim.h"

#include "tests/fault/disk_log.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* --- open, close --- */

static int open_at(int folder, const char *name, int flags, mode_t mode)
{
    char path[SHIM_PATH_BYTES];
    const bool creates = flags & O_CREAT;
    const bool ours = shim_path(folder, name, path);
    if (ours && shim_ask(creates ? SHIM_CREATE : SHIM_OPEN, path, NULL) != 0) return -1;
    const bool there = creates && ours && syscall(SYS_access, path, F_OK) == 0;
    const int fd = (int)syscall(SYS_openat, folder, name, flags, mode);
    if (fd < 0 || !ours) return fd;
    if (creates && !there) shim_log(DISK_CREATE, path, NULL, 0, NULL, 0);
    if (there && (flags & O_TRUNC)) shim_log(DISK_TRUNCATE, path, NULL, 0, NULL, 0);
    return fd;
}

/* The mode is there only when a file may be made. */
#define MODE_OF(flags, mode)                                                      \
    do {                                                                          \
        va_list args_;                                                            \
        va_start(args_, flags);                                                   \
        if ((flags) & (O_CREAT | O_TMPFILE)) (mode) = (mode_t)va_arg(args_, int); \
        va_end(args_);                                                            \
    } while (0)

int open(const char *name, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_at(AT_FDCWD, name, flags, mode);
}

int openat(int folder, const char *name, int flags, ...)
{
    mode_t mode = 0;
    MODE_OF(flags, mode);
    return open_at(folder, name, flags, mode);
}

int creat(const char *name, mode_t mode)
{
    return open_at(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int close(int fd)
{
    char path[SHIM_PATH_BYTES];
    const int refused = shim_path(fd, NULL, path) ? shim_ask(SHIM_CLOSE, path, NULL) : 0;
    const int why = errno;
    const int result = (int)syscall(SYS_close, fd);
    /* as on Linux, a close that fails has closed */
    if (refused == 0) return result;
    errno = why;
    return -1;
}

/* --- bytes --- */

static ssize_t write_at(int fd, const void *bytes, size_t length, off_t at, bool placed)
{
    char path[SHIM_PATH_BYTES];
    const bool ours = shim_path(fd, NULL, path);
    const bool dies = ours && shim_dies(SHIM_WRITE, path);
    if (dies) length /= 2;
    if (ours && !dies && shim_ask(SHIM_WRITE, path, &length) != 0) return -1;
    const ssize_t n = placed ? syscall(SYS_pwrite64, fd, bytes, length, at)
                             : syscall(SYS_write, fd, bytes, length);
    if (dies) shim_die();
    if (ours && n > 0) {
        const off_t end = placed ? at + n : (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR);
        shim_log(DISK_WRITE, path, NULL, end - n, bytes, (size_t)n);
    }
    return n;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    return write_at(fd, bytes, length, 0, false);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at)
{
    return write_at(fd, bytes, length, at, true);
}

/* Part by part: a short one ends it, as a short writev would. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    char path[SHIM_PATH_BYTES];
    ssize_t total = 0;
    if (!shim_path(fd, NULL, path)) return syscall(SYS_writev, fd, parts, count);
    for (int i = 0; i < count; i++) {
        const ssize_t n = write_at(fd, parts[i].iov_base, parts[i].iov_len, 0, false);
        if (n < 0) return total > 0 ? total : n;
        total += n;
        if ((size_t)n < parts[i].iov_len) break;
    }
    return total;
}

static ssize_t read_at(int fd, void *bytes, size_t length, off_t at, bool placed)
{
    char path[SHIM_PATH_BYTES];
    if (shim_path(fd, NULL, path) && shim_ask(SHIM_READ, path, &length) != 0) return -1;
    return placed ? syscall(SYS_pread64, fd, bytes, length, at)
                  : syscall(SYS_read, fd, bytes, length);
}

ssize_t read(int fd, void *bytes, size_t length)
{
    return read_at(fd, bytes, length, 0, false);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t at)
{
    return read_at(fd, bytes, length, at, true);
}

/* A system that does not say what it has in memory: every byte comes by the calls above. */
ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    (void)fd, (void)parts, (void)count, (void)at, (void)flags;
    errno = EOPNOTSUPP;
    return -1;
}

int ftruncate(int fd, off_t length)
{
    char path[SHIM_PATH_BYTES];
    const bool ours = shim_path(fd, NULL, path);
    if (ours && shim_ask(SHIM_TRUNCATE, path, NULL) != 0) return -1;
    const int result = (int)syscall(SYS_ftruncate, fd, length);
    if (ours && result == 0) shim_log(DISK_TRUNCATE, path, NULL, length, NULL, 0);
    return result;
}

static int sync_of(int fd, long number)
{
    char path[SHIM_PATH_BYTES];
    const bool ours = shim_path(fd, NULL, path);
    if (ours && shim_ask(SHIM_FSYNC, path, NULL) != 0) {
        if (errno != EINTR) shim_log(DISK_LOST, path, NULL, 0, NULL, 0);
        return -1;
    }
    const int result = (int)syscall(number, fd);
    if (ours && result == 0) shim_log(DISK_SYNC, path, NULL, 0, NULL, 0);
    return result;
}

int fsync(int fd)
{
    return sync_of(fd, SYS_fsync);
}

int fdatasync(int fd)
{
    return sync_of(fd, SYS_fdatasync);
}

/* --- names --- */

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    char path[SHIM_PATH_BYTES], other[SHIM_PATH_BYTES];
    const bool swaps = flags & RENAME_EXCHANGE;
    const bool ours = shim_path(from_folder, from, path) && shim_path(to_folder, to, other);
    if (ours && shim_ask(swaps ? SHIM_EXCHANGE : SHIM_RENAME, path, NULL) != 0) return -1;
    const int result = (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (ours && result == 0) shim_log(swaps ? DISK_EXCHANGE : DISK_RENAME, path, other, 0, NULL, 0);
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    return renameat2(from_folder, from, to_folder, to, 0);
}

int rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int mkdirat(int folder, const char *name, mode_t mode)
{
    char path[SHIM_PATH_BYTES];
    const bool ours = shim_path(folder, name, path);
    if (ours && shim_ask(SHIM_MKDIR, path, NULL) != 0) return -1;
    const int result = (int)syscall(SYS_mkdirat, folder, name, mode);
    if (ours && result == 0) shim_log(DISK_MKDIR, path, NULL, 0, NULL, 0);
    return result;
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}

int unlinkat(int folder, const char *name, int flags)
{
    char path[SHIM_PATH_BYTES];
    const bool removes_folder = flags & AT_REMOVEDIR;
    const bool ours = shim_path(folder, name, path);
    if (ours && shim_ask(removes_folder ? SHIM_RMDIR : SHIM_UNLINK, path, NULL) != 0) return -1;
    const int result = (int)syscall(SYS_unlinkat, folder, name, flags);
    if (ours && result == 0)
        shim_log(removes_folder ? DISK_RMDIR : DISK_UNLINK, path, NULL, 0, NULL, 0);
    return result;
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int rmdir(const char *name)
{
    return unlinkat(AT_FDCWD, name, AT_REMOVEDIR);
}

/* --- looking --- */

static int stat_at(int folder, const char *name, struct stat *out, int flags)
{
    char path[SHIM_PATH_BYTES];
    const bool empty = name[0] == 0;
    if (shim_path(folder, empty ? NULL : name, path) && shim_ask(SHIM_STAT, path, NULL) != 0)
        return -1;
    return (int)syscall(SYS_newfstatat, folder, name, out, flags);
}

int stat(const char *restrict name, struct stat *restrict out)
{
    return stat_at(AT_FDCWD, name, out, 0);
}

int lstat(const char *restrict name, struct stat *restrict out)
{
    return stat_at(AT_FDCWD, name, out, AT_SYMLINK_NOFOLLOW);
}

int fstat(int fd, struct stat *out)
{
    return stat_at(fd, "", out, AT_EMPTY_PATH);
}

DIR *opendir(const char *name)
{
    const int fd = open_at(AT_FDCWD, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) return NULL;
    return fdopendir(fd);
}

struct dirent *readdir(DIR *dir)
{
    static struct dirent *(*next)(DIR *);
    char path[SHIM_PATH_BYTES];
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "readdir");
    if (shim_path(dirfd(dir), NULL, path) && shim_ask(SHIM_READDIR, path, NULL) != 0) return NULL;
    return next(dir);
}

/* The names that programs built for 64-bit offsets call. */
int open64(const char *name, int flags, ...) __attribute__((alias("open")));
int openat64(int folder, const char *name, int flags, ...) __attribute__((alias("openat")));
