#include "core/solver/pipelined.h"

#include "core/base/stop.h"
#include "core/ops.h"
#include "core/solver/flow_euler.h"
#include "core/solver/guidance.h"

#include <assert.h>

enum { SAMPLES_MAX = 64, HALVES = 2 };

/* What goes ahead of a step: the first stage's answer for it, and whether a stage was asked since.
 */
enum { STOP_NOW, STOP_ASKED, STOP_FIELDS };

/* One run of the loop on this rank; tokens are the rank's own. */
typedef struct Run {
    Velocity *velocity;
    const DenoiseOptions *options;
    Group *halves;         /* absent where all rows are computed here */
    DitShape shape;        /* of one row */
    int64_t samples, rows; /* rows of a sample that are computed here */
    float sigmas[MAX_STEPS + 1];
    Tensor x;     /* (samples, own tokens, patch); first and last stage */
    Tensor v;     /* (2, own tokens, patch): a sample's halves; last stage */
    Tensor norm;  /* (1) F64 */
    Tensor norms; /* (MAX_STEPS) F64: squares of all x after each step; last stage */
    GroupRequest sent[SAMPLES_MAX];
    int64_t turn;
    int64_t stop[STOP_FIELDS];
    GroupRequest stop_sent;
} Run;

static Status alloc(Arena *arena, int64_t samples, int64_t tokens, int64_t patch, Run *run)
{
    TRY(tensor_alloc(arena, F32, SHAPE(samples, tokens, patch), "pipelined.x", &run->x));
    TRY(tensor_alloc(arena, F32, SHAPE(HALVES, tokens, patch), "pipelined.v", &run->v));
    TRY(tensor_alloc(arena, F64, SHAPE(1), "pipelined.norm", &run->norm));
    return tensor_alloc(arena, F64, SHAPE(MAX_STEPS), "pipelined.norms", &run->norms);
}

size_t pipelined_scratch(int64_t samples, int64_t tokens, int64_t patch)
{
    Arena count = arena_counting("pipelined");
    Run run;
    const Status s = alloc(&count, samples, tokens, patch, &run);

    assert(s == OK);
    (void)s;
    return count.peak;
}

static const Device *device_of(const Run *run)
{
    return run->velocity->dit->dev;
}

/* ---- one sample, one step -------------------------------------------------------------------- */

/* The halves of v are there, or come from the replica that has the other one. */
static Status guide(const Run *run)
{
    const double scale = run->options->guidance;

    if (!guidance_is_on(scale)) return OK;
    if (run->halves)
        TRY(group_all_gather(run->halves, run->v, tensor_at(run->v, run->halves->rank)));
    return guidance_combine(device_of(run), tensor_at(run->v, 0), tensor_at(run->v, 1), scale);
}

/* Last stage: the sample's Euler step; x goes back to the first stage but after the last step. */
static Status update(Run *run, int step, int64_t sample)
{
    Group *pipeline = run->velocity->pipeline;
    const Tensor x = tensor_at(run->x, sample);

    TRY(guide(run));
    /* the first stage took it long ago: this step came from it */
    TRY(group_wait(pipeline, &run->sent[sample]));
    TRY(flow_euler_step(device_of(run), x, tensor_at(run->v, 0), run->sigmas[step],
                        run->sigmas[step + 1]));
    TRY(op_square_norm(device_of(run), run->norm, x));
    ((double *)run->norms.data)[step] += *(const double *)run->norm.data;
    return step + 1 < run->options->steps ? group_send(pipeline, x, 0, &run->sent[sample]) : OK;
}

