/*
 * flow: rectified flow's training draws (spec 13), as functions of the global sample number.
 *
 *   x_t = (1 - t) x + t noise;  target = noise - x;  the model is told 1000 t
 */
#ifndef ZT_CORE_MODEL_FLOW_H
#define ZT_CORE_MODEL_FLOW_H

#include "core/ops.h"

#include <stdbool.h>

typedef struct FlowOptions {
    uint64_t seed;
    bool logit_normal; /* else uniform */
    double mean, std;  /* of the logit */
    double shift;      /* t = shift u / (1 + (shift - 1) u) */
    /* Only timesteps in [low, high), each as likely as it was among these: an expert's part (spec
     * 13: plain draws would give the high-noise expert 6 in 100). 0, 0: all. */
    double low, high;
} FlowOptions;

/* The timestep of sample n, in (0, 1). */
double flow_timestep(const FlowOptions *options, int64_t sample);
/* noise (clips, tokens, patch): row i is the noise of samples[i], from its element `first` on. */
Status flow_noise(const Device *dev, const FlowOptions *options, Tensor noise,
                  const int64_t *samples, int64_t first);

#endif
