/* folder_check: a checkpoint's folder held against its manifest.json, every fault and not only the
 * first. Not collective; ranks may take a share of the files each. */
#ifndef ZT_TOOLS_FOLDER_CHECK_H
#define ZT_TOOLS_FOLDER_CHECK_H

#include "core/base/digest.h"
#include "core/base/file.h"
#include "core/formats/manifest.h"
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
    int rank, size;         /* names on rank 0, every size-th file from `rank` on; size 0: all */
} FolderCheckOptions;

/* What is wrong with the folder, its manifest included, is in *out; the Status is that of the
 * check: ERR_MEMORY. */
Status folder_check(const char *folder, FolderCheckOptions options, FolderCheck *out);

/* The two sides that are compared. */
typedef struct FolderSides {
    Manifest manifest;
    FileList list;
} FolderSides;

/* ERR_FORMAT, ERR_IO, ERR_MEMORY. */
Status folder_sides_read(const char *folder, FolderSides *out);
void folder_sides_destroy(FolderSides *sides);
/* The rest of folder_check. */
void folder_compare(const char *folder, const FolderSides *sides, FolderCheckOptions options,
                    FolderCheck *out);
/* Bytes that a check reads; 0 when there is no manifest to say it. */
int64_t folder_check_bytes(const char *folder);

#endif
