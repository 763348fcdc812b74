#include "core/solver/generate.h"

#include "core/base/stop.h"
#include "core/solver/guidance.h"
#include "core/solver/pipelined.h"

#include <assert.h>

typedef struct Conditioned {
    Velocity *velocity;
    DitShape grid;
    Group *halves;       /* NULL or alone: all rows are computed here */
    int64_t first, rows; /* those computed here */
    Tensor t;            /* (rows) */
    const GenerateOptions *options;
    const char *const *prompts;
    int64_t count; /* of samples */
    Arena *scratch;
    int expert; /* that works now; -1: none has yet */
} Conditioned;

/* The ranks that share the samples all hear of a signal that one got: none leaves the others
 * waiting. */
static Status check_stop(Group *replica, Group *halves)
{
    int64_t asked = stop_requested() ? 1 : 0;
    const Tensor t = tensor_of(&asked, I64, SHAPE(1));

    TRY(group_all_reduce(replica, t));
    if (halves) TRY(group_all_reduce(halves, t));
    CHECK(asked == 0, ERR_STOPPED,
          "stopped by a signal while sampling; run the same command to go on");
    return OK;
}

/* Of the rows computed here. Of all rows the conditional ones come first, then the unconditional
 * ones of the same samples. */
static Status encode_captions(const Conditioned *c)
{
    const size_t mark = arena_mark(c->scratch);
    const char *negative = c->options->negative ? c->options->negative : "";
    void *memory;
    const char **captions;
    Status s;

    TRY(arena_alloc(c->scratch, (size_t)c->rows * sizeof(*captions), "generate.captions", &memory));
    captions = memory;
    for (int64_t i = 0; i < c->rows; i++)
        captions[i] = c->first + i < c->count ? c->prompts[c->first + i] : negative;
    s = velocity_captions(c->velocity, captions, c->rows);
    arena_release(c->scratch, mark);
    return s;
}

static Tensor rows_of(const Conditioned *c, Tensor all)
{
    return all.data ? tensor_slice(all, c->first, c->rows) : all;
}

static Status condition(const Conditioned *c)
{
    const VelocityCondition *all = c->options->told;

    if (!all) return encode_captions(c);
    const VelocityCondition own = { rows_of(c, all->text), rows_of(c, all->image),
                                    rows_of(c, all->beside) };
    return velocity_condition(c->velocity, &own, c->rows);
}

int generate_expert(double boundary, float t)
{
    return boundary > 0 && (double)t < 1000 * boundary ? 1 : 0;
}

/* The other expert's weights make other keys of the same condition. */
static Status choose_expert(Conditioned *c, float t)
{
    const double boundary = c->options->denoise.boundary;
    const int expert = generate_expert(boundary, t);

    if (boundary == 0 || expert == c->expert) return OK;
    TRY(c->options->experts->use(c->options->experts->context, expert));
    c->expert = expert;
    return condition(c);
}

static Status evaluate(void *context, Tensor v, Tensor x, SolverPoint at)
{
    Conditioned *c = context;
    const Tensor own = tensor_slice(v, c->first, c->rows);

    TRY(choose_expert(c, at.t));
    TRY(check_stop(c->velocity->dit->groups.replica, c->rows < v.shape[0] ? c->halves : NULL));
    TRY(op_fill(c->velocity->dit->dev, c->t, at.t));
    TRY(velocity_eval(c->velocity, c->grid, own, tensor_slice(x, c->first, c->rows), c->t));
    return c->rows < v.shape[0] ? group_all_gather(c->halves, v, own) : OK;
}

/* Whether the two halves are computed by one replica each. */
static bool is_shared(double guidance, const Group *halves)
{
    return guidance_is_on(guidance) && halves && halves->size > 1;
}

int64_t generate_rows(int64_t samples, double guidance, const Group *halves)
{
    return guidance_is_on(guidance) && !is_shared(guidance, halves) ? 2 * samples : samples;
}

size_t generate_scratch(int64_t samples, int64_t tokens, int64_t patch,
                        const DenoiseOptions *options)
{
    const int64_t rows = generate_rows(samples, options->guidance, NULL);
    Arena count = arena_counting("generate");
    Tensor t;
    void *captions;
    Status s = tensor_alloc(&count, F32, SHAPE(rows), "generate.t", &t);

    if (s == OK) s = arena_alloc(&count, (size_t)rows * sizeof(char *), "captions", &captions);
    assert(s == OK);
    (void)s;
    const size_t loop = denoise_scratch(samples, tokens, patch, options);
    const size_t pipelined = pipelined_scratch(samples, tokens, patch, options->solver);
    /* the noise of a start is gone before the loop begins, and no larger than what that takes */
    return count.peak + (loop > pipelined ? loop : pipelined);
}

/* Noise, or a video that noise is mixed into as far as the trajectory is gone. */
static Status begin(const Device *dev, const GenerateOptions *options, const uint64_t *ids,
                    Arena *scratch, Tensor x)
{
    const size_t mark = arena_mark(scratch);
    const int64_t count = x.shape[0];
    Tensor noise = x;
    Solver solver;
    Status s = OK;

    TRY(denoise_plan(&options->denoise, &solver));
    if (options->start.data)
        TRY_TO(done, s,
               tensor_alloc(scratch, F32, SHAPE(count, x.shape[1], x.shape[2]), "generate.noise",
                            &noise));
    for (int64_t i = 0; i < count && !options->noise.data; i++)
        TRY_TO(done, s, denoise_noise(dev, tensor_slice(noise, i, 1), options->seed, ids[i]));
    if (options->noise.data) TRY_TO(done, s, op_convert(dev, noise, options->noise));
    if (!options->start.data) goto done;
    TRY_TO(done, s, op_convert(dev, x, options->start));
    s = solver_begin(dev, &solver, x, noise);
done:
    arena_release(scratch, mark);
    return s;
}

Status generate_latents(Velocity *velocity, DitShape grid, const GenerateOptions *options,
                        const char *const *prompts, const uint64_t *ids, Arena *scratch, Tensor x)
{
    const int64_t count = x.shape[0];
    const double guidance = options->denoise.guidance;
    const int64_t rows = generate_rows(count, guidance, options->halves);
    const Device *dev = velocity->dit->dev;
    const size_t mark = arena_mark(scratch);
    Conditioned conditioned = { .velocity = velocity,
                                .grid = grid,
                                .halves = options->halves,
                                .rows = rows,
                                .options = options,
                                .prompts = prompts,
                                .count = count,
                                .scratch = scratch,
                                .expert = -1 };
    Status s = OK;

    TRY_TO(done, s, tensor_alloc(scratch, F32, SHAPE(rows), "generate.t", &conditioned.t));
    if (is_shared(guidance, options->halves)) conditioned.first = options->halves->rank * count;
    if (options->denoise.boundary == 0) TRY_TO(done, s, condition(&conditioned));
    TRY_TO(done, s, begin(dev, options, ids, scratch, x));
    /* ranks with several virtual stages, as in interleaved training, go one timestep at a time, and
     * so do experts, who take turns on all stages at once */
    if (velocity->pipeline->size > 1 && velocity->chunks == 1 && options->denoise.boundary == 0)
        s = pipelined_run(velocity, grid, &options->denoise, options->halves, scratch, x);
    else
        s = denoise_run(dev, evaluate, &conditioned, &options->denoise, scratch, x);
done:
    arena_release(scratch, mark);
    return s;
}
