#include "train/state.h"

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/stop.h"
#include "train/clip_condition.h"
#include "train/state_plan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static Status open_keys(TrainState *s)
{
    return trust_open(&s->config.checkpoint, comm_rank(s->comm), &s->trust);
}

/* Rank 0 names it in checkpoints, and whoever renders samples decodes. */
static Status load_vae(TrainState *s, const char *digest)
{
    const TrainConfig *c = &s->config;
    const int use = c->train.sample_every > 0 ? WAN_DECODES : 0;
    if (!use && comm_rank(s->comm) != 0) return OK;
    TRY(codec_load_vae(c->codec_vae, use, &s->codec));
    CHECK(strcmp(s->codec.digest, digest) == 0, ERR_CONFIG,
          "codec.vae %s is another VAE (%.12s) than the one that made data.train %s (%.12s)",
          c->codec_vae, s->codec.digest, c->data.train, digest);
    return OK;
}

static Status open_codec(TrainState *s, const DatasetInfo *info)
{
    const TrainConfig *c = &s->config;
    LinearCodec linear;
    CHECK(strcmp(info->codec, codec_name((CodecKind)c->codec)) == 0, ERR_CONFIG,
          "codec.kind is %s, but data.train %s holds latents of codec \"%s\"",
          codec_name((CodecKind)c->codec), c->data.train, info->codec);
    if (c->codec == CODEC_WAN) return load_vae(s, info->codec_digest);
    TRY(linear_codec_create(&linear, info->basis, info->mean, info->scale, info->codec_digest,
                            c->data.train));
    codec_take_linear(&linear, &s->codec);
    return OK;
}

/* A model from nothing takes the data's channels; one that is there must have them. */
static Status take_channels(TrainState *s, const DatasetInfo *info)
{
    TrainConfig *c = &s->config;
    DitConfig *dit = &c->model.dit;
    if (!c->from[0]) dit->in_channels = dit->out_channels = info->channels;
    CHECK(dit->out_channels == info->channels, ERR_CONFIG,
          "data.train %s has latents of %lld channels, model.from %s makes %lld: ingest with --vae "
          "%s",
          c->data.train, (long long)info->channels, c->from, (long long)dit->out_channels, c->from);
    return OK;
}

/* As many channels do not make the same latents. Rank 0: a VAE's digest is over all of it. */
static Status check_base_codec(const TrainState *s, const DatasetInfo *info)
{
    const TrainConfig *c = &s->config;
    char digest[DIGEST_HEX];
    if (!c->from[0] || comm_rank(s->comm) != 0) return OK;
    TRY(codec_digest_of(c->from, digest));
    if (!digest[0])
        log_warn("model.from %s has neither codec/ nor vae/: whether its latents are those of "
                 "data.train %s is not known",
                 c->from, c->data.train);
    CHECK(!digest[0] || strcmp(digest, info->codec_digest) == 0, ERR_CONFIG,
          "data.train %s was made with codec %.12s, model.from %s has %.12s: their latents do not "
          "compare; ingest the clips with the model's own",
          c->data.train, info->codec_digest, c->from, digest);
    return OK;
}

/* Embeddings of a frozen encoder come with the clips. */
static Status check_text(const TrainState *s, const Dataset *ds)
{
    const DatasetInfo *info = dataset_info(ds);
    const ModelConfig *m = &s->config.model;
    if (s->config.text_encoder == TEXT_KEY_BYTES) return OK;
    CHECK(info->text_width > 0, ERR_CONFIG,
          "%s: has no embeddings of its captions, which text.encoder umt5 reads: ingest with "
          "--text-encoder",
          dataset_dir(ds));
    CHECK(info->text_width == m->dit.text_dim && info->text_rows <= m->text.max_length, ERR_CONFIG,
          "%s: captions have up to %lld rows of %lld values, the model reads %lld rows of %lld",
          dataset_dir(ds), (long long)info->text_rows, (long long)info->text_width,
          (long long)m->text.max_length, (long long)m->dit.text_dim);
    return OK;
}

