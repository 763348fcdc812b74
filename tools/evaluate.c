#include "tools/evaluate.h"

#include "core/base/log.h"
#include "core/base/options.h"
#include "core/solver/guidance.h"
#include "infer/engine.h"
#include "tools/caption_match.h"
#include "train/clip_condition.h"
#include "train/heldout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct EvaluateOptions {
    const char *model, *data, *out, *weights, *device;
    int64_t steps, seed, bins, scenes, tensor, pipeline, context, guidance_ranks, threads;
    double guidance, shift, timeout_s;
    bool quiet;
} EvaluateOptions;

#define AT(field) .offset = offsetof(EvaluateOptions, field)

// clang-format off
static const Option evaluate_options[] = {
    { .name = "model", .type = OPTION_STRING, .argument = "DIR", .required = true, AT(model),
      .help = "a model directory, a checkpoint, or a run's folder" },
    { .name = "data", .type = OPTION_STRING, .argument = "DIR", .required = true, AT(data),
      .help = "the dataset to measure on" },
    { .name = "out", .type = OPTION_STRING, .argument = "DIR", AT(out),
      .help = "folder for the rendered videos and their sheet" },
    { .name = "bins", .type = OPTION_INT, .fallback = "10", .min = 1, .max = HELDOUT_BINS_MAX,
      AT(bins), .help = "timesteps at which the loss is measured" },
    { .name = "scenes", .type = OPTION_INT, .fallback = "32", .min = 0, .max = 10000, AT(scenes),
      .help = "at most so many captions are rendered" },
    { .name = "steps", .type = OPTION_INT, .fallback = "30", .min = 1, .max = 1000, AT(steps),
      .help = "steps from noise to video" },
    { .name = "guidance", .type = OPTION_DOUBLE, .fallback = "4", .min = -100, .max = 100,
      AT(guidance), .help = "strength of the caption" },
    { .name = "shift", .type = OPTION_DOUBLE, .fallback = "0", .min = 0, .max = 100, AT(shift),
      .help = "shift of the schedule; 0: the model's own" },
    { .name = "seed", .type = OPTION_INT, .fallback = "0", .min = 0, .max = 9007199254740992.0,
      AT(seed), .help = "seed of all noise" },
    { .name = "weights", .type = OPTION_STRING, .choices = "ema|raw", AT(weights),
      .help = "averaged or last weights; ema where the model has them" },
    { .name = "tensor", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 1024, AT(tensor),
      .help = "ranks that share each layer" },
    { .name = "pipeline", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 1024, AT(pipeline),
      .help = "ranks that share the stack of layers" },
    { .name = "context", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 1024, AT(context),
      .help = "ranks that share the tokens of each video" },
    { .name = "guidance-ranks", .type = OPTION_INT, .fallback = "1", .min = 1, .max = 2,
      AT(guidance_ranks), .help = "2: the halves of guidance go to two replicas" },
    { .name = "threads", .type = OPTION_INT, .fallback = "0", .min = 0, .max = 1024, AT(threads),
      .help = "threads a rank; 0: the cores, shared out" },
    { .name = "device", .type = OPTION_STRING, .fallback = "auto", .choices = "auto|cpu|cuda",
      AT(device), .help = "where to compute" },
    { .name = "timeout", .type = OPTION_DOUBLE, .fallback = "600", .min = 0, .max = 1e6,
      AT(timeout_s), .help = "seconds that a rank may wait for another; 0: for ever" },
    { .name = "quiet", .type = OPTION_FLAG, AT(quiet), .help = "no progress" },
    { .name = NULL },
};
// clang-format on

static const Command command = {
    .name = "evaluate",
    .usage = "--model DIR --data DIR [options]",
    .about = "Measures the loss by timestep, with noise that never changes, and renders each "
             "distinct caption\nto see whether the nearest clip of the dataset is one of that "
             "caption's. Runs alone or under mpirun.",
    .options = evaluate_options,
};

/* ---- what is printed ------------------------------------------------------------------------- */

static void print_losses(const double *losses, int bins, double mean)
{
    printf("%-13s  %8s\n", "timestep", "loss");
    for (int i = 0; i < bins; i++) {
        /* measured in the middle of each part */
        printf("%-13.0f  %8.4f\n", 1000 * (i + 0.5) / bins, losses[i]);
    }
    printf("%-13s  %8.4f\n\n", "mean", mean);
}

static int64_t print_matches(const Dataset *ds, const Scenes *scenes, const Match *matches,
                             int64_t count)
{
    int64_t good = 0;

    printf("%-5s  %9s  %9s  %-5s  %-24s  %s\n", "match", "nearest", "own", "clip", "source",
           "caption");
    for (int64_t i = 0; i < count; i++) {
        const int64_t clip = (int64_t)matches[i].nearest;
        const bool match = scenes->of_clip[clip] == i;

        good += match;
        printf("%-5s  %9.4f  %9.4f  %-5lld  %-24.24s  %.60s\n", match ? "yes" : "no",
               matches[i].distance, matches[i].own_distance, (long long)clip,
               dataset_clip(ds, clip).source, dataset_caption(ds, scenes->first[i], 0));
    }
    return good;
}

/* ---- the parts ------------------------------------------------------------------------------- */

static Status check_dataset(const Engine *engine, const Dataset *ds)
{
    const DatasetInfo *info = dataset_info(ds);
    const DitConfig *dit = &engine->model.config.dit;

    CHECK(dataset_clips(ds) > 0, ERR_FORMAT, "%s: has no clips", dataset_dir(ds));
    CHECK(strcmp(info->codec_digest, engine->codec.digest) == 0, ERR_USAGE,
          "%s: was made with codec %.12s, %s has %.12s: their latents do not compare",
          dataset_dir(ds), info->codec_digest, engine->path, engine->codec.digest);
    TRY(clip_condition_check(dit, engine->path, ds));
    CHECK(engine->model.text != TEXT_UMT5 || info->text_width == dit->text_dim, ERR_USAGE,
          "%s: has no embeddings of its captions that this model reads: ingest with --text-encoder",
          dataset_dir(ds));
    return OK;
}

