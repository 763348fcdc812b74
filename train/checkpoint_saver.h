/*
 * checkpoint_saver: saves a run's state while training goes on.
 *
 * begin makes the folders and copies this rank's files, tensor by tensor, through a buffer of fixed
 * size from which a thread hashes and writes them; where the buffer is smaller than the files,
 * begin waits for the disk rather than take more memory. Then two things are awaited, one after the
 * other: every rank's files, and rank 0's manifest, signature and rename. Each rank says in a
 * step's control all-reduce whether it waits no longer (ready); when all do, all call advance. The
 * threads make no MPI calls.
 *
 * One save at a time. An error on any rank is the same error on every rank; what is not committed
 * is removed and earlier checkpoints stay.
 */
#ifndef ZT_TRAIN_CHECKPOINT_SAVER_H
#define ZT_TRAIN_CHECKPOINT_SAVER_H

#include "train/checkpoint.h"

typedef struct CheckpointSaver CheckpointSaver;

/* Bytes of a buffer that never makes begin wait: all of the rank's files. Not collective. */
Status checkpoint_saver_bytes(const CheckpointState *state, const CheckpointOptions *options,
                              int rank, int ranks, int64_t *bytes);

/* buffer (bytes, at least 1) is the caller's and outlives the saver. Not collective. */
Status checkpoint_saver_create(Comm *comm, const MeshGroups *groups,
                               const CheckpointOptions *options, void *buffer, int64_t bytes,
                               CheckpointSaver **out);
/* Gives up what is not committed; a later save tidies up. Not collective. */
void checkpoint_saver_destroy(CheckpointSaver *saver);

/* Collective over the world. Finishes a save in flight first. When it returns, the tensors may
 * change; all else that state points to stays as it is until the save is finished. As in
 * checkpoint_save nothing is written when the step is there already. beside: its threads leave the
 * cores to training; false when it is waited for. */
Status checkpoint_saver_begin(CheckpointSaver *saver, const CheckpointState *state, bool beside);
/* Whether a save is in flight that this rank keeps from going on no longer. Not collective. */
bool checkpoint_saver_ready(const CheckpointSaver *saver);
/* Collective over the world, when every rank is ready; or before, then it waits. */
Status checkpoint_saver_advance(CheckpointSaver *saver);
/* Collective over the world: waits until nothing is in flight. */
Status checkpoint_saver_finish(CheckpointSaver *saver);

#endif
