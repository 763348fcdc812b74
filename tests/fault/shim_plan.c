/* When a call goes wrong, and what of it is written down. See tests/fault/shim.h. */
#include "tests/fault/shim.h"

#include "tests/fault/disk_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* File-level: an interposed function has no argument to carry it. */
static struct Plan {
    char root[SHIM_PATH_BYTES];
    const char *fault, *calls;
    bool counts, for_good, no_exchange;
    int rank;
    int64_t at;
    int report, log; /* descriptors; -1: none */
} plan = { .report = -1, .log = -1 };
static atomic_long counted;

static const char *const names[SHIM_CALLS] = {
    [SHIM_OPEN] = "open",         [SHIM_CREATE] = "open",     [SHIM_READ] = "read",
    [SHIM_READDIR] = "readdir",   [SHIM_STAT] = "stat",       [SHIM_WRITE] = "write",
    [SHIM_TRUNCATE] = "truncate", [SHIM_FSYNC] = "fsync",     [SHIM_CLOSE] = "close",
    [SHIM_RENAME] = "rename",     [SHIM_EXCHANGE] = "rename", [SHIM_MKDIR] = "mkdir",
    [SHIM_UNLINK] = "unlink",     [SHIM_RMDIR] = "rmdir",
};

static bool is_fault(const char *name)
{
    return plan.fault && strcmp(plan.fault, name) == 0;
}

/* Whether the fault can happen to such a call on a real disk; only those count. */
static bool can_hit(ShimCall call)
{
    const bool reads = call <= SHIM_STAT, grows = call == SHIM_CREATE || call == SHIM_WRITE ||
                                                  call == SHIM_RENAME || call == SHIM_MKDIR;
    if (is_fault("kill")) return call == SHIM_CREATE || !reads;
    if (is_fault("ENOSPC") || is_fault("EDQUOT")) return grows || call == SHIM_FSYNC;
    if (is_fault("short")) return call == SHIM_WRITE || call == SHIM_READ;
    if (is_fault("zero")) return call == SHIM_WRITE;
    return true;
}

/* Whether SHIM_CALLS names it. */
static bool is_asked_for(const char *name)
{
    const size_t length = strlen(name);
    const char *at = plan.calls;
    if (!at) return true;
    for (; *at; at += strspn(at, ",")) {
        const size_t word = strcspn(at, ",");
        if (word == length && strncmp(at, name, length) == 0) return true;
        at += word;
    }
    return false;
}

static int open_to_append(const char *variable)
{
    const char *path = getenv(variable);
    if (!path || !*path) return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC,
                        0666);
}

