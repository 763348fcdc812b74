#include "core/model/flow.h"

#include <math.h>

double flow_timestep(const FlowOptions *options, int64_t sample)
{
    const Rng rng = rng_make(options->seed, RNG_TIMESTEP, (uint64_t)sample);
    double u = ((double)rng_u32(rng, 0) + 0.5) * 0x1p-32;
    if (options->logit_normal) {
        const double z = options->mean + options->std * (double)rng_normal(rng, 0);
        u = 1.0 / (1.0 + exp(-z));
    }
    return options->shift * u / (1.0 + (options->shift - 1.0) * u);
}

Status flow_noise(const Device *dev, const FlowOptions *options, Tensor noise,
                  const int64_t *samples, int64_t first)
{
    for (int64_t i = 0; i < noise.shape[0]; i++) {
        const Rng rng = rng_make(options->seed, RNG_NOISE, (uint64_t)samples[i]);
        TRY(op_normal(dev, tensor_at(noise, i), rng, (uint64_t)first));
    }
    return OK;
}
