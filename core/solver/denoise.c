#include "core/solver/denoise.h"

#include "core/ops.h"
#include "core/solver/flow_euler.h"
#include "core/solver/guidance.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { GUIDANCE_MAX = 100 };

typedef struct Workspace {
    Tensor input;    /* (rows, tokens, patch): x, and x again when guided */
    Tensor velocity; /* (rows, tokens, patch) */
    Tensor norm;     /* (1) F64 */
} Workspace;

static Status workspace_alloc(Arena *arena, int64_t samples, int64_t tokens, int64_t patch,
                              double guidance, Workspace *out)
{
    const int64_t rows = guidance_is_on(guidance) ? 2 * samples : samples;

    TRY(tensor_alloc(arena, F32, SHAPE(rows, tokens, patch), "denoise.input", &out->input));
    TRY(tensor_alloc(arena, F32, SHAPE(rows, tokens, patch), "denoise.velocity", &out->velocity));
    return tensor_alloc(arena, F64, SHAPE(1), "denoise.norm", &out->norm);
}

/* The velocity of x, guided when asked for, in the first rows of work->velocity. */
static Status guided_velocity(const Device *dev, VelocityFn velocity, void *context, double scale,
                              float sigma, Tensor x, Workspace *work)
{
    const int64_t samples = x.shape[0];
    const size_t bytes = tensor_bytes(x);

    memcpy(work->input.data, x.data, bytes);
    if (!guidance_is_on(scale)) return velocity(context, work->velocity, work->input, sigma);

    memcpy((char *)work->input.data + bytes, x.data, bytes);
    TRY(velocity(context, work->velocity, work->input, sigma));
    return guidance_combine(dev, tensor_slice(work->velocity, 0, samples),
                            tensor_slice(work->velocity, samples, samples), scale);
}

Status denoise_sigmas(const DenoiseOptions *options, float *sigmas)
{
    CHECK(fabs(options->guidance) <= GUIDANCE_MAX, ERR_USAGE, "guidance is %g: use -%d to %d",
          options->guidance, GUIDANCE_MAX, GUIDANCE_MAX);
    return flow_euler_sigmas(options->steps, options->shift, sigmas);
}

Status denoise_check(double square_norm, int step, float sigma)
{
    CHECK(isfinite(square_norm), ERR_DEVICE,
          "the latents are not finite after sampling step %d (sigma %g): the weights may be "
          "damaged, or the guidance too strong",
          step, (double)sigma);
    return OK;
}

/* Every rank holds the same x, so every rank finds the same. */
static Status check_finite(const Device *dev, Tensor x, Tensor norm, int step, float sigma)
{
    TRY(op_square_norm(dev, norm, x));
    return denoise_check(*(const double *)norm.data, step, sigma);
}

Status denoise_noise(const Device *dev, Tensor x, uint64_t seed, uint64_t first_id)
{
    for (int64_t i = 0; i < x.shape[0]; i++) {
        const Rng rng = rng_make(seed, RNG_SAMPLE, first_id + (uint64_t)i);
        TRY(op_normal(dev, tensor_at(x, i), rng, 0));
    }
    return OK;
}

size_t denoise_scratch(int64_t samples, int64_t tokens, int64_t patch, double guidance)
{
    Arena count = arena_counting("denoise");
    Workspace work;
    const Status s = workspace_alloc(&count, samples, tokens, patch, guidance, &work);

    assert(s == OK);
    (void)s;
    return count.peak;
}

Status denoise_run(const Device *dev, VelocityFn velocity, void *context,
                   const DenoiseOptions *options, Arena *scratch, Tensor x)
{
    const size_t mark = arena_mark(scratch);
    float sigmas[MAX_STEPS + 1];
    Workspace work;
    Status s = OK;

    TRY(denoise_sigmas(options, sigmas));
    TRY_TO(done, s,
           workspace_alloc(scratch, x.shape[0], x.shape[1], x.shape[2], options->guidance, &work));

    for (int i = 0; i < options->steps; i++) {
        TRY_TO(done, s,
               guided_velocity(dev, velocity, context, options->guidance, sigmas[i], x, &work));
        TRY_TO(done, s,
               flow_euler_step(dev, x, tensor_slice(work.velocity, 0, x.shape[0]), sigmas[i],
                               sigmas[i + 1]));
        TRY_TO(done, s, check_finite(dev, x, work.norm, i + 1, sigmas[i + 1]));
        if (options->on_step) options->on_step(options->watcher, i + 1);
    }
done:
    arena_release(scratch, mark);
    return s;
}
