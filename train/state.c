#include "train/state.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "train/heldout.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Status open_data(TrainState *s)
{
    TrainConfig *c = &s->config;
    TRY(dataset_open(c->data.train, &s->train));
    const DatasetInfo *info = dataset_info(s->train);
    c->model.dit.in_channels = c->model.dit.out_channels = info->channels;
    TRY(linear_codec_create(&s->codec, info->basis, info->mean, info->scale, info->codec_digest,
                            c->data.train));
    TRY(model_config_check(&c->model));
    if (!c->data.heldout[0]) return OK;
    TRY(dataset_open(c->data.heldout, &s->heldout));
    CHECK(strcmp(dataset_info(s->heldout)->codec_digest, info->codec_digest) == 0, ERR_CONFIG,
          "data.heldout %s and data.train %s have different codecs (%.12s, %.12s); ingest the "
          "held-out clips with --codec %s",
          c->data.heldout, c->data.train, dataset_info(s->heldout)->codec_digest,
          info->codec_digest, c->data.train);
    return OK;
}

/* Canonical chunks of exact numerics; 0: fast. */
static int exact_chunks(const TrainConfig *c)
{
    return c->numerics ? (int)c->parallel.chunks : 0;
}

/* Of the smallest clip, in patches: each sequence rank needs one at least. */
static int64_t fewest_tokens(const Dataset *ds, int64_t fewest)
{
    for (int64_t i = 0; ds && i < dataset_buckets(ds); i++) {
        const int64_t tokens = dataset_bucket(ds, i)->tokens;
        if (fewest == 0 || tokens < fewest) fewest = tokens;
    }
    return fewest;
}

/* Collective. */
static Status place_on_mesh(TrainState *s)
{
    const TrainConfig *c = &s->config;
    const MeshShape wanted = { (int)c->parallel.data,     (int)c->parallel.tensor,
                               (int)c->parallel.pipeline, (int)c->parallel.context,
                               (int)c->parallel.ulysses,  (int)c->parallel.chunks_per_rank };
    const MeshLimits limits = { .heads = c->model.dit.num_attention_heads,
                                .ffn_dim = c->model.dit.ffn_dim,
                                .layers = c->model.dit.num_layers,
                                .batch = c->data.batch,
                                .chunks = exact_chunks(c),
                                .tokens = fewest_tokens(s->heldout, fewest_tokens(s->train, 0)) };
    MeshShape shape = { 0 };
    TRY(comm_agree(s->comm, mesh_resolve(wanted, comm_size(s->comm), &limits, &shape)));
    return comm_mesh(s->comm, shape, &s->groups);
}

/* Cores of this host shared out to its ranks; one at least. */
static int threads_of_rank(const TrainState *s)
{
    if (s->config.parallel.threads > 0) return (int)s->config.parallel.threads;
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const int share = (int)(cores > 0 ? cores : 1) / comm_local_size(s->comm);
    return share > 0 ? share : 1;
}

static Status open_device(TrainState *s)
{
    const TrainConfig *c = &s->config;
    TRY(device_open(&s->device, train_device_name(c), NULL, threads_of_rank(s), c->numerics != 0));
    CHECK(c->dtype != 2, ERR_CONFIG,
          "dtype: bf16 compute needs a CUDA device; this run is on %s: take dtype f32 or auto",
          s->device.name);
    return dit_create(&s->device, &c->model, &s->groups, (Recompute)c->parallel.recompute,
                      exact_chunks(c), &s->dit);
}

/* ZeRO-1 over the ranks that hold the same parameters, where there are several. */
static Status cut_into_shards(TrainState *s)
{
    const ParamList *params = &s->dit.params;
    const Group *group = s->groups.gradient;
    if (s->config.parallel.zero == 0 || group->size == 1) return OK;
    TRY(bucket_shards_create(params->bucket_first, params->buckets, group->rank, group->size,
                             &s->shards));
    s->optimizer.shards = &s->shards;
    return OK;
}

