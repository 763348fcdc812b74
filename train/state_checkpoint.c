/* The run's state to and from its checkpoints, and what must agree for a run to go on. */
#include "train/state.h"

#include "core/base/digest.h"
#include "core/base/log.h"
#include "core/formats/model_base.h"

#include <stdlib.h>
#include <string.h>

static Status save_codec(void *context, const char *folder)
{
    const TrainState *s = context;
    /* a run's paths are those of the folder it was started in */
    char *vae = s->config.codec_vae[0] ? realpath(s->config.codec_vae, NULL) : NULL;
    const Status status = codec_save(&s->codec, vae ? vae : s->config.codec_vae, folder);
    free(vae);
    return status;
}

/* Digest of what must agree for a resumed run to go on bit by bit. */
static Status run_digest(const TrainState *s, char out[DIGEST_HEX])
{
    /* where the run lives and how it is placed and watched may change */
    const TrainConfig *c = &s->config;
    TrainConfig same = *c;
    memset(&same.run.dir, 0, sizeof same.run.dir);
    memset(&same.run.time_limit, 0, sizeof same.run.time_limit);
    same.run.time_margin_s = 0;
    memset(&same.codec_vae, 0, sizeof same.codec_vae); /* the data's digest has its digest */
    memset(&same.data.train, 0, sizeof same.data.train);
    memset(&same.data.heldout, 0, sizeof same.data.heldout);
    memset(&same.from, 0, sizeof same.from); /* base_digest says whether it is another */
    same.data.max_bad = 0;                   /* when a run ends, not what it computes */
    same.parallel = (ParallelKeys){ 0 };
    same.comm = (CommKeys){ 0 };
    if (c->numerics) {
        same.parallel.chunks = c->parallel.chunks;
        same.data.micro_batch = 1; /* clip by clip whatever it is */
    }
    if (c->train.schedule == LR_CONSTANT) same.train.steps = 1; /* an end, and nothing else */
    same.checkpoint = (CheckpointKeys){ 0 };
    same.train.heldout_every = same.train.sample_every = same.train.check_every = 0;
    memset(&same.train.sample_prompts, 0, sizeof same.train.sample_prompts);
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    CHECK(stream, ERR_MEMORY, "no memory for the configuration's text");
    Status status = train_config_print(&same, stream);
    (void)fprintf(stream, "data %s\n", dataset_digest(s->train));
    if (s->base_digest[0]) (void)fprintf(stream, "base %s\n", s->base_digest);
    CHECK(fclose(stream) == 0, ERR_MEMORY, "no memory for the configuration's text");
    Digest digest;
    if (status == OK) status = digest_bytes(text, length, &digest);
    if (status == OK) digest_hex(&digest, out);
    free(text);
    return status;
}

CheckpointState train_state_checkpoint(TrainState *s)
{
    return (CheckpointState){ .params = s->optimizer.params,
                              .lora = s->lora_metadata,
                              .model = &s->model,
                              .shards = s->optimizer.shards,
                              .weights = s->optimizer.weights,
                              .ema = s->optimizer.ema,
                              .exp_avg = s->optimizer.exp_avg,
                              .exp_avg_sq = s->optimizer.exp_avg_sq,
                              .config_text = s->config_text,
                              .codec_save = save_codec,
                              .codec_context = s,
                              .sign = s->trust.sign,
                              .trusted = s->config.checkpoint.require_signature ? &s->trust.trusted
                                                                                : NULL };
}

CheckpointOptions train_state_checkpoint_options(const TrainState *s)
{
    return (CheckpointOptions){ .run_dir = s->config.run.dir,
                                .keep = (int)s->config.checkpoint.keep,
                                .keep_every = s->config.checkpoint.keep_every };
}

Status train_state_save(TrainState *s, int64_t step, bool last)
{
    CheckpointState state = train_state_checkpoint(s);
    state.progress.step = step;
    state.progress.samples = step * s->config.data.batch;
    state.progress.seed = (uint64_t)s->config.run.seed;
    TRY(comm_agree(s->comm, run_digest(s, state.progress.config_digest)));
    const bool beside = s->config.checkpoint.async && !last;
    TRY(checkpoint_saver_begin(s->saver, &state, beside));
    return beside ? OK : checkpoint_saver_finish(s->saver);
}

Status train_state_saving(TrainState *s, int64_t ready)
{
    return ready == comm_size(s->comm) ? checkpoint_saver_advance(s->saver) : OK;
}

