#include "core/base/lock.h"

#include "core/base/file.h"
#include "core/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOLDER_BYTES = 512 };

/* "host node3, job 1234, process 567"; anybody may have written into the file. */
static void read_holder(int fd, char out[HOLDER_BYTES])
{
    const ssize_t length = pread(fd, out, HOLDER_BYTES - 1, 0);
    out[length > 0 ? length : 0] = 0;
    out[strcspn(out, "\n")] = 0;
    for (char *c = out; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
    if (!out[0]) (void)snprintf(out, HOLDER_BYTES, "a job that has not said who it is yet");
}

static Status write_holder(int fd, const char *path)
{
    char host[256] = "", line[HOLDER_BYTES];
    const char *job = getenv("SLURM_JOB_ID");
    (void)gethostname(host, sizeof host - 1);
    const int length = snprintf(line, sizeof line, "host %s, job %.64s, process %ld\n", host,
                                job ? job : "none", (long)getpid());
    const bool written = ftruncate(fd, 0) == 0 && pwrite(fd, line, (size_t)length, 0) == length;
    CHECK(written, ERR_IO, "%s: %s", path, strerror(errno));
    return OK;
}

/* An open file description's lock: neither a thread's nor lost when another descriptor closes. */
static Status try_lock(int fd, const char *folder, const char *path)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0) return write_holder(fd, path);
    if (errno == EAGAIN || errno == EACCES) {
        char holder[HOLDER_BYTES];
        read_holder(fd, holder);
        return status_fail(ERR_CONFIG,
                           "%s: is in use by %s; wait for it or end it, or choose another run.dir",
                           folder, holder);
    }
    CHECK(errno == ENOLCK || errno == ENOSYS || errno == EINVAL || errno == EOPNOTSUPP, ERR_IO,
          "%s: %s", path, strerror(errno));
    log_warn("%s: this file system has no locks (%s): nothing keeps a second job out", path,
             strerror(errno));
    return OK;
}

Status folder_lock_take(const char *folder, FolderLock *out)
{
    char path[FILE_PATH_BYTES];
    *out = (FolderLock){ 0 };
    TRY(file_join(path, folder, "lock"));
    const int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    CHECK(fd >= 0, ERR_IO, "%s: %s", path, strerror(errno));
    const Status s = try_lock(fd, folder, path);
    if (s == OK)
        *out = (FolderLock){ .held = true, .fd = fd };
    else
        (void)close(fd);
    return s;
}

void folder_lock_release(FolderLock *lock)
{
    if (!lock->held) return;
    /* an empty file: held by nobody. It stays: another job may have it open already */
    if (ftruncate(lock->fd, 0) != 0) log_warn("lock: %s", strerror(errno));
    (void)close(lock->fd);
    *lock = (FolderLock){ 0 };
}
