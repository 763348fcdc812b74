#include "core/solver/pipelined.h"

#include "core/base/stop.h"
#include "core/ops.h"
#include "core/solver/guidance.h"

#include <assert.h>

enum { SAMPLES_MAX = 64, HALVES = 2 };

/* What goes ahead of an evaluation: the first stage's answer for it, and whether a stage was asked
 * since.
 */
enum { STOP_NOW, STOP_ASKED, STOP_FIELDS };

/* One run of the loop on this rank; tokens are the rank's own. */
typedef struct Run {
    Velocity *velocity;
    const DenoiseOptions *options;
    Group *halves;         /* absent where all rows are computed here */
    DitShape shape;        /* of one row */
    int64_t samples, rows; /* rows of a sample that are computed here */
    Solver solver;
    SolverState state; /* of (samples, own tokens, patch); last stage */
    Tensor x;          /* (samples, own tokens, patch); first and last stage */
    Tensor v;          /* (2, own tokens, patch): a sample's halves; last stage */
    Tensor norm;       /* (1) F64 */
    Tensor norms; /* (MAX_EVALUATIONS) F64: squares of all x after each evaluation; last stage */
    GroupRequest sent[SAMPLES_MAX];
    int64_t turn;
    int64_t stop[STOP_FIELDS];
    GroupRequest stop_sent;
} Run;

static Status alloc(Arena *arena, int64_t samples, int64_t tokens, int64_t patch, SolverKind solver,
                    Run *run)
{
    TRY(tensor_alloc(arena, F32, SHAPE(samples, tokens, patch), "pipelined.x", &run->x));
    TRY(tensor_alloc(arena, F32, SHAPE(HALVES, tokens, patch), "pipelined.v", &run->v));
    TRY(tensor_alloc(arena, F64, SHAPE(1), "pipelined.norm", &run->norm));
    TRY(tensor_alloc(arena, F64, SHAPE(MAX_EVALUATIONS), "pipelined.norms", &run->norms));
    return solver_state_alloc(arena, solver, SHAPE(samples, tokens, patch), &run->state);
}

size_t pipelined_scratch(int64_t samples, int64_t tokens, int64_t patch, SolverKind solver)
{
    Arena count = arena_counting("pipelined");
    Run run;
    const Status s = alloc(&count, samples, tokens, patch, solver, &run);

    assert(s == OK);
    (void)s;
    return count.peak;
}

static const Device *device_of(const Run *run)
{
    return run->velocity->dit->dev;
}

/* ---- one sample, one evaluation -------------------------------------------------------------- */

/* The halves of v are there, or come from the replica that has the other one. */
static Status guide(const Run *run, SolverPoint at)
{
    const double scale = denoise_guidance(run->options, at.t);

    if (!guidance_is_on(scale)) return OK;
    if (run->halves)
        TRY(group_all_gather(run->halves, run->v, tensor_at(run->v, run->halves->rank)));
    return guidance_combine(device_of(run), tensor_at(run->v, 0), tensor_at(run->v, 1), scale);
}

/* Given tokens keep their place in a sample's x. */
static Status give(const Run *run, int64_t sample)
{
    DenoiseOptions one = *run->options;

    if (!one.given.data) return OK;
    one.given = tensor_slice(one.given, sample, 1);
    return denoise_give(device_of(run), &one, tensor_slice(run->x, sample, 1),
                        dit_own_tokens(run->velocity->dit, run->shape).first);
}

/* Last stage: the sample's next x goes back to the first stage, but for the last. */
static Status update(Run *run, int evaluation, int64_t sample)
{
    Group *pipeline = run->velocity->pipeline;
    const Tensor x = tensor_at(run->x, sample);
    const SolverState state = solver_state_at(&run->state, sample);

    TRY(guide(run, solver_point(&run->solver, evaluation)));
    /* the first stage took it long ago: this evaluation came from it */
    TRY(group_wait(pipeline, &run->sent[sample]));
    TRY(solver_update(device_of(run), &run->solver, &state, evaluation, x, tensor_at(run->v, 0)));
    TRY(give(run, sample));
    TRY(op_square_norm(device_of(run), run->norm, x));
    ((double *)run->norms.data)[evaluation] += *(const double *)run->norm.data;
    return evaluation + 1 < run->solver.evaluations ? group_send(pipeline, x, 0, &run->sent[sample])
                                                    : OK;
}

static Status pass(Run *run, int evaluation, int64_t sample)
{
    Velocity *velocity = run->velocity;
    const Dit *dit = velocity->dit;
    const Tensor x = tensor_at(run->x, sample);
    const float t = solver_point(&run->solver, evaluation).t;
    const int64_t half = run->halves ? run->halves->rank : 0;

    if (dit->first && evaluation > 0)
        TRY(group_receive(velocity->pipeline, x, velocity->pipeline->size - 1));
    for (int64_t i = 0; i < run->rows; i++) {
        const VelocityTurn turn = { run->turn++, i * run->samples + sample };
        TRY(velocity_pass(velocity, run->shape, turn, tensor_at(run->v, half + i), x, t));
    }
    return dit->last ? update(run, evaluation, sample) : OK;
}

/* ---- stopping -------------------------------------------------------------------------------- */

