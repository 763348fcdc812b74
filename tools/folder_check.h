/* folder_check: a checkpoint's folder held against its manifest.json, every fault and not only the
 * first. Not collective. */
#ifndef ZT_TOOLS_FOLDER_CHECK_H
#define ZT_TOOLS_FOLDER_CHECK_H

#include "core/base/digest.h"
#include "tools/disk.h"

#include <stdbool.h>

typedef struct FolderCheck {
    int64_t files, bytes; /* as the manifest has them */
    int64_t problems;
    char first[1024]; /* the first problem; empty: none */
    Digest root;
} FolderCheck;

typedef struct FolderCheckOptions {
    bool quick;             /* names and sizes only, nothing is read */
    bool speak;             /* log_error each problem */
    ByteProgress *progress; /* or NULL */
} FolderCheckOptions;

/* What is wrong with the folder, its manifest included, is in *out; the Status is that of the
 * check: ERR_MEMORY. */
Status folder_check(const char *folder, FolderCheckOptions options, FolderCheck *out);
/* Bytes that a check reads; 0 when there is no manifest to say it. */
int64_t folder_check_bytes(const char *folder);

#endif
