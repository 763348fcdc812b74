/* nearest_clip: which clips of a dataset sampled latents are nearest to. */
#ifndef ZT_TOOLS_NEAREST_CLIP_H
#define ZT_TOOLS_NEAREST_CLIP_H

#include "core/base/status.h"
#include "data/dataset.h"
#include "tools/scenes.h"

/* All doubles: ranks add them up. */
typedef struct Match {
    double distance;     /* root mean square difference to the nearest clip */
    double nearest;      /* that clip */
    double own_distance; /* to the nearest clip of the scene itself */
} Match;

/* matches[s], s < count, for latents[s] (tokens, patch) of the size of scene s' first clip, among
 * all clips of that size; where latents[s] is NULL the match is left alone. Reads every clip once.
 * Not collective. ERR_FORMAT names a damaged clip. */
Status nearest_clips(Dataset *ds, const Scenes *scenes, float *const *latents, int64_t count,
                     Match *matches);

#endif