static Status check_resume(const TrainState *s, const CheckpointProgress *p, const char *path)
{
    const TrainConfig *c = &s->config;
    char digest[DIGEST_HEX];
    CHECK(p->seed == (uint64_t)c->run.seed, ERR_CONFIG,
          "run.seed is %lld but %s was trained with seed %llu; keep the seed or choose another "
          "run.dir",
          (long long)c->run.seed, path, (unsigned long long)p->seed);
    CHECK(p->samples == p->step * c->data.batch, ERR_CONFIG,
          "data.batch is %lld but %s consumed %lld clips in %lld steps; keep the batch or choose "
          "another run.dir",
          (long long)c->data.batch, path, (long long)p->samples, (long long)p->step);
    TRY(run_digest(s, digest));
    if (strcmp(digest, p->config_digest) != 0)
        log_warn("%s: the configuration or the data changed since; the run goes on, but not bit by "
                 "bit as it would have",
                 path);
    return OK;
}

/* The transformer that is trained, in the directory of model.from's chain that has it. */
static Status find_begun(const TrainConfig *c, char holder[FILE_PATH_BYTES], const char **folder)
{
    *folder = c->expert == 2 ? "transformer_2" : "transformer";
    return model_base_holder(&c->base, c->from, *folder, holder);
}

/* Not collective. */
static Status digest_set(const SafetensorsSet *set, const ParamList *params, char out[DIGEST_HEX])
{
    DigestStream *stream;
    Digest digest;
    TRY(digest_stream_create(&stream));
    const Status s = model_dir_digest_set(set, params, stream);
    if (s == OK) {
        digest_stream_finish(stream, &digest);
        digest_hex(&digest, out);
    }
    digest_stream_destroy(stream);
    return s;
}

static Status digest_base(TrainState *s)
{
    char holder[FILE_PATH_BYTES], path[FILE_PATH_BYTES];
    const char *folder;
    SafetensorsSet set = { 0 };
    TRY(find_begun(&s->config, holder, &folder));
    TRY(file_join(path, holder, folder));
    TRY(model_dir_open_set(path, model_dir_base(COMPONENT_TRANSFORMER), false,
                           COMPONENT_TRANSFORMER, &s->dit.params, &set));
    const Status status = digest_set(&set, &s->dit.params, s->base_digest);
    safetensors_set_close(&set);
    return status;
}

/* By its values: a fine-tuned model has the names and sizes of the one it was made from, and a path
 * says nothing. Collective over the world. */
static Status know_base(TrainState *s)
{
    TRY(comm_agree(s->comm, comm_rank(s->comm) == 0 ? digest_base(s) : OK));
    return group_broadcast(comm_world(s->comm), tensor_of(s->base_digest, U8, SHAPE(DIGEST_HEX)),
                           0);
}

/* Low-rank changes begin with those of seed and names; the model they change is read anew whenever
 * a run starts. Not collective. */
static Status begin_changes(TrainState *s)
{
    TRY(low_rank_keep(&s->low_rank, s->weights));
    return params_init(&s->low_rank.params, &s->groups.mesh, (uint64_t)s->config.run.seed,
                       s->optimizer.weights);
}

/* The first weights: drawn, or those of the model that the run begins from. Not collective. */
static Status begin(TrainState *s)
{
    const TrainConfig *c = &s->config;
    const ParamList *params = &s->dit.params;
    const Mesh *mesh = &s->groups.mesh;
    const Tensor weights = s->weights;
    char holder[FILE_PATH_BYTES];
    const char *folder;
    if (!c->from[0]) return params_init(params, mesh, (uint64_t)c->run.seed, weights);
    TRY(find_begun(c, holder, &folder));
    log_info("begins from %s/%s", holder, folder);
    TRY(model_dir_load_params(holder, folder, params, mesh, weights));
    if (c->lora.rank > 0) return begin_changes(s);
    if (c->base.text != TEXT_BYTES) return OK;
    return model_dir_load_params(c->from, "text_encoder", params, mesh, weights);
}

Status train_state_load(TrainState *s, int64_t *step)
{
    const bool changes = s->low_rank.pairs > 0;
    CheckpointState state = train_state_checkpoint(s);
    char path[FILE_PATH_BYTES];
    bool found = false;
    /* a checkpoint of changes does not hold the model */
    if (changes) {
        TRY(comm_agree(s->comm, begin(s)));
        TRY(know_base(s));
    }
    TRY(checkpoint_load(s->comm, &s->groups, s->config.run.dir, &state, &found, path));
    *step = 0;
    if (found) {
        TRY(comm_agree(s->comm, check_resume(s, &state.progress, path)));
        *step = state.progress.step;
        log_info("resumed from %s: step %lld", path, (long long)*step);
    } else {
        if (!changes) TRY(comm_agree(s->comm, begin(s)));
        TRY(optimizer_start_average(&s->optimizer));
    }
    return changes ? low_rank_apply(&s->low_rank, s->optimizer.weights, s->weights) : OK;
}
