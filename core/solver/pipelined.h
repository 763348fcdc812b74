/*
 * pipelined: the sampling loop over a pipeline that is never emptied between steps.
 *
 * Samples do not wait for each other: as soon as one sample's rows of evaluation k have left the
 * last stage, that stage updates the sample's x (with what the solver remembers of it, which is
 * kept there) and sends it back to the first, which begins the sample's evaluation k + 1 while the
 * others are still on their way through k. Every row is computed with the x of its own evaluation,
 * as in denoise_run, so the result has the same bits. On every stage the order is: for each
 * evaluation, for each sample, its conditional row, its unconditional row. With n samples of r rows
 * and p stages no stage waits once the pipeline is full when n r >= p + r - 1.
 *
 * A signal may reach any stage, and all must leave before the same step without waiting for each
 * other: "somebody was asked" travels round with the samples, the first stage answers, and its
 * answer goes down the pipeline ahead of each evaluation.
 */
#ifndef ZT_CORE_SOLVER_PIPELINED_H
#define ZT_CORE_SOLVER_PIPELINED_H

#include "core/model/velocity.h"
#include "core/solver/denoise.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of scratch for x (samples, tokens, patch). */
size_t pipelined_scratch(int64_t samples, int64_t tokens, int64_t patch, SolverKind solver);

/* x (samples, tokens, patch): noise in, latents out, the same on every rank. The captions are those
 * that velocity_captions was given: the samples' rows as in VelocityFn, or one half of them where
 * `halves` (two ranks; NULL or alone: none) share the halves of guidance. The pipeline has two
 * stages or more. Errors and collective as generate_latents. */
Status pipelined_run(Velocity *velocity, DitShape grid, const DenoiseOptions *options,
                     Group *halves, Arena *scratch, Tensor x);

#ifdef __cplusplus
}
#endif
#endif
