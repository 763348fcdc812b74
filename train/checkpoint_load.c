/* Loading: the newest that verifies, each byte hashed by one rank and then read by one. See
 * train/checkpoint.h. */
#include "train/checkpoint.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/stop.h"
#include "core/formats/component_config.h"
#include "core/formats/manifest.h"
#include "core/formats/model_base.h"
#include "core/formats/signature.h"
#include "train/checkpoint_leftovers.h"
#include "train/checkpoint_read.h"
#include "train/checkpoint_sets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static Status list_steps(const char *run_dir, int64_t **steps, int64_t *count)
{
    char checkpoints[FILE_PATH_BYTES];
    TRY(file_join(checkpoints, run_dir, "checkpoints"));
    /* a folder that can only be read is no reason not to load from it */
    if (checkpoint_put_back(checkpoints) != OK) log_warn("checkpoint: %s", status_message());
    return model_dir_steps(run_dir, steps, count);
}

/* Steps that are there, as rank 0 sees them: ranks must not each look for themselves while a file
 * system is catching up. */
static Status share_steps(Comm *comm, const char *run_dir, int64_t **steps, int64_t *count)
{
    Group *world = comm_world(comm);
    Status s = OK;
    if (comm_rank(comm) == 0) s = list_steps(run_dir, steps, count);
    TRY(comm_agree(comm, s));
    TRY(group_broadcast(world, tensor_of(count, U8, SHAPE((int64_t)sizeof *count)), 0));
    if (comm_rank(comm) != 0) {
        *steps = malloc(((size_t)*count + 1) * sizeof **steps);
        if (!*steps) s = status_fail(ERR_MEMORY, "%s: no memory to list its checkpoints", run_dir);
    }
    TRY(comm_agree(comm, s));
    const int64_t bytes = *count * (int64_t)sizeof **steps;
    return group_broadcast(world, tensor_of(*steps, U8, SHAPE(bytes)), 0);
}

/* This rank's share of the files; every rank reads the list of them. A signature is over all that a
 * manifest is over, and nothing unsigned may be parsed before it: it stands in the manifest's
 * place. */
static Status verify_share(const char *path, const TrustedKeys *keys, int rank, int size)
{
    Manifest manifest = { 0 };
    if (keys) return signature_verify_share(path, keys, rank, size);
    TRY(manifest_read(path, &manifest));
    Status s = rank == 0 ? manifest_check_names(path, &manifest) : OK;
    for (int64_t i = rank; i < manifest.count && s == OK; i += size) {
        s = stop_check("verifying a checkpoint");
        if (s == OK) s = manifest_check_file(path, &manifest, i);
    }
    manifest_destroy(&manifest);
    return s;
}

/* A copy under another step's name would be newest for ever. Not collective: after it is verified.
 */
static Status check_step(const char *path, int64_t step)
{
    CheckpointProgress progress;
    TRY(checkpoint_read_progress(path, &progress));
    CHECK(progress.step == step, ERR_FORMAT,
          "%s: state.json is of step %lld: it has another's name", path, (long long)progress.step);
    return OK;
}

/* Collective. */
static Status verify(Comm *comm, const char *path, int64_t step, const TrustedKeys *keys)
{
    const int rank = comm_rank(comm);
    TRY(comm_agree(comm, verify_share(path, keys, rank, comm_size(comm))));
    return comm_agree(comm, rank == 0 ? check_step(path, step) : OK);
}

/* Damage and what cannot be read pass a checkpoint over; a lost rank or no memory does not. */
static bool passes_over(Status status)
{
    return status == ERR_FORMAT || status == ERR_IO;
}

static Status newest_that_verifies(Comm *comm, const char *run_dir, const TrustedKeys *keys,
                                   const int64_t *steps, int64_t count, char path[FILE_PATH_BYTES])
{
    char why[1024] = "";
    for (int64_t i = 0; i < count; i++) {
        TRY(model_dir_step_path(run_dir, steps[i], "", path));
        const Status s = verify(comm, path, steps[i], keys);
        if (s == OK || !passes_over(s)) return s;
        if (i == 0) (void)snprintf(why, sizeof why, "%s", status_message());
        log_warn("checkpoint %s passed over: %s", file_name(path), status_message());
    }
    return status_fail(
        ERR_FORMAT,
        "%s: none of its %lld checkpoints is %swhole; the newest: %s (to start again, "
        "move them away)",
        run_dir, (long long)count, keys ? "signed by a trusted key and " : "", why);
}