static Status allocate(TrainState *s)
{
    Optimizer *o = &s->optimizer;
    *o = (Optimizer){
        .dev = &s->device, .params = &s->dit.params, .mesh = &s->groups.mesh, .ema = tensor_none()
    };
    TRY(cut_into_shards(s));
    const bool ema = s->config.train.ema > 0;
    const Shape flat = SHAPE(s->dit.params.local_elements);
    const Shape own = SHAPE(optimizer_elements(&s->dit.params, o->shards));
    const size_t bytes = (size_t)flat.dims[0] * sizeof(float);
    const size_t own_bytes = (size_t)own.dims[0] * sizeof(float) + (size_t)ARENA_ALIGN;
    TRY(arena_create(&s->weights_arena, "weights", bytes));
    TRY(arena_create(&s->grads_arena, "gradients", bytes));
    TRY(arena_create(&s->optimizer_arena, "optimizer", (ema ? 3 : 2) * own_bytes));
    TRY(tensor_alloc(&s->weights_arena, F32, flat, "weights", &o->weights));
    TRY(tensor_alloc(&s->grads_arena, F32, flat, "gradients", &o->grads));
    TRY(tensor_alloc(&s->optimizer_arena, F32, own, "exp_avg", &o->exp_avg));
    TRY(tensor_alloc(&s->optimizer_arena, F32, own, "exp_avg_sq", &o->exp_avg_sq));
    if (ema) TRY(tensor_alloc(&s->optimizer_arena, F32, own, "ema", &o->ema));
    if (s->config.numerics == 0) return dit_bind(&s->dit, o->weights, o->grads);
    TRY(exact_grads_create(&s->dit, &s->exact));
    return dit_bind(&s->dit, o->weights, exact_grads_flat(&s->exact));
}

/* Exact numerics compute a micro-batch clip by clip: its sums then know nothing of how it was cut.
 */
static int64_t clips_of_pass(const TrainConfig *c)
{
    return c->numerics ? 1 : c->data.micro_batch;
}

static SamplerOptions sampler_options(const TrainConfig *c)
{
    return (SamplerOptions){ .seed = (uint64_t)c->run.seed,
                             .batch = c->data.batch,
                             .micro_batch = clips_of_pass(c),
                             .chunks = exact_chunks(c),
                             .caption_drop = (float)c->train.caption_drop };
}

Status train_state_open_loader(TrainState *s, int64_t step)
{
    const LoaderOptions options = { .sampler = sampler_options(&s->config),
                                    .rank = s->groups.mesh.dp,
                                    .size = s->groups.mesh.shape.data,
                                    .first_step = step,
                                    .metadata_only = !s->dit.first && !s->dit.last,
                                    .part = s->groups.sequence->rank,
                                    .parts = s->groups.sequence->size };
    loader_destroy(s->loader);
    s->loader = NULL;
    return loader_create(s->train, &options, &s->loader);
}

static FlowOptions flow_options(const TrainConfig *c)
{
    return (FlowOptions){ .seed = (uint64_t)c->run.seed,
                          .logit_normal = c->train.timestep.sampler == TIMESTEP_LOGIT_NORMAL,
                          .mean = c->train.timestep.mean,
                          .std = c->train.timestep.std,
                          .shift = c->train.timestep.shift };
}

/* The step's activations. */
static Status create_step(TrainState *s)
{
    const TrainConfig *c = &s->config;
    DitShape *shapes = NULL;
    int count = 0;
    TRY(train_state_open_loader(s, 0));
    TRY(heldout_shapes(s->train, &c->model.dit, &shapes, &count));
    for (int i = 0; i < count; i++) shapes[i].batch = clips_of_pass(c);
    const TrainStepOptions options = { .flow = flow_options(c),
                                       .shapes = shapes,
                                       .shape_count = count,
                                       .micros_max = (int)loader_max_micros(s->loader),
                                       .shards = s->optimizer.shards,
                                       .exact = c->numerics ? &s->exact : NULL,
                                       .schedule = (ScheduleKind)c->parallel.schedule };
    const Status status =
        train_step_create(&s->dit, &s->groups, s->optimizer.grads, &options, &s->step);
    free(shapes);
    s->optimizer.reducer = s->step.reducer;
    s->optimizer.bucket_order = s->step.bucket_order;
    return status;
}

