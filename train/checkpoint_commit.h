/*
 * checkpoint_commit: rank 0's part of a save, all but the tensors' files. Not collective, no MPI.
 */
#ifndef ZT_TRAIN_CHECKPOINT_COMMIT_H
#define ZT_TRAIN_CHECKPOINT_COMMIT_H

#include "core/formats/manifest.h"
#include "train/checkpoint_sets.h"

/* Folders of one save. */
typedef struct CheckpointPaths {
    char checkpoints[FILE_PATH_BYTES];
    char final[FILE_PATH_BYTES], partial[FILE_PATH_BYTES], old[FILE_PATH_BYTES];
} CheckpointPaths;

typedef struct CheckpointCommit {
    CheckpointState state;     /* its tensors' values are not looked at */
    CheckpointOptions options; /* run_dir is a view */
    CheckpointPaths paths;
    const CheckpointSets *sets; /* view */
    Manifest known;             /* owned; the tensors' files, when they are written */
} CheckpointCommit;

Status checkpoint_paths(const char *run_dir, int64_t step, CheckpointPaths *out);
/* Tidies up after runs that were killed and makes the folders into which ranks write. *skip: the
 * step is there already, whole, from the same run; then nothing was made. */
Status checkpoint_commit_prepare(const CheckpointCommit *commit, bool *skip);
/* A Worker's task; commit: CheckpointCommit. Writes the small files, the manifest and the
 * signature, renames, and removes older checkpoints beyond `keep`. */
Status checkpoint_commit_run(void *commit);
/* Older ones only; a failure is a warning: nothing is lost by what stays. */
void checkpoint_commit_prune(const CheckpointCommit *commit);
/* Removes what is not committed. */
void checkpoint_commit_undo(const CheckpointCommit *commit);

#endif
