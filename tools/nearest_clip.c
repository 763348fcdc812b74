#include "tools/nearest_clip.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

static double distance_of(const float *a, const float *b, int64_t count)
{
    double sum = 0;

    for (int64_t i = 0; i < count; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    return sqrt(sum / (double)count);
}

static int64_t scene_bucket(const Dataset *ds, const Scenes *scenes, int64_t scene)
{
    return dataset_clip(ds, scenes->first[scene]).bucket;
}

/* One clip against every latent of its size. */
static void compare(const Dataset *ds, const Scenes *scenes, float *const *latents, int64_t count,
                    int64_t clip, const float *values, Match *matches)
{
    const int64_t bucket = dataset_clip(ds, clip).bucket;
    const DatasetBucket *b = dataset_bucket(ds, bucket);

    for (int64_t scene = 0; scene < count; scene++) {
        const bool own = scenes->of_clip[clip] == scene;
        Match *match = &matches[scene];
        double distance;

        if (!latents[scene] || scene_bucket(ds, scenes, scene) != bucket) continue;
        distance = distance_of(latents[scene], values, b->tokens * b->patch);
        if (distance < match->distance) {
            match->distance = distance;
            match->nearest = (double)clip;
        }
        if (own && distance < match->own_distance) match->own_distance = distance;
    }
}

Status nearest_clips(Dataset *ds, const Scenes *scenes, float *const *latents, int64_t count,
                     Match *matches)
{
    int64_t elements = 1;
    float *values;
    Status s = OK;

    for (int64_t i = 0; i < dataset_buckets(ds); i++) {
        const DatasetBucket *b = dataset_bucket(ds, i);
        if (b->tokens * b->patch > elements) elements = b->tokens * b->patch;
    }
    values = malloc((size_t)elements * sizeof(float));
    CHECK(values, ERR_MEMORY, "no memory for a clip of %lld values", (long long)elements);

    for (int64_t scene = 0; scene < count; scene++) {
        if (latents[scene]) matches[scene] = (Match){ DBL_MAX, 0, DBL_MAX };
    }
    for (int64_t clip = 0; clip < dataset_clips(ds) && s == OK; clip++) {
        const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
        s = dataset_read_latents(ds, clip, dataset_clip_tokens(ds, clip),
                                 tensor_of(values, F32, SHAPE(b->tokens, b->patch)));
        if (s == OK) compare(ds, scenes, latents, count, clip, values, matches);
    }
    free(values);
    return s;
}
