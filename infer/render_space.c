#include "infer/render_space.h"

#include "core/solver/generate.h"

/* ---- sizes ----------------------------------------------------------------------------------- */

/* Every sequence rank holds one token at least. */
static Status check_tokens(const Engine *engine, int64_t tokens)
{
    const int ranks = engine->mesh.sequence->size;
    CHECK(tokens >= ranks, ERR_USAGE,
          "a video of %lld tokens cannot be shared out to tensor x context = %d ranks: use fewer, "
          "or a larger --size",
          (long long)tokens, ranks);
    return OK;
}

Status render_sizes(const Engine *engine, const InferOptions *o, int64_t count, int64_t clean,
                    RenderSizes *out)
{
    const int64_t replicas = engine_seats(engine);
    const DitConfig *c = &engine->model.config.dit;
    TRY(codec_check_size(&engine->codec, "--size", o->frames, o->size.height, o->size.width));
    const Shape z = codec_latent_shape(&engine->codec, o->frames, o->size.height, o->size.width);
    const LatentGrid g = { z.dims[1], z.dims[2], z.dims[3] };
    RenderSizes s = { .latent_grid = g, .patch = dit_patch_out(c) };
    s.grid = dit_shape(1, g.t / c->patch_size[0], g.h / c->patch_size[1], g.w / c->patch_size[2]);
    s.grid.clean = clean;
    s.tokens = dit_tokens(s.grid);
    /* no replica takes two while another has none */
    s.batch = (count + replicas - 1) / replicas;
    if (s.batch > o->batch) s.batch = o->batch;
    TRY(check_tokens(engine, s.tokens));
    *out = s;
    return OK;
}

Status render_denoise(const InferOptions *o, const ModelDir *model, DenoiseOptions *out)
{
    DenoiseOptions d = { .steps = (int)o->steps,
                         .guidance = o->guidance,
                         .boundary = model->boundary,
                         .guidance_low = o->guidance_low,
                         .shift = o->shift > 0 ? o->shift : model->shift,
                         .strength = o->strength,
                         .solver = model->solver };
    Solver solver;

    if (o->solver) TRY(solver_parse(o->solver, &d.solver));
    d.sigmas = d.solver == model->solver ? model->sigmas : SIGMAS_DIFFUSERS;
    if (o->schedule) TRY(sigmas_parse(o->schedule, &d.sigmas));
    TRY(denoise_plan(&d, &solver));
    *out = d;
    return OK;
}

int64_t render_rows(const DenoiseOptions *denoise, int64_t prompts)
{
    return generate_rows(prompts, denoise->guidance, NULL);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static Status allocate(const Engine *engine, const RenderNeeds *n, Arena *arena, RenderSpace *r)
{
    const RenderSizes *s = n->sizes;
    void *scratch;
    size_t mark;

    TRY(tensor_alloc(arena, F32, SHAPE(s->batch, s->tokens, s->patch), "infer.x", &r->x));
    if (n->kept > 0)
        TRY(tensor_alloc(arena, F32, SHAPE(n->kept, s->tokens, s->patch), "infer.kept", &r->kept));
    TRY(told_alloc(arena, &engine->model.config.text, n->embedded, n->references, s->batch,
                   render_rows(n->denoise, s->batch), &r->told));
    /* room that generate_latents takes and gives back */
    mark = arena_mark(arena);
    TRY(arena_alloc(arena, generate_scratch(s->batch, s->tokens, s->patch, n->denoise),
                    "infer.scratch", &scratch));
    arena_release(arena, mark);
    return OK;
}

Status render_space_create(Engine *engine, const RenderNeeds *n, RenderSpace *out)
{
    const OptionSize size = n->options->size;
    const int64_t rows = generate_rows(n->sizes->batch, n->denoise->guidance, engine->halves);
    Arena counting = arena_counting("sampling");

    *out = (RenderSpace){ 0 };
    TRY(velocity_create(&engine->dit, engine->mesh.pipeline, &n->sizes->grid, 1, rows,
                        &out->velocity));
    TRY(allocate(engine, n, &counting, out));
    TRY(device_arena(&engine->device, "sampling", counting.peak, &out->arena));
    TRY(allocate(engine, n, &out->arena, out));
    if (!engine_decodes(engine)) return OK;
    return codec_stream_create(&engine->device, &engine->codec, true, engine->mesh.replica,
                               size.height, size.width, &out->codec);
}

void render_space_destroy(RenderSpace *space)
{
    codec_stream_destroy(space->codec);
    arena_destroy(&space->arena);
    velocity_destroy(&space->velocity);
    *space = (RenderSpace){ 0 };
}
