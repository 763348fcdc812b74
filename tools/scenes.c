#include "tools/scenes.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool same_captions(const Dataset *ds, int64_t a, int64_t b)
{
    const int64_t count = dataset_clip(ds, a).caption_count;

    if (count != dataset_clip(ds, b).caption_count) return false;
    for (int64_t i = 0; i < count; i++) {
        if (strcmp(dataset_caption(ds, a, i), dataset_caption(ds, b, i)) != 0) return false;
    }
    return true;
}

/* Latest first: clips of one video stand together. */
static int64_t scene_of(const Dataset *ds, const Scenes *scenes, int64_t clip)
{
    for (int64_t i = scenes->count - 1; i >= 0; i--) {
        if (same_captions(ds, scenes->first[i], clip)) return i;
    }
    return -1;
}

Status scenes_find(const Dataset *ds, Scenes *out)
{
    const int64_t clips = dataset_clips(ds);
    Scenes s = { .of_clip = calloc((size_t)clips + 1, sizeof(int64_t)),
                 .first = calloc((size_t)clips + 1, sizeof(int64_t)) };

    if (!s.of_clip || !s.first) {
        scenes_destroy(&s);
        return status_fail(ERR_MEMORY, "no memory for the scenes of %lld clips", (long long)clips);
    }
    for (int64_t clip = 0; clip < clips; clip++) {
        int64_t scene = scene_of(ds, &s, clip);
        if (scene < 0) {
            scene = s.count++;
            s.first[scene] = clip;
        }
        s.of_clip[clip] = scene;
    }
    *out = s;
    return OK;
}

void scenes_destroy(Scenes *scenes)
{
    free(scenes->of_clip);
    free(scenes->first);
    *scenes = (Scenes){ 0 };
}
