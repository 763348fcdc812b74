#include "core/base/json_writer.h"
#include "core/base/log.h"
#include "core/formats/model_base.h"
#include "infer/sampling_plan.h"
#include "infer/settings.h"
#include "tools/plan_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct Report {
    const PlanOptions *options;
    char path[FILE_PATH_BYTES]; /* of the model directory */
    ModelDir model;
    const char *kind;
    SamplingPlan plan;
    SamplingLook look;
    int ranks;
    SamplingMemory *memory; /* owned; (ranks) */
    int64_t limit_bytes;    /* 0: none */
} Report;

/* ---- finding -------------------------------------------------------------------------------- */

static Status check_options(const PlanOptions *o)
{
    const bool training =
        o->overrides.count > 0 || o->ranks || o->gpus || o->channels || o->schedule || o->svg;
    CHECK(!training, ERR_USAGE,
          "%s: is a model's folder, whose sampling is planned: key=value, --ranks, --gpus, "
          "--channels, --schedule and --svg are for training; say --tensor, --pipeline, --context",
          o->config);
    CHECK(o->sizes.count <= 1 && o->frames.count <= 1, ERR_USAGE,
          "a plan of sampling takes one --size and one --frames");
    return OK;
}

static int64_t or_one(int64_t given)
{
    return given > 0 ? given : 1;
}

/* What infer would be asked for. */
static InferOptions request_of(const PlanOptions *o)
{
    InferOptions r = settings_unset();
    r.batch = or_one(o->batch);
    if (o->sizes.count > 0) r.size = o->sizes.items[0];
    if (o->frames.count > 0) r.frames = o->frames.items[0];
    return r;
}

/* As the files have it; where there are none, the smaller. */
static Status has_weights(const Report *r, bool *out)
{
    char holder[FILE_PATH_BYTES];
    TRY(model_base_holder(&r->model, r->path, component_folder(COMPONENT_TRANSFORMER), holder));
    *out = model_dir_has(holder, component_folder(COMPONENT_TRANSFORMER));
    return OK;
}

static Status fill_request(Report *r)
{
    Codec codec;
    TRY(codec_load(r->path, WAN_COUNTS, &codec));
    const int64_t side = codec_side(&codec);
    codec_destroy(&codec);
    return settings_fill(&r->plan.request, &r->model, side);
}

static int threads_of(const PlanOptions *o, int ranks)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int share = (int)(cores > 0 ? cores : 1) / ranks;
    if (o->threads > 0) return (int)o->threads;
    return share > 0 ? share : 1;
}

static Status find_mesh(Report *r)
{
    const PlanOptions *o = r->options;
    const int halves = (int)or_one(o->guidance_ranks);
    const MeshLimits limits = engine_mesh_limits(&r->model, false);
    const MeshShape wanted = mesh_shape(halves, (int)or_one(o->tensor), (int)or_one(o->pipeline),
                                        (int)or_one(o->context));
    const int64_t ranks = mesh_ranks(wanted);
    CHECK(ranks <= 4096, ERR_CONFIG, "the mesh has %lld ranks; a plan takes 4096",
          (long long)ranks);
    TRY(mesh_resolve(wanted, (int)ranks, &limits, &r->plan.engine.shape));
    r->plan.engine.halves = halves;
    r->plan.engine.threads = threads_of(r->options, (int)ranks);
    r->ranks = (int)ranks;
    return sampling_plan_look(&r->plan, &r->look);
}

static Status plan_all_ranks(Report *r)
{
    r->memory = calloc((size_t)r->ranks, sizeof *r->memory);
    CHECK(r->memory, ERR_MEMORY, "no memory for a table of %d ranks", r->ranks);
    return plan_sampling_ranks(&r->plan, r->memory);
}

