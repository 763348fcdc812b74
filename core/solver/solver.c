#include "core/solver/solver.h"

#include "core/ops.h"
#include "core/solver/multistep.h"

#include <assert.h>

static bool is_multistep(SolverKind kind)
{
    return kind == SOLVER_UNIPC || kind == SOLVER_DPM;
}

/* ---- the plan -------------------------------------------------------------------------------- */

/* Logarithms of equal sigmas would divide by 0. */
static Status check_falling(const Solver *s, double shift)
{
    for (int i = 0; i < s->steps; i++)
        CHECK(s->sigmas[i + 1] < s->sigmas[i], ERR_USAGE,
              "%d steps with shift %g: sigmas %d and %d are both %.9g; use fewer steps or another "
              "shift",
              s->steps, shift, i, i + 1, (double)s->sigmas[i]);
    return OK;
}

Status solver_plan(const SolverOptions *o, Solver *out)
{
    const double strength = o->strength == 0 ? 1 : o->strength;
    Solver s = { .kind = o->kind, .steps = o->steps };

    TRY(sigmas_make(o->kind, o->sigmas, o->steps, o->shift, s.sigmas, s.timesteps));
    if (is_multistep(o->kind)) TRY(check_falling(&s, o->shift));
    CHECK(strength > 0 && strength <= 1, ERR_USAGE, "strength is %g: use a number above 0, up to 1",
          strength);
    const int run = (int)(o->steps * strength);
    CHECK(run >= 1, ERR_USAGE, "strength %g of %d steps is none: use more of either", strength,
          o->steps);
    s.first = o->steps - run;
    s.evaluations = o->kind == SOLVER_HEUN ? 2 * run - 1 : run;
    *out = s;
    return OK;
}

SolverPoint solver_point(const Solver *s, int evaluation)
{
    assert(evaluation >= 0 && evaluation < s->evaluations);
    if (s->kind != SOLVER_HEUN) {
        const int step = s->first + evaluation;
        return (SolverPoint){ s->sigmas[step], s->timesteps[step], step, true };
    }
    /* 0; then the end of each step, and the same point again as the beginning of the next */
    const int step = s->first + evaluation / 2, at = s->first + (evaluation + 1) / 2;
    return (SolverPoint){ s->sigmas[at], s->timesteps[at], step,
                          evaluation % 2 == 1 || step == s->steps - 1 };
}

/* ---- what is remembered ---------------------------------------------------------------------- */

static int history_of(SolverKind kind)
{
    static const int counts[] = {
        [SOLVER_EULER] = 0, [SOLVER_UNIPC] = 3, [SOLVER_DPM] = 1, [SOLVER_HEUN] = 2
    };
    return counts[kind];
}

Status solver_state_alloc(Arena *arena, SolverKind kind, Shape shape, SolverState *out)
{
    SolverState state;

    for (int i = 0; i < SOLVER_HISTORY; i++) {
        state.history[i] = tensor_none();
        if (i < history_of(kind))
            TRY(tensor_alloc(arena, F32, shape, "solver.history", &state.history[i]));
    }
    *out = state;
    return OK;
}

SolverState solver_state_at(const SolverState *state, int64_t index)
{
    SolverState out;

    for (int i = 0; i < SOLVER_HISTORY; i++)
        out.history[i] =
            state->history[i].data ? tensor_at(state->history[i], index) : tensor_none();
    return out;
}

/* ---- one evaluation -------------------------------------------------------------------------- */

static Status copy(const Device *dev, Tensor to, Tensor from)
{
    return op_convert(dev, to, from);
}

static Status euler(const Device *dev, const Solver *s, int step, Tensor x, Tensor v)
{
    /* dx / dsigma = v, as x_sigma = (1 - sigma) x + sigma noise and v = noise - x */
    return op_axpby(dev, x, s->sigmas[step + 1] - s->sigmas[step], v, 1);
}

static Status heun(const Device *dev, const Solver *s, const SolverState *state, SolverPoint at,
                   bool second, Tensor x, Tensor v)
{
    const Tensor start = state->history[0], slope = state->history[1];

    if (second) {
        TRY(op_axpby(dev, v, 0.5F, slope, 0.5F));
        TRY(copy(dev, x, start));
    } else if (!at.ends_step) {
        TRY(copy(dev, start, x));
        TRY(copy(dev, slope, v));
    }
    return euler(dev, s, at.step, x, v);
}

/* x = sum of x_then, which it holds, and the m's; those that are not there have coefficient 0. */
static Status add_up(const Device *dev, MultistepSum sum, Tensor x, const Tensor m[3])
{
    double keep = sum.x;

    for (int i = 0; i < 3; i++) {
        if (sum.m[i] == 0) continue;
        TRY(op_axpby(dev, x, (float)sum.m[i], m[i], (float)keep));
        keep = 1;
    }
    return OK;
}

/* v becomes m = x - sigma v */
static Status clean_sample(const Device *dev, const Solver *s, int step, Tensor x, Tensor v)
{
    return op_axpby(dev, v, 1, x, -s->sigmas[step]);
}

/* Of the step from sigma_i to sigma_{i+1}: 2 as soon as there is a step before, 1 in the last. */
static int order_of(const Solver *s, int step)
{
    return step == s->first || step == s->steps - 1 ? 1 : 2;
}

static Status dpm(const Device *dev, const Solver *s, const SolverState *state, int step, Tensor x,
                  Tensor v)
{
    const Tensor m[3] = { v, state->history[0] };

    TRY(clean_sample(dev, s, step, x, v));
    TRY(add_up(dev, multistep_predict(s->sigmas, step, order_of(s, step)), x, m));
    return copy(dev, state->history[0], v);
}

static Status unipc(const Device *dev, const Solver *s, const SolverState *state, int step,
                    Tensor x, Tensor v)
{
    /* the m of a step lies in history[step % 2] */
    const Tensor oldest = state->history[step % 2], then = state->history[2];
    const Tensor m[3] = { v, state->history[(step + 1) % 2], oldest };

    TRY(clean_sample(dev, s, step, x, v));
    if (step > s->first) {
        const int order = order_of(s, step - 1);
        TRY(add_up(dev, multistep_correct(s->sigmas, step, order), then, m));
        TRY(copy(dev, x, then));
    } else {
        TRY(copy(dev, then, x));
    }
    TRY(add_up(dev, multistep_predict(s->sigmas, step, order_of(s, step)), x, m));
    return copy(dev, oldest, v);
}

Status solver_begin(const Device *dev, const Solver *solver, Tensor x, Tensor noise)
{
    const float sigma = solver->sigmas[solver->first];

    return op_axpby(dev, x, sigma, noise, 1 - sigma);
}

Status solver_update(const Device *dev, const Solver *solver, const SolverState *state,
                     int evaluation, Tensor x, Tensor v)
{
    const SolverPoint at = solver_point(solver, evaluation);

    switch (solver->kind) {
    case SOLVER_EULER: return euler(dev, solver, at.step, x, v);
    case SOLVER_HEUN: return heun(dev, solver, state, at, evaluation % 2 == 1, x, v);
    case SOLVER_DPM: return dpm(dev, solver, state, at.step, x, v);
    case SOLVER_UNIPC: return unipc(dev, solver, state, at.step, x, v);
    }
    return status_fail(ERR_USAGE, "there is no solver number %d", (int)solver->kind);
}
