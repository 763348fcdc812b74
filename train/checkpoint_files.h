/*
 * checkpoint_files: the files that one rank writes of a save, by a thread of its own.
 *
 * The bytes of all its tensors come through a ring in the order of the files. No MPI is called.
 */
#ifndef ZT_TRAIN_CHECKPOINT_FILES_H
#define ZT_TRAIN_CHECKPOINT_FILES_H

#include "core/base/ring.h"
#include "core/formats/manifest.h"
#include "train/checkpoint_sets.h"

/* A written file as bytes that can be summed over ranks: all zero but on its writer. */
typedef struct FileRecord {
    uint8_t digest[DIGEST_BYTES];
    uint8_t bytes[8]; /* little-endian */
} FileRecord;

typedef struct CheckpointFiles {
    const CheckpointSets *sets; /* view; assigned */
    const char *folder;         /* view; its subfolders exist */
    int rank;
    Ring *ring;          /* view */
    FileRecord *records; /* view; (sets->files), zero */
} CheckpointFiles;

/* The thread's task; files: CheckpointFiles. A failure of the disk closes the ring, so that nobody
 * waits for it. ERR_IO; ERR_STOPPED when somebody else closed the ring. */
Status checkpoint_files_write(void *files);
/* All ranks' records, summed, as the manifest's lines. ERR_MEMORY. */
Status checkpoint_files_list(const CheckpointSets *sets, const FileRecord *records,
                             Manifest *known);

#endif
