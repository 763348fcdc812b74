#include "core/model/flow.h"

#include <math.h>

static double normal_below(double z)
{
    return 0.5 * erfc(-z * 0.70710678118654752440);
}

/* z with normal_below(z) = p, by halving: 60 steps are exact in double and cost nothing beside a
 * clip. */
static double normal_of(double p)
{
    double low = -40.0, high = 40.0;
    for (int i = 0; i < 60; i++) {
        const double middle = 0.5 * (low + high);
        if (normal_below(middle) < p)
            low = middle;
        else
            high = middle;
    }
    return 0.5 * (low + high);
}

static double logit(double u)
{
    return log(u / (1.0 - u));
}

/* u of a timestep: the inverse of the shift. */
static double unshift(const FlowOptions *o, double t)
{
    return t / (o->shift - (o->shift - 1.0) * t);
}

/* A draw p in (0, 1) of the whole distribution, moved into the part below `high` and above `low`.
 */
static double restrict_draw(const FlowOptions *o, double p)
{
    double ends[2] = { unshift(o, o->low), unshift(o, o->high) };
    for (int i = 0; i < 2 && o->logit_normal; i++) {
        const bool inside = ends[i] > 0.0 && ends[i] < 1.0;
        if (inside) ends[i] = normal_below((logit(ends[i]) - o->mean) / o->std);
    }
    return ends[0] + (ends[1] - ends[0]) * p;
}

double flow_timestep(const FlowOptions *options, int64_t sample)
{
    const Rng rng = rng_make(options->seed, RNG_TIMESTEP, (uint64_t)sample);
    const bool restricted = options->high > 0.0 && (options->low > 0.0 || options->high < 1.0);
    double u = ((double)rng_u32(rng, 0) + 0.5) * 0x1p-32;
    if (options->logit_normal) {
        double z = (double)rng_normal(rng, 0);
        if (restricted) z = normal_of(restrict_draw(options, normal_below(z)));
        u = 1.0 / (1.0 + exp(-(options->mean + options->std * z)));
    } else if (restricted) {
        u = restrict_draw(options, u);
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