static Status pass(Run *run, int step, int64_t sample)
{
    Velocity *velocity = run->velocity;
    const Dit *dit = velocity->dit;
    const Tensor x = tensor_at(run->x, sample);
    const float t = 1000 * run->sigmas[step];
    const int64_t half = run->halves ? run->halves->rank : 0;

    if (dit->first && step > 0)
        TRY(group_receive(velocity->pipeline, x, velocity->pipeline->size - 1));
    for (int64_t i = 0; i < run->rows; i++) {
        const VelocityTurn turn = { run->turn++, i * run->samples + sample };
        TRY(velocity_pass(velocity, run->shape, turn, tensor_at(run->v, half + i), x, t));
    }
    return dit->last ? update(run, step, sample) : OK;
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
static Status drain(Run *run, int step)
{
    Group *pipeline = run->velocity->pipeline;

    for (int64_t i = 0; i < run->samples && step > 0; i++) {
        if (run->velocity->dit->first)
            TRY(group_receive(pipeline, tensor_at(run->x, i), pipeline->size - 1));
        if (run->velocity->dit->last) TRY(group_wait(pipeline, &run->sent[i]));
    }
    return group_wait(pipeline, &run->stop_sent);
}

/* Before a step, on every stage: ERR_STOPPED on all or on none. */
static Status check_stop(Run *run, int step)
{
    const Dit *dit = run->velocity->dit;
    Group *pipeline = run->velocity->pipeline;
    const int before = (pipeline->rank + pipeline->size - 1) % pipeline->size;
    const int after = (pipeline->rank + 1) % pipeline->size;
    const Tensor message = tensor_of(run->stop, I64, SHAPE(STOP_FIELDS));

    TRY(group_wait(pipeline, &run->stop_sent));
    if (step > 0 || !dit->first) TRY(group_receive(pipeline, message, before));
    if (stop_requested()) run->stop[STOP_ASKED] = 1;
    if (dit->first) TRY(answer(run));
    const bool stop = run->stop[STOP_NOW] > 0;
    /* the last stage's goes to the first for the step after this one */
    if (!dit->last || (!stop && step + 1 < run->options->steps))
        TRY(group_send(pipeline, message, after, &run->stop_sent));
    if (!stop) return OK;
    TRY(drain(run, step));
    return status_fail(ERR_STOPPED,
                       "stopped by a signal while sampling; run the same command to go on");
}

/* ---- the steps ------------------------------------------------------------------------------- */

static Status pass_steps(Run *run)
{
    const DenoiseOptions *o = run->options;

    for (int step = 0; step < o->steps; step++) {
        TRY(check_stop(run, step));
        for (int64_t sample = 0; sample < run->samples; sample++) TRY(pass(run, step, sample));
        /* every sample was begun anew: the step before is done */
        if (step > 0 && o->on_step) o->on_step(o->watcher, step);
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

/* The last stage's x to all; the step at which it stopped being finite, if it did. */
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
    for (int i = 0; i < run->options->steps; i++)
        TRY(denoise_check(((const double *)run->norms.data)[i], i + 1, run->sigmas[i + 1]));
    return OK;
}

static Status prepare(Run *run, Arena *scratch, Tensor x)
{
    const int64_t own = dit_own_tokens(run->velocity->dit, run->shape).count;

    CHECK(run->samples <= SAMPLES_MAX, ERR_USAGE, "%lld samples at a time: at most %d",
          (long long)run->samples, SAMPLES_MAX);
    TRY(denoise_sigmas(run->options, run->sigmas));
    TRY(alloc(scratch, run->samples, own, x.shape[2], run));
    for (int i = 0; i < MAX_STEPS; i++) ((double *)run->norms.data)[i] = 0;
    return velocity_take_own(run->velocity, run->shape, run->x, x);
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
                .shape = { 1, grid.t, grid.h, grid.w },
                .samples = x.shape[0],
                .rows = guided && !shared ? 2 : 1 };
    Status s = OK;

    assert(velocity->pipeline->size > 1);
    TRY_TO(done, s, prepare(&run, scratch, x));
    TRY_TO(done, s, pass_all(&run));
    TRY_TO(done, s, share(&run, x));
    if (options->on_step) options->on_step(options->watcher, options->steps);
done:
    arena_release(scratch, mark);
    return s;
}
