#include "infer/render.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/stop.h"
#include "core/solver/generate.h"
#include "data/sheet.h"
#include "infer/latents_file.h"
#include "infer/record.h"
#include "infer/render_space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Render {
    Engine *engine; /* views */
    const Request *request;
    const Texts *texts; /* NULL: the model reads captions itself */
    const References *references;
    GenerateOptions options;
    RenderSizes sizes;
    int64_t rounds, round;
    RenderSpace space; /* owned, as is the sheet */
    Sheet sheet;       /* rows of other replicas black; pixels none without --sheet */
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

/* ---- sizes and memory ------------------------------------------------------------------------ */

static Status plan(Render *r)
{
    const InferOptions *o = r->request->options;
    const int64_t replicas = engine_seats(r->engine), count = r->request->count;
    DenoiseOptions denoise;

    TRY(render_denoise(o, &r->engine->model, &denoise));
    TRY(render_sizes(r->engine, o, count, r->references->clean, &r->sizes));
    const int64_t each = replicas * r->sizes.batch;
    r->rounds = (count + each - 1) / each;
    denoise.on_step = on_step;
    denoise.watcher = r;
    r->options = (GenerateOptions){ .denoise = denoise,
                                    .seed = (uint64_t)o->seed,
                                    .negative = o->negative,
                                    .halves = r->engine->halves,
                                    .experts = &r->engine->experts };
    return OK;
}

/* Not collective. */
static Status prepare(Render *r)
{
    const InferOptions *o = r->request->options;
    const RenderNeeds needs = { .options = o,
                                .sizes = &r->sizes,
                                .denoise = &r->options.denoise,
                                .references = r->references,
                                .embedded = r->texts != NULL,
                                .kept = o->latents ? r->request->count : 0 };

    TRY(render_space_create(r->engine, &needs, &r->space));
    told_fill_references(&r->space.told, r->references);
    if (!o->sheet) return OK;
    return sheet_create(&r->sheet, (int)r->request->count, (int)o->size.width, (int)o->size.height);
}

static void finish(Render *r)
{
    sheet_destroy(&r->sheet);
    render_space_destroy(&r->space);
}

/* ---- one round ------------------------------------------------------------------------------- */

/* Decodes one latent into its file and its row of the sheet, on the ranks that decode. */
static Status write_video(Render *r, int64_t index, Tensor tokens)
{
    const InferOptions *o = r->request->options;
    Sheet *sheet = r->sheet.pixels.data ? &r->sheet : NULL;
    char path[FILE_PATH_BYTES];
    char *record = NULL;
    Status s = request_path(r->request, index, path);

    if (s == OK) s = record_write(r->engine, r->request, index, &r->options.denoise, &record);
    TRY(latent_video_agree(r->space.codec, s));
    const VideoOutOptions options = { .format = r->request->format,
                                      .width = (int)o->size.width,
                                      .height = (int)o->size.height,
                                      .fps = o->fps,
                                      .title = r->request->prompts[index],
                                      .comment = record };
    s = latent_video_write(path, &options, r->space.codec, r->sizes.latent_grid, tokens, sheet,
                           (int)index);
    free(record);
    if (s == OK && sheet && engine_leads(r->engine))
        sheet_draw_caption(sheet, (int)index, r->request->prompts[index]);
    return s;
}

/* This replica's prompts of the round: [*first, *first + *count). */
static void deal(const Render *r, int64_t *first, int64_t *count)
{
    const int64_t total = r->request->count;

    *first = (r->round * engine_seats(r->engine) + engine_seat(r->engine)) * r->sizes.batch;
    *count = *first >= total                   ? 0
             : total - *first < r->sizes.batch ? total - *first
                                               : r->sizes.batch;
}

static Status render_round(Render *r)
{
    GenerateOptions options = r->options;
    VelocityCondition condition;
    int64_t first, count;
    Tensor x;

    deal(r, &first, &count);
    if (count == 0) return OK;
    x = tensor_slice(r->space.x, 0, count);
    told_take(&r->space.told, r->texts, first, count, render_rows(&options.denoise, count),
              &options, &condition);
    TRY(generate_latents(&r->space.velocity, r->sizes.grid, &options, r->request->prompts + first,
                         r->request->numbers + first, &r->space.arena, x));
    if (!engine_decodes(r->engine)) return OK;
    if (r->space.kept.data && engine_leads(r->engine))
        memcpy(tensor_at(r->space.kept, first).data, x.data, tensor_bytes(x));
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
    TRY(engine_join(r->engine, r->space.kept));
    return comm_agree(r->engine->comm, writes ? latents_save(o->latents, r->engine->codec.channels,
                                                             r->sizes.latent_grid, r->space.kept)
                                              : OK);
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

    return plan(&r);
}

Status render_request(Engine *engine, const Request *request, const Texts *texts,
                      const References *references)
{
    const double start = clock_seconds();
    Render r = { .engine = engine, .request = request, .texts = texts, .references = references };
    Status s = OK;

    TRY_TO(done, s, plan(&r));
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