/* Whether the checkpoint holds averages of what this run trains. */
static bool holds_average(const char *path, const CheckpointState *state)
{
    char folder[64];
    if (state->lora) return model_dir_has_lora(path, "lora_ema");
    (void)snprintf(folder, sizeof folder, "%s_ema",
                   model_base_folder(state->model, COMPONENT_TRANSFORMER));
    return model_dir_has(path, folder);
}

/* Averages that were not stored start from the weights. */
static void copy_missing_ema(const char *path, const CheckpointState *state)
{
    if (!state->ema.data || holds_average(path, state)) return;
    log_info("%s holds no averaged weights: they start from the weights", path);
    if (!state->shards) {
        memcpy(state->ema.data, state->weights.data, tensor_bytes(state->weights));
        return;
    }
    for (int b = 0; b < state->shards->buckets; b++) {
        const Range own = bucket_shards_range(state->shards, b);
        memcpy(tensor_f32(state->ema) + state->shards->place[b],
               tensor_f32(state->weights) + own.first, (size_t)own.count * sizeof(float));
    }
}

/* Not collective. What is beside the tensors, and which of them are to be read. */
static Status open_stored(const char *path, CheckpointState *state, CheckpointSets *sets)
{
    ModelDir stored;
    CheckpointState present = *state;
    /* what it was made from may have moved since: it is where the configuration says */
    TRY(model_dir_read_over(path, state->model->base, &stored));
    TRY(model_config_compare(path, &stored.config, &state->model->config));
    CHECK(stored.trained == state->model->trained, ERR_CONFIG,
          "%s: holds the expert model.expert=%s; go on with it, or train the other in another "
          "run.dir",
          path, stored.trained ? "low" : "high");
    TRY(checkpoint_read_progress(path, &state->progress));
    if (state->ema.data && !holds_average(path, state)) present.ema = tensor_none();
    return checkpoint_sets_create(&present, INT64_MAX, sets);
}

/* So that a run's log shows what its file system had to give. */
static Status tell(Comm *comm, int64_t bytes, double seconds)
{
    TRY(group_all_reduce(comm_world(comm), tensor_of(&bytes, I64, SHAPE(1))));
    log_info("checkpoint: %.1f MiB of tensors read in %.1f s, each byte by one of %d ranks",
             (double)bytes * 0x1p-20, seconds, comm_size(comm));
    return OK;
}

static Status load(Comm *comm, const MeshGroups *groups, const char *path, CheckpointState *state)
{
    CheckpointSets sets = { 0 };
    int64_t bytes = 0;
    const double start_s = clock_seconds();
    Status s = comm_agree(comm, open_stored(path, state, &sets));
    if (s == OK)
        s = checkpoint_read(comm, groups, &sets, state->params, path, CHECKPOINT_READ_BYTES,
                            &bytes);
    if (s == OK) s = tell(comm, bytes, clock_seconds() - start_s);
    checkpoint_sets_destroy(&sets);
    if (s == OK) copy_missing_ema(path, state);
    return s;
}

Status checkpoint_load(Comm *comm, const MeshGroups *groups, const char *run_dir,
                       CheckpointState *state, bool *found, char path[FILE_PATH_BYTES])
{
    char taken[FILE_PATH_BYTES];
    int64_t *steps = NULL, count = 0;
    Status s = share_steps(comm, run_dir, &steps, &count);
    if (s == OK && count > 0) {
        s = newest_that_verifies(comm, run_dir, state->trusted, steps, count, taken);
        if (s == OK) s = load(comm, groups, taken, state);
        if (s == OK && path) memcpy(path, taken, sizeof taken);
    }
    if (s == OK) *found = count > 0;
    free(steps);
    return s;
}
