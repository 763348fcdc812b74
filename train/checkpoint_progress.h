/* checkpoint_progress: state.json, what a checkpoint holds beside tensors. Not collective. */
#ifndef ZT_TRAIN_CHECKPOINT_PROGRESS_H
#define ZT_TRAIN_CHECKPOINT_PROGRESS_H

#include "train/checkpoint.h"

#include <stddef.h>

/* Writes FOLDER/state.json. */
Status checkpoint_write_progress(const char *folder, const CheckpointProgress *progress);
/* What state.json holds, from its text; `path` is what errors call it. */
Status checkpoint_parse_progress(const char *text, size_t length, const char *path,
                                 CheckpointProgress *out);
bool checkpoint_same_progress(const CheckpointProgress *a, const CheckpointProgress *b);

#endif
