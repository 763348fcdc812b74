/*
 * solver: from noise to data along the velocity, in one of four ways.
 *
 * A Solver is a plan: which timesteps the model is asked at, in which order. It is the same on
 * every rank and knows no x. Whoever holds x, whole or any slice of it (all is element by element),
 * keeps a SolverState of that slice and calls solver_update with the velocity of each evaluation in
 * turn.
 *
 *     euler  x += (sigma' - sigma) v
 *     heun   the same, then again from the start with the mean of v at both ends; the last step is
 *            Euler's, as there is no velocity at sigma 0: 2 steps - 1 evaluations
 *     dpm++  core/solver/multistep.h; order 1 in the first and the last step
 *     unipc  the same, and x corrected after every evaluation but the first
 *
 * For video to video the trajectory begins in the middle: at step N - floor(N strength).
 */
#ifndef ZT_CORE_SOLVER_SOLVER_H
#define ZT_CORE_SOLVER_SOLVER_H

#include "core/base/arena.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/device.h"
#include "core/solver/sigmas.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MAX_EVALUATIONS = 2 * MAX_STEPS - 1, SOLVER_HISTORY = 3 };

typedef struct SolverOptions {
    SolverKind kind;
    SigmaSchedule sigmas;
    int steps; /* of the whole trajectory */
    double shift;
    double strength; /* in (0, 1]: the part of the steps that is gone; 0 is taken as 1 */
} SolverOptions;

typedef struct Solver {
    SolverKind kind;
    int steps, first; /* the run is [first, steps) */
    int evaluations;
    float sigmas[MAX_STEPS + 1];
    float timesteps[MAX_STEPS];
} Solver;

/* Where the model is asked. */
typedef struct SolverPoint {
    float sigma;
    float t;        /* what the model is fed, in [0, 1000]; experts and scales are chosen by it */
    int step;       /* that the evaluation belongs to, from Solver.first on */
    bool ends_step; /* false: Heun's first of two */
} SolverPoint;

/* ERR_USAGE as sigmas_make, and when strength is not in range or leaves no step. */
Status solver_plan(const SolverOptions *options, Solver *out);
/* evaluation from 0. */
SolverPoint solver_point(const Solver *solver, int evaluation);

/* What a solver remembers of one slice of x between evaluations; undefined before the first. */
typedef struct SolverState {
    Tensor history[SOLVER_HISTORY]; /* of x's shape F32; as many as the kind needs, the rest none */
} SolverState;

Status solver_state_alloc(Arena *arena, SolverKind kind, Shape shape, SolverState *out);
/* The state of x[index], for x of one sample among several. */
SolverState solver_state_at(const SolverState *state, int64_t index);

/* x = (1 - sigma) x + sigma noise at the first evaluation, x clean data. */
Status solver_begin(const Device *dev, const Solver *solver, Tensor x, Tensor noise);
/* x, at which v is the velocity of this evaluation, becomes the x of the next one, or the result.
 * v is spoiled. x, v F32 of the state's shape. Not collective. */
Status solver_update(const Device *dev, const Solver *solver, const SolverState *state,
                     int evaluation, Tensor x, Tensor v);

#ifdef __cplusplus
}
#endif
#endif
