#include "tools/plan.h"

#include "core/base/file.h"
#include "core/parallel/schedule_draw.h"
#include "tools/plan_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// clang-format off
#define AT(field) .offset = offsetof(PlanOptions, field)
static const Option table[] = {
    { .name = "WHAT", .type = OPTION_STRING, .positional = true, .required = true, AT(config),
      .help = "CONFIG.yaml: what would be trained; configs/ holds examples. DIR: a model to sample" },
    { .name = "key=value", .type = OPTION_STRINGS, .positional = true, AT(overrides),
      .help = "training: replaces a key of the file, as in parallel.tensor=2" },
    { .name = "ranks", .type = OPTION_INT, .min = 1, .max = 4096, AT(ranks),
      .help = "training: for so many ranks, and rank the legal meshes; else the configured one" },
    { .name = "gpus", .type = OPTION_INT, .min = 1, .max = 4096, AT(gpus),
      .help = "the same: a rank a device" },
    { .name = "memory", .type = OPTION_DOUBLE, .argument = "GIB", .min = 0.001, .max = 1e6,
      AT(memory_gib), .help = "of a rank; names the row that does not fit, and what would" },
    { .name = "schedule", .type = OPTION_FLAG, AT(schedule),
      .help = "training: draw the pipeline's schedule, with its bubble" },
    { .name = "svg", .type = OPTION_STRING, .argument = "FILE.svg", AT(svg),
      .help = "training: the same drawing into a file" },
    { .name = "size", .type = OPTION_SIZES, .min = 16, .max = 4096, AT(sizes),
      .help = "of the clips or the video; else the dataset's (64x64 without), the model's own" },
    { .name = "frames", .type = OPTION_INTS, .min = 1, .max = 1025, AT(frames),
      .help = "likewise, 4k + 1; else the dataset's (17 without), the model's own" },
    { .name = "channels", .type = OPTION_INT, .min = 1, .max = 768, AT(channels),
      .help = "training: latent channels; else the dataset's or model.from's, or 48" },
    { .name = "tensor", .type = OPTION_INT, .min = 1, .max = 1024, AT(tensor),
      .help = "sampling, as infer takes it: ranks that share each layer; 1" },
    { .name = "pipeline", .type = OPTION_INT, .min = 1, .max = 1024, AT(pipeline),
      .help = "sampling: ranks that share the stack of layers; 1" },
    { .name = "context", .type = OPTION_INT, .min = 1, .max = 1024, AT(context),
      .help = "sampling: ranks that share the tokens of a video; 1" },
    { .name = "guidance-ranks", .type = OPTION_INT, .min = 1, .max = 2, AT(guidance_ranks),
      .help = "sampling: 2: the halves of guidance on two replicas; 1" },
    { .name = "batch", .type = OPTION_INT, .min = 1, .max = 32, AT(batch),
      .help = "sampling: prompts at a time on one replica; 1" },
    { .name = "dtype", .type = OPTION_STRING, .choices = "f32|bf16", AT(dtype),
      .help = "sampling: of the weights in memory; as the files have it, bf16 without files" },
    { .name = "threads", .type = OPTION_INT, .min = 1, .max = 1024, AT(threads),
      .help = "sampling: of a rank; this machine's cores, shared out" },
    { .name = "json", .type = OPTION_FLAG, AT(json), .help = "one JSON object, every rank's rows" },
    { .name = NULL },
};
#undef AT
// clang-format on

static const Command command = {
    "plan", "CONFIG.yaml|DIR [key=value ...] [options]",
    "Says what training or sampling would take, without starting it. Of a training run: memory of\n"
    "a rank by row, to the byte; what a rank sends in a step by axis; which meshes are legal and\n"
    "how they compare. Of sampling with a model's folder, which needs no weights: memory of a "
    "rank\n"
    "by row and phase; what fits.",
    table
};

enum { SHOWN_MESHES = 20 };

/* Everything that is found, then printed. */
typedef struct Report {
    const PlanOptions *options;
    PlanSizes sizes; /* owned */
    StatePlan plan;
    MeshShape shape;
    int64_t limit_bytes;  /* 0: none */
    RankMemory *ranks;    /* owned; (ranks of the mesh) */
    TrainTraffic traffic; /* of the rank that sends the most */
    MeshPlan *meshes;     /* owned; the ranking */
    int mesh_count;
    Schedule schedule; /* owned */
    double bubble;
} Report;

/* ---- finding -------------------------------------------------------------------------------- */

/* As the trainer shares them out, if all ranks were on this machine. */
static int threads_of_rank(const TrainConfig *config, int ranks)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int share = (int)(cores > 0 ? cores : 1) / ranks;
    if (config->parallel.threads > 0) return (int)config->parallel.threads;
    return share > 0 ? share : 1;
}

