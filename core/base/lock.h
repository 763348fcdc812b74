/*
 * lock: a folder that one job at a time may write.
 *
 * The lock is the kernel's, on FOLDER/lock: it ends with the process that holds it, however that
 * ends, so a dead job leaves none behind; network file systems that lock across hosts do so here.
 * The file says who holds it: host, Slurm job and process. Not collective.
 */
#ifndef ZT_CORE_BASE_LOCK_H
#define ZT_CORE_BASE_LOCK_H

#include "core/base/status.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* All zero: not held. */
typedef struct FolderLock {
    bool held;
    int fd; /* owned; when held */
} FolderLock;

/* ERR_CONFIG names the holder when somebody has it; ERR_IO. A file system that has no locks gives a
 * warning and a lock that keeps nobody out. */
Status folder_lock_take(const char *folder, FolderLock *out);
/* Nothing when it is not held. */
void folder_lock_release(FolderLock *lock);

#ifdef __cplusplus
}
#endif
#endif
