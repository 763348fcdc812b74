#include "core/solver/pipelined.h"

#include "core/ops.h"
#include "core/solver/flow_euler.h"
#include "core/solver/guidance.h"

#include <assert.h>

enum { SAMPLES_MAX = 64, HALVES = 2 };

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

static Status pass_all(Run *run)
{
    const DenoiseOptions *o = run->options;

    for (int step = 0; step < o->steps; step++) {
        for (int64_t sample = 0; sample < run->samples; sample++) TRY(pass(run, step, sample));
        /* every sample was begun anew: the step before is done */
        if (step > 0 && o->on_step) o->on_step(o->watcher, step);
    }
    return velocity_pass_end(run->velocity);
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