/* The first stage's answer, the same on all its ranks and on both halves. */
static Status answer(Run *run)
{
    const Tensor asked = tensor_of(&run->stop[STOP_ASKED], I64, SHAPE(1));

    TRY(group_all_reduce(run->velocity->dit->groups.sequence, asked));
    if (run->halves) TRY(group_all_reduce(run->halves, asked));
    run->stop[STOP_NOW] = run->stop[STOP_ASKED];
    return OK;
}

/* Samples on their way from the last stage to the first arrive, and nobody waits for them. */
static Status drain(Run *run, int evaluation)
{
    Group *pipeline = run->velocity->pipeline;

    for (int64_t i = 0; i < run->samples && evaluation > 0; i++) {
        if (run->velocity->dit->first)
            TRY(group_receive(pipeline, tensor_at(run->x, i), pipeline->size - 1));
        if (run->velocity->dit->last) TRY(group_wait(pipeline, &run->sent[i]));
    }
    return group_wait(pipeline, &run->stop_sent);
}

/* Before an evaluation, on every stage: ERR_STOPPED on all or on none. */
static Status check_stop(Run *run, int evaluation)
{
    const Dit *dit = run->velocity->dit;
    Group *pipeline = run->velocity->pipeline;
    const int before = (pipeline->rank + pipeline->size - 1) % pipeline->size;
    const int after = (pipeline->rank + 1) % pipeline->size;
    const Tensor message = tensor_of(run->stop, I64, SHAPE(STOP_FIELDS));

    TRY(group_wait(pipeline, &run->stop_sent));
    if (evaluation > 0 || !dit->first) TRY(group_receive(pipeline, message, before));
    if (stop_requested()) run->stop[STOP_ASKED] = 1;
    if (dit->first) TRY(answer(run));
    const bool stop = run->stop[STOP_NOW] > 0;
    /* the last stage's goes to the first for the evaluation after this one */
    if (!dit->last || (!stop && evaluation + 1 < run->solver.evaluations))
        TRY(group_send(pipeline, message, after, &run->stop_sent));
    if (!stop) return OK;
    TRY(drain(run, evaluation));
    return status_fail(ERR_STOPPED,
                       "stopped by a signal while sampling; run the same command to go on");
}

/* ---- the evaluations ------------------------------------------------------------------------- */

static void report(const Run *run, int evaluation)
{
    const SolverPoint at = solver_point(&run->solver, evaluation);

    if (at.ends_step && run->options->on_step)
        run->options->on_step(run->options->watcher, at.step - run->solver.first + 1);
}

static Status pass_steps(Run *run)
{
    for (int i = 0; i < run->solver.evaluations; i++) {
        TRY(check_stop(run, i));
        for (int64_t sample = 0; sample < run->samples; sample++) TRY(pass(run, i, sample));
        /* every sample was begun anew: the evaluation before is done */
        if (i > 0) report(run, i - 1);
    }
    return group_wait(run->velocity->pipeline, &run->stop_sent);
}

static Status pass_all(Run *run)
{
    const Status s = pass_steps(run);

    /* messages of the last passes are on their way still, also when the steps were cut short */
    TRY(s == OK || s == ERR_STOPPED ? velocity_pass_end(run->velocity) : s);
    return s;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The last stage's x to all; where it stopped being finite, if it did. */
static Status share(Run *run, Tensor x)
{
    Velocity *velocity = run->velocity;
    const int last = velocity->pipeline->size - 1;

    if (velocity->dit->last) {
        TRY(velocity_gather(velocity, run->shape, x, run->x));
        TRY(group_all_reduce(velocity->dit->groups.sequence, run->norms));
    }
    TRY(group_broadcast(velocity->pipeline, x, last));
    TRY(group_broadcast(velocity->pipeline, run->norms, last));
    for (int i = 0; i < run->solver.evaluations; i++)
        TRY(denoise_check(&run->solver, i, ((const double *)run->norms.data)[i]));
    return OK;
}

static Status prepare(Run *run, Arena *scratch, Tensor x)
{
    const int64_t own = dit_own_tokens(run->velocity->dit, run->shape).count;

    CHECK(run->samples <= SAMPLES_MAX, ERR_USAGE, "%lld samples at a time: at most %d",
          (long long)run->samples, SAMPLES_MAX);
    TRY(denoise_plan(run->options, &run->solver));
    TRY(alloc(scratch, run->samples, own, x.shape[2], run->options->solver, run));
    for (int i = 0; i < MAX_EVALUATIONS; i++) ((double *)run->norms.data)[i] = 0;
    TRY(velocity_take_own(run->velocity, run->shape, run->x, x));
    for (int64_t i = 0; i < run->samples; i++) TRY(give(run, i));
    return OK;
}

Status pipelined_run(Velocity *velocity, DitShape grid, const DenoiseOptions *options,
                     Group *halves, Arena *scratch, Tensor x)
{
    const size_t mark = arena_mark(scratch);
    const bool guided = guidance_is_on(options->guidance);
    const bool shared = guided && halves && halves->size > 1;
    Run run = { .velocity = velocity,
                .options = options,
                .halves = shared ? halves : NULL,
                .shape = grid,
                .samples = x.shape[0],
                .rows = guided && !shared ? 2 : 1 };
    Status s = OK;

    assert(velocity->pipeline->size > 1);
    run.shape.batch = 1;
    TRY_TO(done, s, prepare(&run, scratch, x));
    TRY_TO(done, s, pass_all(&run));
    TRY_TO(done, s, share(&run, x));
    report(&run, run.solver.evaluations - 1);
done:
    arena_release(scratch, mark);
    return s;
}