__attribute__((constructor)) void shim_reset(void)
{
    const char *root = getenv("SHIM_ROOT"), *at = getenv("SHIM_AT"), *how = getenv("SHIM_FOR");
    const char *wanted = getenv("SHIM_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (plan.report >= 0) (void)syscall(SYS_close, plan.report);
    if (plan.log >= 0) (void)syscall(SYS_close, plan.log);
    (void)snprintf(plan.root, sizeof plan.root, "%s", root ? root : "");
    plan.fault = getenv("SHIM_FAULT");
    plan.calls = getenv("SHIM_CALLS");
    plan.at = at ? atoll(at) : 0;
    plan.for_good = how && strcmp(how, "good") == 0;
    plan.no_exchange = getenv("SHIM_NO_EXCHANGE") != NULL;
    plan.rank = rank ? atoi(rank) : 0;
    plan.counts = !wanted || atoi(wanted) == plan.rank;
    plan.report = open_to_append("SHIM_REPORT");
    plan.log = open_to_append("SHIM_LOG");
    atomic_store(&counted, 0);
}

int64_t shim_count(void)
{
    return atomic_load(&counted);
}

static bool is_below_root(const char *path)
{
    const size_t length = strlen(plan.root);
    return length > 0 && strncmp(path, plan.root, length) == 0 &&
           (path[length] == 0 || path[length] == '/');
}

/* The kernel's own table of descriptors is always right, also after a rename. */
static bool descriptor_path(int fd, char out[SHIM_PATH_BYTES])
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const long n = syscall(SYS_readlink, link, out, SHIM_PATH_BYTES - 1);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

bool shim_path(int folder, const char *name, char out[SHIM_PATH_BYTES])
{
    const int before = errno;
    bool ok = plan.root[0] != 0;
    if (ok && name && name[0] == '/') {
        const size_t length = strlen(name);
        ok = length < SHIM_PATH_BYTES;
        if (ok) memcpy(out, name, length + 1);
    } else if (ok) {
        ok = folder == AT_FDCWD ? syscall(SYS_getcwd, out, SHIM_PATH_BYTES) > 0
                                : descriptor_path(folder, out);
        const size_t length = ok ? strlen(out) : 0;
        if (ok && name) (void)snprintf(out + length, SHIM_PATH_BYTES - length, "/%s", name);
    }
    errno = before;
    return ok && is_below_root(out);
}

static void report(const char *name, const char *path, long count)
{
    char line[SHIM_PATH_BYTES + 128];
    const int n = snprintf(line, sizeof line, "%d %ld %s %s\n", plan.rank, count, name, path);
    if (plan.report >= 0) (void)syscall(SYS_write, plan.report, line, (size_t)n);
}

/* So that a program whose calls were only counted says how many. */
__attribute__((destructor)) static void report_count(void)
{
    const long count = atomic_load(&counted);
    if (plan.at == 0 && count > 0) report("calls", "-", count);
}

/* Counts the call; whether it is the one, or one after it. */
static bool strikes(ShimCall call, const char *path)
{
    if (!plan.counts || !plan.fault || !can_hit(call) || !is_asked_for(names[call])) return false;
    const long count = atomic_fetch_add(&counted, 1) + 1;
    if (count == plan.at) report(names[call], path, count);
    return plan.at > 0 && (count == plan.at || (plan.for_good && count > plan.at));
}

static int error_of_fault(void)
{
    if (is_fault("ENOSPC")) return ENOSPC;
    if (is_fault("EDQUOT")) return EDQUOT;
    if (is_fault("EINTR")) return EINTR;
    return EIO;
}

bool shim_dies(ShimCall call, const char *path)
{
    return is_fault("kill") && strikes(call, path);
}

void shim_die(void)
{
    (void)syscall(SYS_exit_group, SHIM_KILLED);
    abort();
}

int shim_ask(ShimCall call, const char *path, size_t *length)
{
    if (call == SHIM_EXCHANGE && plan.no_exchange) {
        errno = EINVAL;
        return -1;
    }
    if (is_fault("kill")) {
        if (strikes(call, path)) shim_die();
        return 0;
    }
    if (!strikes(call, path)) return 0;
    if (is_fault("short") || is_fault("zero")) {
        if (length) *length = is_fault("zero") ? 0 : (*length + 1) / 2;
        return 0;
    }
    errno = error_of_fault();
    return -1;
}

void shim_log(uint32_t operation, const char *path, const char *other, int64_t offset,
              const void *data, size_t length)
{
    const int before = errno;
    const DiskRecord record = { .operation = operation,
                                .path_bytes = (uint32_t)strlen(path) + 1,
                                .other_bytes = other ? (uint32_t)strlen(other) + 1 : 0,
                                .data_bytes = (uint32_t)length,
                                .offset = offset };
    /* the kernel only reads them */
    const struct iovec parts[] = { { (void *)(uintptr_t)&record, sizeof record },
                                   { (void *)(uintptr_t)path, record.path_bytes },
                                   { (void *)(uintptr_t)other, record.other_bytes },
                                   { (void *)(uintptr_t)data, length } };
    if (plan.log >= 0) (void)syscall(SYS_writev, plan.log, parts, 4);
    errno = before;
}
