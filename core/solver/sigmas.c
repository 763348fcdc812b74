#include "core/solver/sigmas.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

enum { SOLVERS = SOLVER_HEUN + 1, SCHEDULES = SIGMAS_ORIGINAL + 1 };

static const char *const solver_names[SOLVERS] = { "euler", "unipc", "dpm++", "heun" };
static const char *const sigmas_names[SCHEDULES] = { "own", "diffusers", "original" };

const char *solver_name(SolverKind kind)
{
    return solver_names[kind];
}

const char *sigmas_name(SigmaSchedule schedule)
{
    return sigmas_names[schedule];
}

Status solver_parse(const char *name, SolverKind *out)
{
    for (int i = 0; i < SOLVERS; i++) {
        if (strcmp(name, solver_names[i]) != 0) continue;
        *out = (SolverKind)i;
        return OK;
    }
    return status_fail(ERR_USAGE, "solver \"%.40s\": use euler, unipc, dpm++ or heun", name);
}

Status sigmas_parse(const char *name, SigmaSchedule *out)
{
    for (int i = 0; i < SCHEDULES; i++) {
        if (strcmp(name, sigmas_names[i]) != 0) continue;
        *out = (SigmaSchedule)i;
        return OK;
    }
    return status_fail(ERR_USAGE, "schedule \"%.40s\": use own, diffusers or original", name);
}

double flow_shift(double sigma, double shift)
{
    return shift * sigma / (1 + (shift - 1) * sigma);
}

/* ---- one schedule each: sigma number i of n, before it is rounded ---------------------------- */

/* Number i of `count` numbers from first to last. */
static double linspace(double first, double last, int count, int i)
{
    if (i > 0 && i == count - 1) return last;
    return i == 0 ? first : i * ((last - first) / (count - 1)) + first;
}

static double own(int n, int i, double shift)
{
    return flow_shift(1 - (double)i / n, shift);
}

static double unipc_diffusers(int n, int i, double shift)
{
    const double sigma = flow_shift(linspace(1, 0.001, n + 1, i), shift), least = 1e-6;

    /* at 1 the signal-to-noise ratio would be 0 and its logarithm infinite */
    return i == 0 && fabs(sigma - 1) < least ? sigma - least : sigma;
}

static double dpm_diffusers(int n, int i, double shift)
{
    return flow_shift(1 - linspace(1, 0.001, n + 1, n - i), shift);
}

/* The ends of the range, shifted in F32 as the class does when it is made. */
static double shifted_f32(float sigma, double shift)
{
    const float k = (float)shift, rest = (float)(shift - 1);
    const float above = k * sigma, below = 1 + rest * sigma;

    return (double)(above / below);
}

static double flow_match_diffusers(int n, int i, double shift)
{
    const double first = 1000 * shifted_f32(1, shift), last = 1000 * shifted_f32(0.001F, shift);

    return flow_shift(linspace(first, last, n, i) / 1000, shift);
}

static double unipc_original(int n, int i, double shift)
{
    return flow_shift(linspace((double)0.999F, 0, n + 1, i), shift);
}

static double dpm_original(int n, int i, double shift)
{
    return flow_shift(linspace(1, 0, n + 1, i), shift);
}

typedef double SigmaFn(int n, int i, double shift);

/* NULL: there is none. */
static SigmaFn *const schedules[SOLVERS][SCHEDULES] = {
    [SOLVER_EULER] = { own, flow_match_diffusers, NULL },
    [SOLVER_UNIPC] = { NULL, unipc_diffusers, unipc_original },
    [SOLVER_DPM] = { NULL, dpm_diffusers, dpm_original },
    [SOLVER_HEUN] = { NULL, flow_match_diffusers, NULL },
};

/* ---- the whole ------------------------------------------------------------------------------- */

Status sigmas_make(SolverKind solver, SigmaSchedule schedule, int steps, double shift,
                   float *sigmas, float *timesteps)
{
    SigmaFn *const sigma_of = schedules[solver][schedule];
    /* both multistep classes cut timesteps to integers */
    const bool whole = solver == SOLVER_UNIPC || solver == SOLVER_DPM;

    CHECK(steps >= 1 && steps <= MAX_STEPS, ERR_USAGE, "steps is %d: use 1 to %d", steps,
          MAX_STEPS);
    CHECK(shift > 0 && shift <= 100, ERR_USAGE, "shift is %g: use a number above 0, up to 100",
          shift);
    CHECK(sigma_of, ERR_USAGE, "solver %s has no schedule \"%s\": %s", solver_name(solver),
          sigmas_name(schedule),
          schedule == SIGMAS_OWN ? "that one goes with euler"
                                 : "that one goes with unipc and dpm++");

    for (int i = 0; i < steps; i++) {
        const double sigma = sigma_of(steps, i, shift);

        sigmas[i] = (float)sigma;
        timesteps[i] = whole ? (float)trunc(sigma * 1000) : 1000 * sigmas[i];
    }
    sigmas[steps] = 0;
    return OK;
}
