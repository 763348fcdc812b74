/* target: what stands at a path that a person names. Not collective. */
#ifndef ZT_TOOLS_TARGET_H
#define ZT_TOOLS_TARGET_H

#include "core/base/file.h"

typedef enum TargetKind {
    TARGET_DATASET,
    TARGET_RUN,
    TARGET_CHECKPOINT, /* a model directory with the state of training */
    TARGET_MODEL,
    TARGET_CODEC,
    TARGET_WEIGHTS,     /* a folder with safetensors files */
    TARGET_SAFETENSORS, /* one file */
    TARGET_INDEX,       /* a set of files by its .safetensors.index.json */
} TargetKind;

typedef struct Target {
    TargetKind kind;
    const char *name; /* "model directory": static */
    char path[FILE_PATH_BYTES];
} Target;

/* A file that belongs to a folder, such as one shard of a dataset, stands for the folder (said by
 * log_info). Believes names and first bytes only. ERR_IO: nothing there. ERR_FORMAT: nothing known.
 */
Status target_find(const char *path, Target *out);

#endif
