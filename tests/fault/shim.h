// clang-format off
/*
 * shim: a library that stands before the C library's file calls (LD_PRELOAD) and lets one of them
 * go wrong. Environment variables say which; only paths below one folder count.
 *
 *     SHIM_ROOT         the folder, without links in its path; nothing happens without it
 *     SHIM_RANK         whose calls are counted, by OMPI_COMM_WORLD_RANK (0 without); absent: all
 *     SHIM_CALLS        the calls that are counted, "write,fsync"; absent: all the fault can hit
 *     SHIM_FAULT        kill: the process ends, a write half done
 *                       EIO, ENOSPC, EDQUOT, EINTR: the call fails with that
 *                       short, zero: half of the bytes is moved, or none
 *     SHIM_AT           the call that goes wrong, from 1; 0: none, they are only counted
 *     SHIM_FOR          once, or good: from then on
 *     SHIM_NO_EXCHANGE  when set, two folders cannot change places, as on many file systems
 *     SHIM_REPORT       a file for the line "RANK COUNT NAME PATH" of the first that goes wrong;
 *                       with SHIM_AT=0 for "RANK COUNT calls -" at the end
 *     SHIM_LOG          a file for every change that succeeds: for losses of power (disk_log.h)
 *
 * Names are those that messages use: openat is "open", pread "read", unlinkat "unlink".
 */
// clang-format on
#ifndef ZT_TESTS_FAULT_SHIM_H
#define ZT_TESTS_FAULT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SHIM_KILLED = 137, SHIM_PATH_BYTES = 4096 };

typedef enum ShimCall {
    SHIM_OPEN,
    SHIM_CREATE, /* an open that may make a file */
    SHIM_READ,
    SHIM_READDIR,
    SHIM_STAT,
    SHIM_WRITE,
    SHIM_TRUNCATE,
    SHIM_FSYNC,
    SHIM_CLOSE,
    SHIM_RENAME,
    SHIM_EXCHANGE,
    SHIM_MKDIR,
    SHIM_UNLINK,
    SHIM_RMDIR,
    SHIM_CALLS
} ShimCall;

/* --- for a program that runs under the shim: found with dlsym, as nothing links to it --- */

/* Reads the variables again and counts from 0. */
void shim_reset(void);
/* Calls counted so far. */
int64_t shim_count(void);

/* --- between the shim's files --- */

/* The whole path of a call on a folder's descriptor and a name, or of a descriptor (name NULL);
 * false when it is not below the root. errno is kept. */
bool shim_path(int folder, const char *name, char out[SHIM_PATH_BYTES]);
/* Asks before a call: 0: go on, with *length (may be NULL) cut when the call is to be short; -1:
 * fail with this errno. `last` is done before a kill: a torn write. */
int shim_ask(ShimCall call, const char *path, size_t *length);
/* Whether a kill strikes now, so that the caller can tear its write; then call shim_die. */
bool shim_dies(ShimCall call, const char *path);
void shim_die(void) __attribute__((noreturn));

/* One record of SHIM_LOG; nothing without it. other and data may be NULL. */
void shim_log(uint32_t operation, const char *path, const char *other, int64_t offset,
              const void *data, size_t length);

#endif