static Status create_velocity(TrainState *s)
{
    DitShape *shapes = NULL;
    int count = 0;
    if (!s->heldout) return OK;
    TRY(heldout_shapes(s->heldout, &s->config.model.dit, &shapes, &count));
    const Status status =
        velocity_create(&s->dit, s->groups.pipeline, shapes, count, 1, &s->velocity);
    free(shapes);
    return status;
}

/* The folder and the resolved configuration: rank 0. */
static Status open_run_folder(TrainState *s)
{
    char path[FILE_PATH_BYTES];
    size_t length = 0;
    FILE *stream = open_memstream(&s->config_text, &length);
    CHECK(stream, ERR_MEMORY, "no memory for the configuration's text");
    const Status printed = train_config_print(&s->config, stream);
    CHECK(fclose(stream) == 0, ERR_MEMORY, "no memory for the configuration's text");
    TRY(printed);
    if (comm_rank(s->comm) != 0) return OK;
    TRY(file_make_folders(s->config.run.dir));
    TRY(file_join(path, s->config.run.dir, "config.yaml"));
    return file_write(path, s->config_text, length);
}

static void report(const TrainState *s)
{
    const MeshShape m = s->groups.mesh.shape;
    const double mib = 1.0 / 1048576.0;
    char mesh[96];
    log_info("model %s: %.2f M parameters; mesh %s, %s, %d threads a rank", s->config.preset,
             (double)s->dit.params.total * 1e-6, mesh_describe(m, mesh), s->device.name,
             s->device.threads);
    log_info("data %s: %lld clips, %lld captions, %lld buckets", s->config.data.train,
             (long long)dataset_clips(s->train), (long long)dataset_captions(s->train),
             (long long)dataset_buckets(s->train));
    const struct {
        const char *name;
        size_t bytes;
    } rows[] = {
        { "weights", s->weights_arena.size },
        { "gradients", s->grads_arena.size },
        { "exact", s->exact.arena.size },
        { "optimizer", s->optimizer_arena.size },
        { "activations", train_step_activation_bytes(&s->step) },
        { "scratch", train_step_scratch_bytes(&s->step) },
        { "held-out", s->heldout ? velocity_bytes(&s->velocity) : 0 },
        { "loader", loader_buffer_bytes(s->loader) },
    };
    size_t total = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        log_info("memory %-12s %9.1f MiB", rows[i].name, (double)rows[i].bytes * mib);
        total += rows[i].bytes;
    }
    log_info("memory %-12s %9.1f MiB on rank 0", "total", (double)total * mib);
}

static Status measure_gemm(TrainState *s)
{
    double gflops = 0.0;
    TRY(comm_barrier(s->comm));
    TRY(device_measure_gemm(&s->device, &gflops));
    TRY(group_all_reduce(comm_world(s->comm), tensor_of(&gflops, F64, SHAPE(1))));
    s->gemm_gflops = gflops;
    log_info("matrix rate %.0f GFLOP/s over %d ranks: what mfu is a share of", gflops,
             comm_size(s->comm));
    return OK;
}

Status train_state_create(Comm *comm, const TrainConfig *config, TrainState *out)
{
    TrainState *s = out;
    *s = (TrainState){ .comm = comm, .config = *config };
    Status (*const parts[])(TrainState *) = { open_data,      place_on_mesh, open_device,
                                              allocate,       create_step,   create_velocity,
                                              open_run_folder };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const Status status = comm_agree(comm, parts[i](s));
        if (status == OK) continue;
        train_state_destroy(s);
        return status;
    }
    s->model = (ModelDir){ .config = s->config.model, .shift = config->train.timestep.shift };
    report(s);
    const Status status = comm_agree(comm, measure_gemm(s));
    if (status != OK) train_state_destroy(s);
    return status;
}

void train_state_destroy(TrainState *s)
{
    loader_destroy(s->loader);
    velocity_destroy(&s->velocity);
    train_step_destroy(&s->step);
    exact_grads_destroy(&s->exact);
    arena_destroy(&s->weights_arena);
    arena_destroy(&s->grads_arena);
    arena_destroy(&s->optimizer_arena);
    bucket_shards_destroy(&s->shards);
    dit_destroy(&s->dit);
    linear_codec_destroy(&s->codec);
    dataset_close(s->train);
    dataset_close(s->heldout);
    free(s->config_text);
    *s = (TrainState){ 0 };
}
