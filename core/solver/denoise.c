#include "core/solver/denoise.h"

#include "core/ops.h"
#include "core/solver/guidance.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { GUIDANCE_MAX = 100 };

typedef struct Workspace {
    Tensor input;    /* (rows, tokens, patch): x, and x again when guided */
    Tensor velocity; /* (rows, tokens, patch) */
    Tensor norm;     /* (1) F64 */
    SolverState state;
} Workspace;

static Status workspace_alloc(Arena *arena, int64_t samples, int64_t tokens, int64_t patch,
                              const DenoiseOptions *options, Workspace *out)
{
    const int64_t rows = guidance_is_on(options->guidance) ? 2 * samples : samples;

    TRY(tensor_alloc(arena, F32, SHAPE(rows, tokens, patch), "denoise.input", &out->input));
    TRY(tensor_alloc(arena, F32, SHAPE(rows, tokens, patch), "denoise.velocity", &out->velocity));
    TRY(tensor_alloc(arena, F64, SHAPE(1), "denoise.norm", &out->norm));
    return solver_state_alloc(arena, options->solver, SHAPE(samples, tokens, patch), &out->state);
}

/* The velocity of x, guided when asked for, in the first rows of work->velocity. */
static Status guided_velocity(const Device *dev, VelocityFn velocity, void *context,
                              const DenoiseOptions *options, SolverPoint at, Tensor x,
                              Workspace *work)
{
    const int64_t samples = x.shape[0];
    const size_t bytes = tensor_bytes(x);
    const double scale = denoise_guidance(options, at.t);

    memcpy(work->input.data, x.data, bytes);
    if (!guidance_is_on(scale)) return velocity(context, work->velocity, work->input, at);

    memcpy((char *)work->input.data + bytes, x.data, bytes);
    TRY(velocity(context, work->velocity, work->input, at));
    return guidance_combine(dev, tensor_slice(work->velocity, 0, samples),
                            tensor_slice(work->velocity, samples, samples), scale);
}

static Status check_guidance(double scale)
{
    CHECK(fabs(scale) <= GUIDANCE_MAX, ERR_USAGE, "guidance is %g: use -%d to %d", scale,
          GUIDANCE_MAX, GUIDANCE_MAX);
    return OK;
}

Status denoise_plan(const DenoiseOptions *o, Solver *out)
{
    const SolverOptions options = { o->solver, o->sigmas, o->steps, o->shift, o->strength };

    TRY(check_guidance(o->guidance));
    if (o->boundary != 0) {
        TRY(check_guidance(o->guidance_low));
        CHECK(o->boundary > 0 && o->boundary < 1, ERR_USAGE,
              "boundary is %g: use a number between 0 and 1", o->boundary);
        CHECK(guidance_is_on(o->guidance) == guidance_is_on(o->guidance_low), ERR_USAGE,
              "guidance is %g of one expert and %g of the other: 1 is off, use it for both or none",
              o->guidance, o->guidance_low);
    }
    return solver_plan(&options, out);
}

double denoise_guidance(const DenoiseOptions *options, float t)
{
    return (double)t < 1000 * options->boundary ? options->guidance_low : options->guidance;
}

Status denoise_give(const Device *dev, const DenoiseOptions *options, Tensor x, int64_t first)
{
    const Tensor given = options->given;
    if (!given.data || first >= given.shape[1]) return OK;
    const int64_t left = given.shape[1] - first, count = left < x.shape[1] ? left : x.shape[1];
    for (int64_t i = 0; i < x.shape[0]; i++)
        TRY(op_convert(dev, tensor_slice(tensor_at(x, i), 0, count),
                       tensor_slice(tensor_at(given, i), first, count)));
    return OK;
}

Status denoise_check(const Solver *solver, int evaluation, double square_norm)
{
    const int step = solver_point(solver, evaluation).step;

    CHECK(isfinite(square_norm), ERR_DEVICE,
          "the latents are not finite after sampling step %d (sigma %g): the weights may be "
          "damaged, or the guidance too strong",
          step + 1, (double)solver->sigmas[step + 1]);
    return OK;
}

/* Every rank holds the same x, so every rank finds the same. */
static Status check_finite(const Device *dev, const Solver *solver, int evaluation, Tensor x,
                           Tensor norm)
{
    TRY(op_square_norm(dev, norm, x));
    return denoise_check(solver, evaluation, *(const double *)norm.data);
}

Status denoise_noise(const Device *dev, Tensor x, uint64_t seed, uint64_t first_id)
{
    for (int64_t i = 0; i < x.shape[0]; i++) {
        const Rng rng = rng_make(seed, RNG_SAMPLE, first_id + (uint64_t)i);
        TRY(op_normal(dev, tensor_at(x, i), rng, 0));
    }
    return OK;
}

size_t denoise_scratch(int64_t samples, int64_t tokens, int64_t patch,
                       const DenoiseOptions *options)
{
    Arena count = arena_counting("denoise");
    Workspace work;
    const Status s = workspace_alloc(&count, samples, tokens, patch, options, &work);

    assert(s == OK);
    (void)s;
    return count.peak;
}

Status denoise_run(const Device *dev, VelocityFn velocity, void *context,
                   const DenoiseOptions *options, Arena *scratch, Tensor x)
{
    const size_t mark = arena_mark(scratch);
    Solver solver;
    Workspace work;
    Status s = OK;

    TRY(denoise_plan(options, &solver));
    TRY_TO(done, s, workspace_alloc(scratch, x.shape[0], x.shape[1], x.shape[2], options, &work));

    const Tensor v = tensor_slice(work.velocity, 0, x.shape[0]);
    TRY_TO(done, s, denoise_give(dev, options, x, 0));
    for (int i = 0; i < solver.evaluations; i++) {
        const SolverPoint at = solver_point(&solver, i);
        TRY_TO(done, s, guided_velocity(dev, velocity, context, options, at, x, &work));
        TRY_TO(done, s, solver_update(dev, &solver, &work.state, i, x, v));
        TRY_TO(done, s, denoise_give(dev, options, x, 0));
        TRY_TO(done, s, check_finite(dev, &solver, i, x, work.norm));
        if (at.ends_step && options->on_step)
            options->on_step(options->watcher, at.step - solver.first + 1);
    }
done:
    arena_release(scratch, mark);
    return s;
}