static Status find(Report *r)
{
    const PlanOptions *o = r->options;
    bool weights = false;
    TRY(check_options(o));
    log_set_quiet(true); /* what infer says of its settings is in the plan */
    TRY(model_dir_resolve(o->config, r->path));
    TRY(model_dir_read(r->path, &r->model));
    TRY(has_weights(r, &weights));
    r->kind = model_defaults(&r->model)->kind;
    r->limit_bytes = (int64_t)(o->memory_gib * 1073741824.0);
    r->plan.request = request_of(o);
    r->plan.engine = (EngineOptions){ .model = r->path,
                                      .dtype = o->dtype  ? o->dtype
                                               : weights ? NULL
                                                         : "bf16" };
    TRY(fill_request(r));
    TRY(find_mesh(r));
    return plan_all_ranks(r);
}

/* ---- text ----------------------------------------------------------------------------------- */

static double gib(int64_t bytes)
{
    return (double)bytes / 1073741824.0;
}

static const SamplingMemory *largest(const Report *r)
{
    return &r->memory[plan_sampling_largest(r->memory, r->ranks)];
}

static void print_head(const Report *r)
{
    const RenderSizes *s = &r->look.sizes;
    const InferOptions *o = &r->plan.request;
    char mesh[96];
    printf("model %s (%s): %.2f M parameters%s, %s, on mesh %s, %d threads a rank\n", r->path,
           r->kind, (double)r->look.parameters * 1e-6, r->model.boundary > 0 ? " twice" : "",
           dtype_name(r->look.dtype), mesh_describe(r->plan.engine.shape, mesh),
           r->plan.engine.threads);
    printf("video of %lldx%lld, %lld frames: %lldx%lldx%lld latents, %lld tokens; %lld prompt%s at "
           "a time, guidance %g\n",
           (long long)o->size.width, (long long)o->size.height, (long long)o->frames,
           (long long)s->latent_grid.t, (long long)s->latent_grid.h, (long long)s->latent_grid.w,
           (long long)s->tokens, (long long)o->batch, o->batch == 1 ? "" : "s", o->guidance);
}

static void print_which(const Report *r)
{
    const int rank = plan_sampling_largest(r->memory, r->ranks);
    const Mesh m = mesh_of_rank(r->plan.engine.shape, rank);
    bool alike = true;
    for (int i = 0; i < r->ranks; i++)
        alike = alike && memcmp(&r->memory[i], &r->memory[0], sizeof r->memory[0]) == 0;
    if (alike)
        printf("\n%s\n",
               r->ranks > 1 ? "memory of every rank, all alike" : "memory of the one rank");
    else
        printf("\nmemory of the largest, rank %d (data %d, tensor %d, pipeline %d, context %d)\n",
               rank, m.dp, m.tp, m.pp, m.cp);
}

static void print_row(const char *name, int64_t bytes, const char *help)
{
    printf("memory %-14s %11.1f MiB%s%s\n", name, (double)bytes / 1048576.0, help[0] ? "  " : "",
           help);
}

/* Phases that the model goes through: those with a row of their own. */
static bool is_gone_through(const SamplingMemory *m, SamplingPhase phase)
{
    static const SamplingRow own[SAMPLING_PHASES] = { SAMPLING_IMAGE_ENCODER, SAMPLING_ENCODING,
                                                      SAMPLING_TEXT_ENCODER, SAMPLING_WEIGHTS };
    return m->bytes[own[phase]] > 0;
}

static void print_phases(const SamplingMemory *m)
{
    for (int phase = 0; phase < SAMPLING_PHASES; phase++) {
        if (!is_gone_through(m, (SamplingPhase)phase)) continue;
        printf("%s%s\n", sampling_phase_name((SamplingPhase)phase),
               phase == PHASE_RENDER ? "" : ", over before the weights are loaded");
        for (int row = 0; row < SAMPLING_ROWS; row++)
            if (m->bytes[row] > 0 && sampling_row_is_in((SamplingRow)row, (SamplingPhase)phase))
                print_row(sampling_row_name((SamplingRow)row), m->bytes[row],
                          sampling_row_help((SamplingRow)row));
        print_row("total", sampling_phase_total(m, (SamplingPhase)phase), "");
    }
    printf("peak %.3f GiB, in %s\n", gib(sampling_peak(m)),
           sampling_phase_name(sampling_peak_phase(m)));
}