static Status choose_mesh(const PlanOptions *o, const StatePlan *plan, MeshShape *out)
{
    const ParallelKeys *p = &plan->config.parallel;
    const MeshShape wanted = { (int)p->data,    (int)p->tensor,  (int)p->pipeline,
                               (int)p->context, (int)p->ulysses, (int)p->chunks_per_rank };
    const MeshLimits limits =
        train_mesh_limits(&plan->config, plan->train_sizes, plan->heldout_sizes);
    const int64_t asked = o->ranks > 0 ? o->ranks : o->gpus;
    const int64_t one = p->tensor * p->pipeline * p->context * (p->data > 0 ? p->data : 1);
    CHECK(asked > 0 || one <= 4096, ERR_CONFIG, "the mesh has %lld ranks; a plan takes 4096",
          (long long)one);
    return mesh_resolve(wanted, (int)(asked > 0 ? asked : one), &limits, out);
}

static Status check_training(const PlanOptions *o)
{
    const bool sampling = o->tensor || o->pipeline || o->context || o->guidance_ranks || o->batch ||
                          o->threads || o->dtype;
    CHECK(!sampling, ERR_USAGE,
          "%s: is no model's folder: --tensor, --pipeline, --context, --guidance-ranks, --batch, "
          "--dtype and --threads are for sampling; training has keys, as parallel.tensor=2",
          o->config);
    return OK;
}

/* As the trainer does: a model from nothing takes the clips' channels, one that is there has them.
 */
static Status take_channels(TrainConfig *config, int64_t channels)
{
    DitConfig *dit = &config->model.dit;
    if (!config->from[0]) dit->in_channels = dit->out_channels = channels;
    CHECK(dit->out_channels == channels, ERR_CONFIG,
          "data.train %s has latents of %lld channels, model.from %s makes %lld",
          config->data.train, (long long)channels, config->from, (long long)dit->out_channels);
    return OK;
}

static Status find(Report *r)
{
    const PlanOptions *o = r->options;
    TrainConfig *config = &r->plan.config;
    CHECK(o->ranks == 0 || o->gpus == 0, ERR_USAGE, "--ranks and --gpus say the same: give one");
    CHECK(!o->json || !o->schedule, ERR_USAGE,
          "--schedule draws text: without --json, or use --svg");
    TRY(train_config_load(o->config, o->overrides.count, o->overrides.items, config));
    TRY(plan_sizes_find(o, config, &r->sizes));
    TRY(take_channels(config, r->sizes.channels));
    TRY(model_config_check(&config->model));
    r->plan.train_sizes = r->sizes.train_sizes;
    r->plan.heldout_sizes = r->sizes.heldout_sizes;
    TRY(choose_mesh(o, &r->plan, &r->shape));
    const int ranks = (int)mesh_ranks(r->shape);
    r->plan.threads = threads_of_rank(config, ranks);
    r->limit_bytes = (int64_t)(o->memory_gib * 1073741824.0);
    r->ranks = calloc((size_t)ranks, sizeof *r->ranks);
    CHECK(r->ranks, ERR_MEMORY, "no memory for a table of %d ranks", ranks);
    TRY(plan_ranks(&r->plan, r->shape, r->ranks, &r->traffic));
    TRY(plan_schedule(&r->plan, r->shape, &r->schedule));
    TRY(plan_bubble(&r->schedule, &r->bubble));
    if (o->ranks == 0 && o->gpus == 0) return OK;
    return plan_rank_meshes(&r->plan, ranks, r->limit_bytes, &r->meshes, &r->mesh_count);
}

static void destroy(Report *r)
{
    free(r->ranks);
    free(r->meshes);
    schedule_destroy(&r->schedule);
    plan_sizes_destroy(&r->sizes);
}

/* ---- text ----------------------------------------------------------------------------------- */

static void say(const char *line)
{
    printf("%s\n", line);
}

static void print_sizes(const Report *r)
{
    const BucketList sizes = r->sizes.train_sizes;
    if (r->sizes.train)
        printf("clips of %s:", r->plan.config.data.train);
    else
        printf("clips as the options say (%s is not used):", r->plan.config.data.train);
    for (int64_t i = 0; i < sizes.count; i++)
        printf("%s %lldx%lldx%lld latents, %lld tokens", i ? "," : "", (long long)sizes.items[i].t,
               (long long)sizes.items[i].h, (long long)sizes.items[i].w,
               (long long)sizes.items[i].tokens);
    printf("; %lld channels\n", (long long)r->sizes.channels);
}

static void print_head(const Report *r)
{
    char mesh[96];
    const TrainConfig *c = &r->plan.config;
    printf("model %s%s on mesh %s, %d threads a rank\n", c->from[0] ? c->from : c->preset,
           c->lora.rank > 0 ? ", low-rank changes," : "", mesh_describe(r->shape, mesh),
           r->plan.threads);
    print_sizes(r);
}

static double gib(int64_t bytes)
{
    return (double)bytes / 1073741824.0;
}