/* Not collective. */
static Status plan_velocity(Engine *engine, const Dataset *ds, int64_t rows, Velocity *out)
{
    DitShape *shapes = NULL;
    int count = 0;
    Status s;

    TRY(heldout_shapes(dataset_bucket_list(ds), &engine->model.config.dit, &shapes, &count));
    s = velocity_create(&engine->dit, engine->mesh.pipeline, shapes, count, rows, out);
    free(shapes);
    return s;
}

static Status measure_losses(Engine *engine, const EvaluateOptions *o, Dataset *ds)
{
    const HeldoutOptions options = { .seed = (uint64_t)o->seed,
                                     .bins = (int)o->bins,
                                     .high = 1,
                                     .boundary = engine->model.boundary,
                                     .experts = &engine->experts };
    double losses[HELDOUT_BINS_MAX], mean = 0;
    Velocity velocity = { 0 };
    HeldoutSpace space = { 0 };
    /* one row at a time: rows that nobody reads would be computed, too */
    Status s = plan_velocity(engine, ds, 1, &velocity);

    if (s == OK)
        s = heldout_space_create(&engine->dit, dataset_bucket_list(ds), (int)o->bins, &space);
    s = comm_agree(engine->comm, s);
    if (s == OK) {
        log_info("loss of %lld clips at %lld timesteps", (long long)dataset_clips(ds),
                 (long long)o->bins);
        s = heldout_loss(engine->comm, &engine->mesh, &velocity, &space, ds, &options, losses,
                         &mean);
    }
    heldout_space_destroy(&space);
    velocity_destroy(&velocity);
    if (s == OK && comm_rank(engine->comm) == 0) print_losses(losses, (int)o->bins, mean);
    return s;
}

static Status measure_matches(Engine *engine, const EvaluateOptions *o, Dataset *ds,
                              const Scenes *scenes)
{
    const int64_t count = scenes->count < o->scenes ? scenes->count : o->scenes;
    const MatchOptions options = {
        .generate = { .denoise = { .steps = (int)o->steps,
                                   .guidance = o->guidance,
                                   .shift = o->shift > 0 ? o->shift : engine->model.shift,
                                   .solver = engine->model.solver,
                                   .sigmas = engine->model.sigmas },
                      .seed = (uint64_t)o->seed,
                      .halves = engine->halves },
        .scenes = count,
        .out = o->out,
    };
    Match *matches = calloc((size_t)count + 1, sizeof(*matches));
    Velocity velocity = { 0 };
    Status s =
        matches ? OK : status_fail(ERR_MEMORY, "no memory for %lld scenes", (long long)count);

    if (s == OK)
        s = plan_velocity(engine, ds, generate_rows(1, o->guidance, engine->halves), &velocity);
    if (s == OK && o->out && comm_rank(engine->comm) == 0) s = file_make_folders(o->out);
    s = comm_agree(engine->comm, s);
    if (s == OK) s = caption_match(engine, &velocity, ds, scenes, &options, matches);
    if (s == OK && comm_rank(engine->comm) == 0) {
        const int64_t good = print_matches(ds, scenes, matches, count);
        printf("\ncaption match %lld of %lld\n", (long long)good, (long long)count);
    }
    velocity_destroy(&velocity);
    free(matches);
    return s;
}

static Status run(Comm *comm, const EvaluateOptions *o)
{
    const EngineOptions engine_options = {
        .model = o->model,
        .weights = o->weights,
        .device = o->device,
        .threads = (int)o->threads,
        .shape = mesh_shape(0, (int)o->tensor, (int)o->pipeline, (int)o->context),
        .halves = (int)o->guidance_ranks,
    };
    Engine engine = { 0 };
    Dataset *ds = NULL;
    Scenes scenes = { 0 };
    Status s = OK;

    CHECK(o->guidance_ranks == 1 || guidance_is_on(o->guidance), ERR_USAGE,
          "--guidance-ranks %lld: at --guidance 1 there is one half only",
          (long long)o->guidance_ranks);
    TRY_TO(done, s, comm_agree(comm, dataset_open(o->data, &ds)));
    TRY_TO(done, s, engine_open(comm, &engine_options, &engine));
    TRY_TO(done, s, comm_agree(comm, check_dataset(&engine, ds)));
    TRY_TO(done, s, comm_agree(comm, scenes_find(ds, &scenes)));
    TRY_TO(done, s, measure_losses(&engine, o, ds));
    /* a frozen text encoder is not loaded here */
    if (o->scenes > 0 && engine.model.text == TEXT_BYTES)
        TRY_TO(done, s, measure_matches(&engine, o, ds, &scenes));
done:
    scenes_destroy(&scenes);
    engine_close(&engine);
    dataset_close(ds);
    return s;
}

Status evaluate_main(int argc, char **argv)
{
    EvaluateOptions options = { 0 };
    bool helped = false;
    Comm *comm = NULL;
    Status s;

    TRY(comm_start(&comm));
    s = comm_agree(comm, options_parse(&command, argc, argv, &options, &helped));
    log_set_quiet(options.quiet);
    comm_set_timeout(comm, options.timeout_s);
    if (s == OK && !helped) s = run(comm, &options);
    log_failure(s);
    comm_finish(comm);
    return s;
}
