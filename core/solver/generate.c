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

static Status evaluate(void *context, Tensor v, Tensor x, SolverPoint at)
{
    const Conditioned *c = context;
    const Tensor own = tensor_slice(v, c->first, c->rows);

    TRY(check_stop(c->velocity->dit->groups.replica, c->rows < v.shape[0] ? c->halves : NULL));
    TRY(op_fill(c->velocity->dit->dev, c->t, at.t));
    TRY(velocity_eval(c->velocity, c->grid, own, tensor_slice(x, c->first, c->rows), c->t));
    return c->rows < v.shape[0] ? group_all_gather(c->halves, v, own) : OK;
}

/* Of the rows computed here. Of all rows the conditional ones come first, then the unconditional
 * ones of the same samples. */
static Status encode_captions(const Conditioned *c, const GenerateOptions *options,
                              const char *const *prompts, int64_t count, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const char *negative = options->negative ? options->negative : "";
    void *memory;
    const char **captions;
    Status s;

    TRY(arena_alloc(scratch, (size_t)c->rows * sizeof(*captions), "generate.captions", &memory));
    captions = memory;
    for (int64_t i = 0; i < c->rows; i++)
        captions[i] = c->first + i < count ? prompts[c->first + i] : negative;
    s = velocity_captions(c->velocity, captions, c->rows);
    arena_release(scratch, mark);
    return s;
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
    return count.peak + (loop > pipelined ? loop : pipelined);
}

Status generate_latents(Velocity *velocity, DitShape grid, const GenerateOptions *options,
                        const char *const *prompts, const uint64_t *ids, Arena *scratch, Tensor x)
{
    const int64_t count = x.shape[0];
    const double guidance = options->denoise.guidance;
    const int64_t rows = generate_rows(count, guidance, options->halves);
    const Device *dev = velocity->dit->dev;
    const size_t mark = arena_mark(scratch);
    Conditioned conditioned = {
        .velocity = velocity, .grid = grid, .halves = options->halves, .rows = rows
    };
    Status s = OK;

    TRY_TO(done, s, tensor_alloc(scratch, F32, SHAPE(rows), "generate.t", &conditioned.t));
    if (is_shared(guidance, options->halves)) conditioned.first = options->halves->rank * count;
    TRY_TO(done, s, encode_captions(&conditioned, options, prompts, count, scratch));
    for (int64_t i = 0; i < count; i++)
        TRY_TO(done, s, denoise_noise(dev, tensor_slice(x, i, 1), options->seed, ids[i]));
    /* ranks with several virtual stages, as in interleaved training, go one timestep at a time */
    if (velocity->pipeline->size > 1 && velocity->chunks == 1)
        s = pipelined_run(velocity, grid, &options->denoise, options->halves, scratch, x);
    else
        s = denoise_run(dev, evaluate, &conditioned, &options->denoise, scratch, x);
done:
    arena_release(scratch, mark);
    return s;
}