static void print_meshes(const Report *r)
{
    char name[64];
    const int shown = r->mesh_count < SHOWN_MESHES ? r->mesh_count : SHOWN_MESHES;
    printf("\n%d legal meshes of %lld ranks, data x tensor x pipeline x context; memory of the "
           "largest rank, traffic of a step\n%-24s %10s  %12s  %6s\n",
           r->mesh_count, (long long)mesh_ranks(r->shape), "mesh", "memory GiB", "traffic MiB",
           "bubble");
    for (int i = 0; i < shown; i++) {
        const MeshPlan *p = &r->meshes[i];
        printf("%-24s %10.3f  %12.1f  %5.1f%%", plan_mesh_name(p->shape, name),
               gib(memory_total(&p->memory)),
               (double)train_traffic_total(&p->traffic).bytes / 1048576.0, 100.0 * p->bubble);
        if (!p->fits)
            printf("  does not fit: %s takes %.3f GiB",
                   memory_row_name(memory_largest_row(&p->memory)),
                   gib(p->memory.bytes[memory_largest_row(&p->memory)]));
        printf("\n");
    }
    if (shown < r->mesh_count) printf("... and %d more\n", r->mesh_count - shown);
}

static const RankMemory *largest_rank(const Report *r)
{
    return &r->ranks[memory_largest_rank(r->ranks, (int)mesh_ranks(r->shape))];
}

static Status print_fit(const Report *r)
{
    const RankMemory *m = largest_rank(r);
    const MemoryRow row = memory_largest_row(m);
    const int64_t total = memory_total(m);
    printf("\n");
    if (total <= r->limit_bytes) {
        printf("fits: %.3f of %.3f GiB\n", gib(total), gib(r->limit_bytes));
        return OK;
    }
    printf("does not fit: %.3f of %.3f GiB; the largest row is %s with %.3f GiB\n", gib(total),
           gib(r->limit_bytes), memory_row_name(row), gib(m->bytes[row]));
    return plan_advice(&r->plan, r->shape, r->limit_bytes, r->meshes, r->mesh_count);
}

static Status print_text(const Report *r)
{
    print_head(r);
    printf("\n");
    memory_print(r->ranks, (int)mesh_ranks(r->shape), r->shape, say);
    printf("\n");
    train_traffic_print(&r->traffic, say);
    if (r->meshes) print_meshes(r);
    if (r->limit_bytes > 0) TRY(print_fit(r));
    if (!r->options->schedule) return OK;
    printf("\n");
    return schedule_draw_text(&r->schedule, stdout);
}

/* ---- JSON ----------------------------------------------------------------------------------- */

void plan_write_mesh(JsonWriter *w, const char *key, MeshShape s)
{
    json_begin_object(w, key);
    json_write_int(w, "data", s.data);
    json_write_int(w, "tensor", s.tensor);
    json_write_int(w, "pipeline", s.pipeline);
    json_write_int(w, "context", s.context);
    json_write_int(w, "ulysses", mesh_ulysses(s));
    json_write_int(w, "chunks_per_rank", mesh_chunks(s));
    json_end_object(w);
}

static void write_meshes(JsonWriter *w, const Report *r)
{
    json_begin_array(w, "meshes");
    for (int i = 0; i < r->mesh_count; i++) {
        const MeshPlan *p = &r->meshes[i];
        json_begin_object(w, NULL);
        plan_write_mesh(w, "mesh", p->shape);
        json_write_int(w, "memory", memory_total(&p->memory));
        json_write_string(w, "largest_row", memory_row_name(memory_largest_row(&p->memory)));
        json_write_int(w, "traffic", train_traffic_total(&p->traffic).bytes);
        json_write_real(w, "bubble", p->bubble);
        json_write_bool(w, "fits", p->fits);
        json_end_object(w);
    }
    json_end_array(w);
}

static Status print_json(const Report *r)
{
    JsonWriter w = json_writer(2);
    char *text = NULL;
    size_t length = 0;
    json_begin_object(&w, NULL);
    json_write_string(&w, "clips", r->sizes.train ? "dataset" : "options");
    plan_write_mesh(&w, "mesh", r->shape);
    json_write_int(&w, "threads", r->plan.threads);
    memory_write_json(&w, r->ranks, (int)mesh_ranks(r->shape));
    train_traffic_write_json(&w, &r->traffic);
    json_write_real(&w, "bubble", r->bubble);
    if (r->limit_bytes > 0)
        json_write_bool(&w, "fits", memory_total(largest_rank(r)) <= r->limit_bytes);
    if (r->meshes) write_meshes(&w, r);
    json_end_object(&w);
    TRY(json_writer_finish(&w, &text, &length));
    printf("%s\n", text);
    free(text);
    return OK;
}

Status plan_main(int argc, char **argv)
{
    PlanOptions options = { 0 };
    bool helped = false;
    TRY(options_parse(&command, argc, argv, &options, &helped));
    if (helped) return OK;
    FileKind kind;
    TRY(file_look(options.config, &kind));
    if (kind == FILE_FOLDER) return plan_sampling(&options);
    TRY(check_training(&options));
    Report report = { .options = &options };
    Status status = OK;
    TRY_TO(done, status, find(&report));
    TRY_TO(done, status, options.json ? print_json(&report) : print_text(&report));
    if (options.svg) TRY_TO(done, status, plan_schedule_svg(&report.schedule, options.svg));
done:
    destroy(&report);
    return status;
}
