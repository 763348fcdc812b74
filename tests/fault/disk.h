/*
 * disk: what a file system may hold after the power went, from the record of what was asked of it.
 *
 * The strict reading of POSIX: bytes are there for certain once their file was flushed, names once
 * their folder was. Everything else may be there, or not, or in part, in any order, one name apart
 * from another; only a rename is whole. Real file systems promise more, each something else.
 */
#ifndef ZT_TESTS_FAULT_DISK_H
#define ZT_TESTS_FAULT_DISK_H

#include "core/base/file.h"

typedef struct Disk Disk;

/* What happens to changes that nothing has flushed. */
typedef enum Loss {
    LOSS_NONE,   /* all are there */
    LOSS_ALL,    /* none is */
    LOSS_BYTES,  /* names are, bytes are not: empty files, as after many a crash */
    LOSS_ZEROS,  /* names and sizes are, bytes are zeros */
    LOSS_NAMES,  /* bytes are, names are not */
    LOSS_CHANCE, /* each by itself, later ones without earlier ones, writes torn anywhere */
    LOSSES
} Loss;

/* `before`: the folder as it was when the record began, all of it on the disk; the record is of
 * paths below `root`. */
Status disk_open(const char *root, const char *before, const char *record, Disk **out);
void disk_close(Disk *disk);
/* Changes and flushes on record. */
int64_t disk_operations(const Disk *disk);
/* Makes `folder` (which is not there) as the disk may be when the power goes after the first
 * `done` operations. *state: the same for the same contents. */
Status disk_crash(const Disk *disk, int64_t done, Loss loss, uint64_t seed, const char *folder,
                  uint64_t *state);

#endif