static Status print_advice(const Report *r)
{
    bool found;
    MeshShape s;
    int64_t bytes;
    TRY(plan_sampling_fit(&r->plan, &r->model, r->limit_bytes, &found, &s, &bytes));
    if (found)
        printf("would fit: --tensor %d --pipeline %d --context %d, %lld ranks, %.3f GiB\n",
               s.tensor, s.pipeline, s.context, (long long)mesh_ranks(s), gib(bytes));
    else
        printf("nothing fits into %.3f GiB a rank on up to 64 ranks: make a smaller video%s\n",
               gib(r->limit_bytes), r->look.dtype == F32 ? ", or take --dtype bf16" : "");
    return OK;
}

static Status print_fit(const Report *r)
{
    const SamplingMemory *m = largest(r);
    const int64_t peak = sampling_peak(m);
    const SamplingRow row = sampling_largest_row(m);
    if (peak <= r->limit_bytes) {
        printf("fits: %.3f of %.3f GiB\n", gib(peak), gib(r->limit_bytes));
        return OK;
    }
    printf("does not fit: %.3f of %.3f GiB; the largest row is %s with %.3f GiB\n", gib(peak),
           gib(r->limit_bytes), sampling_row_name(row), gib(m->bytes[row]));
    return print_advice(r);
}

static Status print_text(const Report *r)
{
    print_head(r);
    print_which(r);
    print_phases(largest(r));
    return r->limit_bytes > 0 ? print_fit(r) : OK;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static void write_rank(JsonWriter *w, const SamplingMemory *m, int rank)
{
    json_begin_object(w, NULL);
    json_write_int(w, "rank", rank);
    for (int i = 0; i < SAMPLING_ROWS; i++)
        json_write_int(w, sampling_row_name((SamplingRow)i), m->bytes[i]);
    json_begin_object(w, "phases");
    for (int i = 0; i < SAMPLING_PHASES; i++)
        if (is_gone_through(m, (SamplingPhase)i))
            json_write_int(w, sampling_phase_name((SamplingPhase)i),
                           sampling_phase_total(m, (SamplingPhase)i));
    json_end_object(w);
    json_write_int(w, "total", sampling_peak(m));
    json_end_object(w);
}

static Status print_json(const Report *r)
{
    const MeshShape s = r->plan.engine.shape;
    const InferOptions *o = &r->plan.request;
    JsonWriter w = json_writer(2);
    char *text = NULL;
    size_t length = 0;
    json_begin_object(&w, NULL);
    json_write_string(&w, "model", r->path);
    json_write_string(&w, "kind", r->kind);
    json_write_string(&w, "dtype", dtype_name(r->look.dtype));
    json_write_int(&w, "parameters", r->look.parameters);
    json_write_int(&w, "experts", r->model.boundary > 0 ? 2 : 1);
    plan_write_mesh(&w, "mesh", s);
    json_write_int(&w, "threads", r->plan.engine.threads);
    json_write_int(&w, "width", o->size.width);
    json_write_int(&w, "height", o->size.height);
    json_write_int(&w, "frames", o->frames);
    json_write_int(&w, "tokens", r->look.sizes.tokens);
    json_write_int(&w, "batch", o->batch);
    json_begin_array(&w, "memory");
    for (int i = 0; i < r->ranks; i++) write_rank(&w, &r->memory[i], i);
    json_end_array(&w);
    if (r->limit_bytes > 0)
        json_write_bool(&w, "fits", sampling_peak(largest(r)) <= r->limit_bytes);
    json_end_object(&w);
    TRY(json_writer_finish(&w, &text, &length));
    printf("%s\n", text);
    free(text);
    return OK;
}

Status plan_sampling(const PlanOptions *options)
{
    Report r = { .options = options };
    Status s = find(&r);
    if (s == OK) s = options->json ? print_json(&r) : print_text(&r);
    free(r.memory);
    return s;
}
