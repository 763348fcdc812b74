#include "infer/render.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/stop.h"
#include "core/solver/generate.h"
#include "data/latent_video.h"
#include "data/sheet.h"
#include "infer/latents_file.h"
#include "infer/record.h"
#include "infer/told.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Render {
    Engine *engine; /* views */
    const Request *request;
    const Texts *texts; /* NULL: the model reads captions itself */
    const References *references;
    GenerateOptions options;
    DitShape grid;          /* in patches */
    LatentGrid latent_grid; /* in latent pixels */
    int64_t tokens, patch;
    int64_t batch; /* prompts of one replica in one round */
    int64_t rounds, round;
    Velocity velocity;  /* owned, as is all below */
    CodecStream *codec; /* NULL on ranks that do not decode */
    Arena arena;
    Tensor x;    /* (batch, tokens, patch) */
    Tensor kept; /* (prompts, tokens, patch), zero where other replicas work; or none */
    Told told;
    Sheet sheet; /* rows of other replicas black; pixels none without --sheet */
    Progress progress;
} Render;

static void on_step(void *watcher, int done)
{
    Render *r = watcher;
    char note[64];
    const int64_t step = r->round * r->options.denoise.steps + done;

    comm_set_step(r->engine->comm, step);
    snprintf(note, sizeof(note), "round %lld of %lld", (long long)r->round + 1,
             (long long)r->rounds);
    progress_update(&r->progress, step, r->rounds > 1 ? note : NULL);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Of the model, for so many prompts. */
static int64_t rows_of(const Render *r, int64_t prompts)
{
    return generate_rows(prompts, r->options.denoise.guidance, NULL);
}

static Status allocate(Render *r, Arena *arena)
{
    const int64_t count = r->request->count;
    void *scratch;
    size_t mark;

    TRY(tensor_alloc(arena, F32, SHAPE(r->batch, r->tokens, r->patch), "infer.x", &r->x));
    if (r->request->options->latents) {
        TRY(tensor_alloc(arena, F32, SHAPE(count, r->tokens, r->patch), "infer.kept", &r->kept));
    }
    TRY(told_alloc(arena, &r->engine->model.config.text, r->texts, r->references, r->batch,
                   rows_of(r, r->batch), &r->told));
    /* room that generate_latents takes and gives back */
    mark = arena_mark(arena);
    TRY(arena_alloc(arena, generate_scratch(r->batch, r->tokens, r->patch, &r->options.denoise),
                    "infer.scratch", &scratch));
    arena_release(arena, mark);
    return OK;
}

static void plan(Render *r)
{
    const InferOptions *o = r->request->options;
    const int64_t replicas = engine_seats(r->engine), count = r->request->count;
    const int64_t *p = r->engine->model.config.dit.patch_size;
    const Shape z = codec_latent_shape(&r->engine->codec, o->frames, o->size.height, o->size.width);
    const LatentGrid g = { z.dims[1], z.dims[2], z.dims[3] };

    r->latent_grid = g;
    r->grid = dit_shape(1, g.t / p[0], g.h / p[1], g.w / p[2]);
    r->grid.clean = r->references->clean;
    r->tokens = dit_tokens(r->grid);
    r->patch = dit_patch_out(&r->engine->model.config.dit);
    /* no replica takes two while another has none */
    r->batch = (count + replicas - 1) / replicas;
    if (r->batch > o->batch) r->batch = o->batch;
    r->rounds = (count + replicas * r->batch - 1) / (replicas * r->batch);
    r->options = (GenerateOptions){
        .denoise = { .steps = (int)o->steps,
                     .guidance = o->guidance,
                     .boundary = r->engine->model.boundary,
                     .guidance_low = o->guidance_low,
                     .shift = o->shift > 0 ? o->shift : r->engine->model.shift,
                     .strength = o->strength,
                     .on_step = on_step,
                     .watcher = r },
        .seed = (uint64_t)o->seed,
        .negative = o->negative,
        .halves = r->engine->halves,
        .experts = &r->engine->experts,
    };
}

/* What the command line says of solver and schedule, and what the model's folder does. */
static Status choose_solver(const InferOptions *o, const ModelDir *model, DenoiseOptions *denoise)
{
    Solver solver;

    denoise->solver = model->solver;
    if (o->solver) TRY(solver_parse(o->solver, &denoise->solver));
    denoise->sigmas = denoise->solver == model->solver ? model->sigmas : SIGMAS_DIFFUSERS;
    if (o->schedule) TRY(sigmas_parse(o->schedule, &denoise->sigmas));
    return denoise_plan(denoise, &solver);
}

/* Not collective. */
static Status prepare(Render *r)
{
    const InferOptions *o = r->request->options;
    Arena counting = arena_counting("sampling");

    TRY(velocity_create(&r->engine->dit, r->engine->mesh.pipeline, &r->grid, 1,
                        generate_rows(r->batch, o->guidance, r->engine->halves), &r->velocity));
    TRY(allocate(r, &counting));
    TRY(arena_create(&r->arena, "sampling", counting.peak));
    TRY(allocate(r, &r->arena));
    told_fill_references(&r->told, r->references);
    if (engine_decodes(r->engine))
        TRY(codec_stream_create(&r->engine->device, &r->engine->codec, true,
                                r->engine->mesh.replica, o->size.height, o->size.width, &r->codec));
    if (!o->sheet) return OK;
    return sheet_create(&r->sheet, (int)r->request->count, (int)o->size.width, (int)o->size.height);
}

static void finish(Render *r)
{
    sheet_destroy(&r->sheet);
    codec_stream_destroy(r->codec);
    arena_destroy(&r->arena);
    velocity_destroy(&r->velocity);
}

/* ---- one round ------------------------------------------------------------------------------- */

/* Decodes one latent into its file and its row of the sheet, on the ranks that decode. */
static Status write_video(Render *r, int64_t index, Tensor tokens)
{
    const InferOptions *o = r->request->options;
    Sheet *sheet = r->sheet.pixels.data ? &r->sheet : NULL;
    char path[FILE_PATH_BYTES];
    char *record = NULL;
    Status s;

    TRY(request_path(r->request, index, path));
    TRY(record_write(r->engine, r->request, index, &r->options.denoise, &record));
    const VideoOutOptions options = { .format = r->request->format,
                                      .width = (int)o->size.width,
                                      .height = (int)o->size.height,
                                      .fps = o->fps,
                                      .title = r->request->prompts[index],
                                      .comment = record };
    s = latent_video_write(path, &options, r->codec, r->latent_grid, tokens, sheet, (int)index);
    free(record);
    if (s == OK && sheet && engine_leads(r->engine))
        sheet_draw_caption(sheet, (int)index, r->request->prompts[index]);
    return s;
}

/* This replica's prompts of the round: [*first, *first + *count). */
static void deal(const Render *r, int64_t *first, int64_t *count)
{
    const int64_t total = r->request->count;

    *first = (r->round * engine_seats(r->engine) + engine_seat(r->engine)) * r->batch;
    *count = *first >= total ? 0 : total - *first < r->batch ? total - *first : r->batch;
}

static Status render_round(Render *r)
{
    GenerateOptions options = r->options;
    VelocityCondition condition;
    int64_t first, count;
    Tensor x;

    deal(r, &first, &count);
    if (count == 0) return OK;
    x = tensor_slice(r->x, 0, count);
    told_take(&r->told, r->texts, first, count, rows_of(r, count), &options, &condition);
    TRY(generate_latents(&r->velocity, r->grid, &options, r->request->prompts + first,
                         r->request->numbers + first, &r->arena, x));
    if (!engine_decodes(r->engine)) return OK;
    if (r->kept.data && engine_leads(r->engine))
        memcpy(tensor_at(r->kept, first).data, x.data, tensor_bytes(x));
    for (int64_t i = 0; i < count; i++) TRY(write_video(r, first + i, tensor_at(x, i)));
    return OK;
}

/* ---- what all replicas made together --------------------------------------------------------- */

static Status write_joined(Render *r)
{
    const InferOptions *o = r->request->options;
    const bool writes = comm_rank(r->engine->comm) == 0;

    if (o->sheet) {
        TRY(engine_join(r->engine, r->sheet.pixels));
        TRY(comm_agree(r->engine->comm, writes ? sheet_write(&r->sheet, o->sheet) : OK));
    }
    if (!o->latents) return OK;
    TRY(engine_join(r->engine, r->kept));
    return comm_agree(
        r->engine->comm,
        writes ? latents_save(o->latents, r->engine->codec.channels, r->latent_grid, r->kept) : OK);
}

static Status print_names(const Render *r)
{
    const InferOptions *o = r->request->options;
    char path[FILE_PATH_BYTES];

    if (comm_rank(r->engine->comm) != 0) return OK;
    for (int64_t i = 0; i < r->request->count; i++) {
        TRY(request_path(r->request, i, path));
        printf("%s\n", path);
    }
    if (o->sheet) printf("%s\n", o->sheet);
    if (o->latents) printf("%s\n", o->latents);
    CHECK(fflush(stdout) == 0, ERR_IO, "standard output: cannot be written");
    return OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Every sequence rank holds one token at least. */
static Status check_tokens(const Render *r)
{
    const InferOptions *o = r->request->options;
    TRY(codec_check_size(&r->engine->codec, "--size", o->frames, o->size.height, o->size.width));
    const int ranks = r->engine->mesh.sequence->size;
    CHECK(r->tokens >= ranks, ERR_USAGE,
          "a video of %lld tokens cannot be shared out to tensor x context = %d ranks: use fewer, "
          "or a larger --size",
          (long long)r->tokens, ranks);
    return OK;
}

static void warn_of_idle_replicas(const Render *r)
{
    const int64_t replicas = engine_seats(r->engine), count = r->request->count;

    if (count >= replicas) return;
    log_warn("%lld of %lld replicas of the model have no prompt: --tensor or --pipeline would put "
             "them to work",
             (long long)(replicas - count), (long long)replicas);
}

/* The model reads so many bytes of a prompt and its end mark. */
static void warn_of_cut_prompts(const Render *r)
{
    const size_t most = (size_t)r->engine->model.config.text.max_length - 1;

    for (int64_t i = 0; i < r->request->count; i++) {
        const size_t bytes = strlen(r->request->prompts[i]);
        if (bytes > most)
            log_warn("prompt %lld has %zu bytes; this model reads the first %zu",
                     (long long)r->request->numbers[i] + 1, bytes, most);
    }
}

static Status render_rounds(Render *r)
{
    Comm *comm = r->engine->comm;
    Status s = OK;

    progress_begin(&r->progress, "infer", "steps", r->rounds * r->options.denoise.steps);
    for (r->round = 0; r->round < r->rounds && s == OK; r->round++) {
        s = comm_agree(comm, stop_check("rendering"));
        if (s == OK) s = render_round(r);
        /* a rank lost inside the model leaves the others waiting: nothing can be agreed on */
        if (s == ERR_COMM) comm_abort(comm, s);
        s = comm_agree(comm, s);
    }
    progress_end(&r->progress);
    CHECK(
        s != ERR_STOPPED, ERR_STOPPED,
        "stopped by a signal in round %lld of %lld; videos that are there are whole: run the same "
        "command%s to go on",
        (long long)r->round, (long long)r->rounds,
        r->request->options->skip_existing ? "" : " with --skip-existing");
    return s;
}

Status render_check(Engine *engine, const Request *request)
{
    const References none = { 0 };
    Render r = { .engine = engine, .request = request, .references = &none };

    plan(&r);
    TRY(choose_solver(request->options, &engine->model, &r.options.denoise));
    return check_tokens(&r);
}

Status render_request(Engine *engine, const Request *request, const Texts *texts,
                      const References *references)
{
    const double start = clock_seconds();
    Render r = { .engine = engine, .request = request, .texts = texts, .references = references };
    Status s = OK;

    plan(&r);
    TRY_TO(done, s, choose_solver(request->options, &engine->model, &r.options.denoise));
    warn_of_idle_replicas(&r);
    if (!texts) warn_of_cut_prompts(&r);
    TRY_TO(done, s, comm_agree(engine->comm, prepare(&r)));
    TRY_TO(done, s, render_rounds(&r));
    TRY_TO(done, s, write_joined(&r));
    TRY_TO(done, s, comm_agree(engine->comm, print_names(&r)));
    log_info("%lld %s of %lldx%lld, %lld frames, %d steps in %.1f s", (long long)request->count,
             request->count == 1 ? "video" : "videos", (long long)request->options->size.width,
             (long long)request->options->size.height, (long long)request->options->frames,
             r.options.denoise.steps, clock_seconds() - start);
done:
    finish(&r);
    return s;
}
