/* disk: the files of a folder with their sizes, and a progress bar in bytes. Not collective. */
#ifndef ZT_TOOLS_DISK_H
#define ZT_TOOLS_DISK_H

#include "core/base/log.h"
#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

typedef struct DiskFile {
    char *name; /* owned; "transformer/config.json" */
    int64_t bytes;
} DiskFile;

typedef struct DiskFiles {
    DiskFile *items; /* owned; sorted by name */
    int64_t count, bytes;
} DiskFiles;

/* Every regular file below the folder. Symbolic links are followed, as public models' folders are
 * made of them; what is neither file nor folder is passed over. ERR_FORMAT: deeper than 8 folders
 * or more than 100,000 files. ERR_IO. */
Status disk_list(const char *folder, DiskFiles *out);
void disk_destroy(DiskFiles *files);
/* Size of a regular file. ERR_IO. */
Status disk_size(const char *path, int64_t *bytes);

/* A bar in MiB. */
typedef struct ByteProgress {
    Progress bar;
    int64_t bytes;
} ByteProgress;

void byte_progress_begin(ByteProgress *progress, const char *what, int64_t total_bytes);
void byte_progress_add(ByteProgress *progress, int64_t bytes);
void byte_progress_end(ByteProgress *progress);

#endif
