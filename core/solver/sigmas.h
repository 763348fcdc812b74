/*
 * sigmas: the noise levels that a sampling run passes, and the timestep the model is fed at each.
 *
 * x_sigma = (1 - sigma) data + sigma noise; sigma falls from about 1 to 0. With
 * shift(s) = k s / (1 + (k - 1) s), linspace(a, b, n) as numpy's, and N steps (spec 11):
 *
 *     own        euler        shift(1 - i / N)                              t = 1000 sigma
 *     diffusers  unipc        shift(linspace(1, 0.001, N + 1)[i])           t = trunc(1000 sigma)
 *                dpm++        shift(1 - linspace(1, 0.001, N + 1)[N - i])       the same
 *                euler, heun  shift(linspace(shift(1), shift(0.001), N)[i]) t = 1000 sigma
 *     original   unipc        shift(linspace(0.999, 0, N + 1)[i])           t = trunc(1000 sigma)
 *                dpm++        shift(linspace(1, 0, N + 1)[i])                   the same
 *
 * each followed by 0. "own" is what models trained here are sampled with. "diffusers" and
 * "original" are made with the operations and roundings of those programs, so that sigmas and
 * timesteps have their bits: a timestep that is cut to an integer forgives no last digit.
 */
#ifndef ZT_CORE_SOLVER_SIGMAS_H
#define ZT_CORE_SOLVER_SIGMAS_H

#include "core/base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { MAX_STEPS = 1000 };

typedef enum SolverKind { SOLVER_EULER, SOLVER_UNIPC, SOLVER_DPM, SOLVER_HEUN } SolverKind;

typedef enum SigmaSchedule { SIGMAS_OWN, SIGMAS_DIFFUSERS, SIGMAS_ORIGINAL } SigmaSchedule;

/* "euler", "unipc", "dpm++", "heun"; "own", "diffusers", "original". */
const char *solver_name(SolverKind kind);
const char *sigmas_name(SigmaSchedule schedule);
/* ERR_USAGE lists the names. */
Status solver_parse(const char *name, SolverKind *out);
Status sigmas_parse(const char *name, SigmaSchedule *out);

/* k s / (1 + (k - 1) s): moves the schedule towards noise when k > 1. */
double flow_shift(double sigma, double shift);

/* sigmas (steps + 1), timesteps (steps). ERR_USAGE when steps is not 1 to MAX_STEPS, shift not in
 * (0, 100], or the solver has no such schedule (above). */
Status sigmas_make(SolverKind solver, SigmaSchedule schedule, int steps, double shift,
                   float *sigmas, float *timesteps);

#ifdef __cplusplus
}
#endif
#endif
