/*
 * scenes: the distinct caption sets of a dataset.
 *
 * All clips cut from one video carry the same captions, word for word; so clips with equal captions
 * are one scene, whatever file they came from.
 */
#ifndef ZT_TOOLS_SCENES_H
#define ZT_TOOLS_SCENES_H

#include "core/base/status.h"
#include "data/dataset.h"

#include <stdint.h>

typedef struct Scenes {
    int64_t *of_clip; /* (clips) owned: the scene of each */
    int64_t *first;   /* (count) owned: a scene's first clip */
    int64_t count;
} Scenes;

/* Not collective. ERR_MEMORY. */
Status scenes_find(const Dataset *ds, Scenes *out);
void scenes_destroy(Scenes *scenes);

#endif