/* What made the parts of the clips that the model reads. */
static Status check_same_makers(const TrainState *s)
{
    const TrainConfig *c = &s->config;
    const DatasetInfo *train = dataset_info(s->train), *heldout = dataset_info(s->heldout);
    const bool wan = c->codec == CODEC_WAN;
    const struct {
        const char *what, *option, *of, *heldout, *train;
        bool read;
    } makers[] = {
        { "codecs", wan ? "vae" : "codec", wan ? c->codec_vae : c->data.train,
          heldout->codec_digest, train->codec_digest, true },
        { "text encoders", "text-encoder", "of data.train", heldout->text_digest,
          train->text_digest, c->text_encoder == TEXT_KEY_UMT5 },
        { "image encoders", "image-encoder", "of data.train", heldout->image_digest,
          train->image_digest, c->model.dit.image_rows > 0 },
    };
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++)
        CHECK(!makers[i].read || strcmp(makers[i].heldout, makers[i].train) == 0, ERR_CONFIG,
              "data.heldout %s and data.train %s have different %s (%.12s, %.12s); ingest the "
              "held-out clips with --%s %s",
              c->data.heldout, c->data.train, makers[i].what, makers[i].heldout, makers[i].train,
              makers[i].option, makers[i].of);
    return OK;
}

static Status open_heldout(TrainState *s)
{
    const TrainConfig *c = &s->config;
    if (!c->data.heldout[0]) return OK;
    TRY(dataset_open(c->data.heldout, &s->heldout));
    s->heldout_sizes = dataset_bucket_list(s->heldout);
    TRY(check_text(s, s->heldout));
    TRY(clip_condition_check(&c->model.dit, c->from, s->heldout));
    return check_same_makers(s);
}

static Status open_data(TrainState *s)
{
    TrainConfig *c = &s->config;
    TRY(dataset_open(c->data.train, &s->train));
    const DatasetInfo *info = dataset_info(s->train);
    s->train_sizes = dataset_bucket_list(s->train);
    TRY(take_channels(s, info));
    TRY(check_text(s, s->train));
    TRY(clip_condition_check(&c->model.dit, c->from, s->train));
    s->condition = info->condition;
    TRY(open_codec(s, info));
    TRY(check_base_codec(s, info));
    TRY(model_config_check(&c->model));
    return open_heldout(s);
}

