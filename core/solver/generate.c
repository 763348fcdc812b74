#include "core/solver/generate.h"

#include "core/solver/guidance.h"

#include <assert.h>

/* The model's timestep of sigma 1. */
static const float TIMESTEP_SCALE = 1000;

typedef struct Conditioned {
    Velocity *velocity;
    DitShape grid;
    Tensor t; /* (rows) */
} Conditioned;

static Status evaluate(void *context, Tensor v, Tensor x, float sigma)
{
    const Conditioned *c = context;

    TRY(op_fill(c->velocity->dit->dev, c->t, TIMESTEP_SCALE * sigma));
    return velocity_eval(c->velocity, c->grid, v, x, c->t);
}

/* Conditional rows first, then the unconditional ones of the same samples. */
static Status encode_captions(Velocity *velocity, const GenerateOptions *options,
                              const char *const *prompts, int64_t count, int64_t rows,
                              Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    const char *negative = options->negative ? options->negative : "";
    void *memory;
    const char **captions;
    Status s;

    TRY(arena_alloc(scratch, (size_t)rows * sizeof(*captions), "generate.captions", &memory));
    captions = memory;
    for (int64_t i = 0; i < rows; i++) captions[i] = i < count ? prompts[i] : negative;
    s = velocity_captions(velocity, captions, rows);
    arena_release(scratch, mark);
    return s;
}

int64_t generate_rows(int64_t samples, double guidance)
{
    return guidance_is_on(guidance) ? 2 * samples : samples;
}

size_t generate_scratch(int64_t samples, int64_t tokens, int64_t patch, double guidance)
{
    const int64_t rows = generate_rows(samples, guidance);
    Arena count = arena_counting("generate");
    Tensor t;
    void *captions;
    Status s = tensor_alloc(&count, F32, SHAPE(rows), "generate.t", &t);

    if (s == OK) s = arena_alloc(&count, (size_t)rows * sizeof(char *), "captions", &captions);
    assert(s == OK);
    (void)s;
    return count.peak + denoise_scratch(samples, tokens, patch, guidance);
}

Status generate_latents(Velocity *velocity, DitShape grid, const GenerateOptions *options,
                        const char *const *prompts, uint64_t first_id, Arena *scratch, Tensor x)
{
    const int64_t count = x.shape[0];
    const int64_t rows = generate_rows(count, options->denoise.guidance);
    const Device *dev = velocity->dit->dev;
    const size_t mark = arena_mark(scratch);
    Conditioned conditioned = { .velocity = velocity, .grid = grid };
    Status s = OK;

    TRY_TO(done, s, tensor_alloc(scratch, F32, SHAPE(rows), "generate.t", &conditioned.t));
    TRY_TO(done, s, encode_captions(velocity, options, prompts, count, rows, scratch));
    TRY_TO(done, s, denoise_noise(dev, x, options->seed, first_id));
    TRY_TO(done, s, denoise_run(dev, evaluate, &conditioned, &options->denoise, scratch, x));
done:
    arena_release(scratch, mark);
    return s;
}
