/* checkpoint_progress: state.json, what a checkpoint holds beside tensors. Not collective. */
#ifndef ZT_TRAIN_CHECKPOINT_PROGRESS_H
#define ZT_TRAIN_CHECKPOINT_PROGRESS_H

#include "train/checkpoint.h"

/* Writes FOLDER/state.json. */
Status checkpoint_write_progress(const char *folder, const CheckpointProgress *progress);
bool checkpoint_same_progress(const CheckpointProgress *a, const CheckpointProgress *b);

#endif