/* Collective. */
static Status place_on_mesh(TrainState *s)
{
    const TrainConfig *c = &s->config;
    const MeshShape wanted = { (int)c->parallel.data,     (int)c->parallel.tensor,
                               (int)c->parallel.pipeline, (int)c->parallel.context,
                               (int)c->parallel.ulysses,  (int)c->parallel.chunks_per_rank };
    const MeshLimits limits = train_mesh_limits(c, s->train_sizes, s->heldout_sizes);
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

static ReducerWay reducer_way(const TrainState *s)
{
    const int wanted = s->config.comm.overlap; /* auto, on, off */
    const bool beside = wanted == 0 ? comm_overlap_pays(s->comm, s->device.threads) : wanted == 1;
    return beside ? REDUCER_BESIDE : REDUCER_IN_WAIT;
}

static Status open_device(TrainState *s)
{
    const TrainConfig *c = &s->config;
    TRY(train_device_open(c, threads_of_rank(s), &s->device));
    if (c->dtype == 2 && !s->device.bf16)
        log_warn("dtype: this machine has no bf16 that is faster than f32; it computes in f32");
    s->reduce = reducer_way(s);
    return profiling_create(c, s->comm, &s->groups, &s->device, &s->profiling);
}

static Status open_saver(TrainState *s)
{
    const CheckpointOptions options = train_state_checkpoint_options(s);
    return checkpoint_saver_create(s->comm, &s->groups, &options, s->saving_arena.base,
                                   (int64_t)s->saving_arena.size, &s->saver);
}

static Status open_loader(TrainState *s)
{
    return train_state_open_loader(s, 0);
}

Status train_state_open_loader(TrainState *s, int64_t step)
{
    const LoaderOptions options = train_state_loader_options(s, step);
    loader_destroy(s->loader);
    s->loader = NULL;
    return loader_create(s->train, &options, &s->loader);
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
    TRY(folder_lock_take(s->config.run.dir, &s->lock));
    TRY(file_join(path, s->config.run.dir, "config.yaml"));
    return file_write(path, s->config_text, length);
}

static void report(const TrainState *s)
{
    const MeshShape m = s->groups.mesh.shape;
    char mesh[96];
    log_info("model %s: %.2f M parameters; mesh %s, %s, %d threads a rank",
             s->config.from[0] ? s->config.from : s->config.preset,
             (double)s->dit.params.total * 1e-6, mesh_describe(m, mesh), s->device.name,
             s->device.threads);
    log_info("data %s: %lld clips, %lld captions, %lld buckets", s->config.data.train,
             (long long)dataset_clips(s->train), (long long)dataset_captions(s->train),
             (long long)dataset_buckets(s->train));
}

static void say(const char *line)
{
    log_info("%s", line);
}

/* Every rank's rows: told, and left in the run's folder. Collective over the world. */
static Status report_memory(TrainState *s)
{
    const int size = comm_size(s->comm);
    RankMemory own, *all = calloc((size_t)size, sizeof *all);
    Status status = all ? train_state_memory(s, &own)
                        : status_fail(ERR_MEMORY, "no memory for the table of %d ranks", size);
    status = comm_agree(s->comm, status);
    if (status == OK)
        status =
            group_all_gather(comm_world(s->comm), tensor_of(all, I64, SHAPE(size, MEMORY_ROWS)),
                             tensor_of(own.bytes, I64, SHAPE(MEMORY_ROWS)));
    if (status == OK) memory_print(all, size, s->groups.mesh.shape, say);
    if (status == OK && comm_rank(s->comm) == 0) {
        char path[FILE_PATH_BYTES];
        JsonWriter w = json_writer(2);
        json_begin_object(&w, NULL);
        memory_write_json(&w, all, size);
        json_end_object(&w);
        status = file_join(path, s->config.run.dir, "memory.json");
        status = status == OK ? json_writer_save(&w, path) : status;
        json_writer_destroy(&w);
    }
    free(all);
    return status;
}

Status train_state_report_peak(TrainState *s)
{
    enum { PEAK, BEFORE, PLANNED, COUNT };
    const int size = comm_size(s->comm);
    RankMemory own;
    int64_t(*all)[COUNT] = calloc((size_t)size, sizeof *all);
    Status status = all ? train_state_memory(s, &own)
                        : status_fail(ERR_MEMORY, "no memory for the peaks of %d ranks", size);
    status = comm_agree(s->comm, status);
    if (status == OK) {
        int64_t mine[COUNT] = { memory_resident_peak(), s->resident_before, memory_total(&own) };
        status = group_all_gather(comm_world(s->comm), tensor_of(all, I64, SHAPE(size, COUNT)),
                                  tensor_of(mine, I64, SHAPE(COUNT)));
    }
    int most = 0;
    for (int i = 1; status == OK && i < size; i++)
        if (all[i][PEAK] > all[most][PEAK]) most = i;
    if (status == OK)
        log_info("memory resident at most %.1f MiB on rank %d: %.1f MiB before the run began, "
                 "%.1f MiB planned",
                 (double)all[most][PEAK] / 1048576.0, most, (double)all[most][BEFORE] / 1048576.0,
                 (double)all[most][PLANNED] / 1048576.0);
    free(all);
    return status;
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
    *s = (TrainState){ .comm = comm, .config = *config, .resident_before = memory_resident_peak() };
    Status (*const parts[])(TrainState *) = { open_keys,   open_data,           place_on_mesh,
                                              open_device, train_state_reserve, open_saver,
                                              open_loader, open_run_folder };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        /* some parts are collective: nobody leaves one out alone */
        Status status = comm_agree(comm, stop_check("starting"));
        if (status == OK) status = comm_agree(comm, parts[i](s));
        if (status == OK) continue;
        train_state_destroy(s);
        return status;
    }
    report(s);
    Status status = comm_agree(comm, report_memory(s));
    if (status == OK) status = comm_agree(comm, measure_gemm(s));
    if (status != OK) train_state_destroy(s);
    return status;
}

Status train_state_tell_profile(TrainState *s)
{
    return profiling_finish(&s->profiling, &s->config, s->comm, &s->device,
                            s->gemm_gflops / comm_size(s->comm));
}

void train_state_destroy(TrainState *s)
{
    checkpoint_saver_destroy(s->saver);
    arena_destroy(&s->saving_arena);
    loader_destroy(s->loader);
    sampling_destroy(&s->sampling);
    heldout_space_destroy(&s->heldout_space);
    velocity_destroy(&s->velocity);
    train_step_destroy(&s->step);
    exact_grads_destroy(&s->exact);
    arena_destroy(&s->weights_arena);
    arena_destroy(&s->grads_arena);
    arena_destroy(&s->optimizer_arena);
    arena_destroy(&s->low_rank_arena);
    low_rank_destroy(&s->low_rank);
    free(s->lora_metadata);
    bucket_shards_destroy(&s->shards);
    dit_destroy(&s->dit);
    if (s->comm) profiling_destroy(&s->profiling, s->comm, &s->groups); /* of a plan: none */
    codec_destroy(&s->codec);
    dataset_close(s->train);
    dataset_close(s->heldout);
    trust_close(&s->trust);
    free(s->config_text);
    folder_lock_release(&s->lock);
    *s = (TrainState){ 0 };
}
