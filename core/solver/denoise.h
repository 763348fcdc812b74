/*
 * denoise: the sampling loop, from noise to latent tokens.
 *
 * One loop serves infer, samples during training and evaluate. It knows the model only as a
 * function from x and a point of the trajectory to velocity; what the rows are conditioned on is
 * the function's business. Every rank of a model replica holds the same x and does the same cheap
 * step; only the velocity is collective.
 */
#ifndef ZT_CORE_SOLVER_DENOISE_H
#define ZT_CORE_SOLVER_DENOISE_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/device.h"
#include "core/solver/solver.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * v = velocity of x at a point of the trajectory, both (rows, tokens, patch) F32; at.t is the
 * model's timestep. With n samples: rows is n without guidance; with guidance 2n, first the
 * conditional rows, then the unconditional ones of the same samples. v must hold the same bits on
 * every rank of the replica afterwards. Collective over the replica.
 */
typedef Status (*VelocityFn)(void *context, Tensor v, Tensor x, SolverPoint at);

typedef struct DenoiseOptions {
    int steps;
    double guidance; /* 1: off */
    double shift;
    /* Two experts: below t = 1000 boundary guidance is guidance_low, on exactly when the other is.
     * 0: one model. */
    double boundary, guidance_low;
    SolverKind solver; /* zero: Euler's method on our own schedule */
    SigmaSchedule sigmas;
    double strength; /* 0 and 1: x is noise; else x is what solver_begin made of a video */
    /* (samples, n, patch) view: the first n tokens of x are these at every evaluation and in the
     * end (frames that are given, spec 6); or none */
    Tensor given;
    /* Called after each step with the number of steps done, from 1 on; NULL: nobody watches. */
    void (*on_step)(void *watcher, int done);
    void *watcher;
} DenoiseOptions;

/* x (samples, tokens, patch) = normal noise of (seed, RNG_SAMPLE, first_id + row): a function of
 * the request's number alone, the same on any mesh and in any batch. Not collective. */
Status denoise_noise(const Device *dev, Tensor x, uint64_t seed, uint64_t first_id);

/* The evaluations that the options ask for. ERR_USAGE for options out of range. */
Status denoise_plan(const DenoiseOptions *options, Solver *out);
/* The strength of guidance at a model's timestep. */
double denoise_guidance(const DenoiseOptions *options, float t);
/* x (samples, n tokens, patch), its tokens from `first` on of the whole: given ones take their
 * place.
 */
Status denoise_give(const Device *dev, const DenoiseOptions *options, Tensor x, int64_t first);
/* ERR_DEVICE unless the square norm of x after an evaluation is finite. */
Status denoise_check(const Solver *solver, int evaluation, double square_norm);

/* Bytes of scratch that denoise_run needs for x (samples, tokens, patch). */
size_t denoise_scratch(int64_t samples, int64_t tokens, int64_t patch,
                       const DenoiseOptions *options);

/* x (samples, tokens, patch): noise in, or a video with noise; normalised latent tokens out.
 * ERR_USAGE for options out of range, ERR_DEVICE when x stops being finite. Collective over the
 * replica. */
Status denoise_run(const Device *dev, VelocityFn velocity, void *context,
                   const DenoiseOptions *options, Arena *scratch, Tensor x);

#ifdef __cplusplus
}
#endif
#endif
