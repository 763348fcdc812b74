#include "train/checkpoint_sets.h"

#include "core/formats/model_base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void checkpoint_sets_destroy(CheckpointSets *sets)
{
    for (int i = 0; i < sets->count; i++) {
        CheckpointSet *set = &sets->items[i];
        free(set->params);
        free(set->names);
        free(set->specs);
        safetensors_plan_destroy(&set->plan);
    }
    free(sets->writers);
    *sets = (CheckpointSets){ 0 };
}

void checkpoint_set_file(const CheckpointSet *set, int64_t file, char out[512])
{
    char name[256];
    safetensors_file_name(set->base, file, set->plan.files, name);
    (void)snprintf(out, 512, "%s/%s", set->folder, name);
}

int64_t checkpoint_set_bytes(const CheckpointSet *set, int64_t file)
{
    int64_t bytes = 0;
    for (int64_t i = set->plan.first[file]; i < set->plan.first[file + 1]; i++)
        bytes += (int64_t)tensor_bytes(tensor_of(NULL, set->specs[i].dtype, set->specs[i].shape));
    return bytes;
}

Status checkpoint_sets_assign(CheckpointSets *sets, int ranks, int rank, int64_t *bytes)
{
    int64_t file = 0;
    int64_t *load = calloc((size_t)ranks, sizeof *load);
    sets->writers = malloc(((size_t)sets->files + 1) * sizeof *sets->writers);
    if (!load || !sets->writers) {
        free(load);
        return status_fail(ERR_MEMORY, "checkpoint: no memory to plan its %lld files",
                           (long long)sets->files);
    }
    for (int k = 0; k < sets->count; k++)
        for (int64_t f = 0; f < sets->items[k].plan.files; f++, file++) {
            int least = 0;
            for (int r = 1; r < ranks; r++)
                if (load[r] < load[least]) least = r;
            load[least] += checkpoint_set_bytes(&sets->items[k], f);
            sets->writers[file] = least;
        }
    if (bytes) *bytes = load[rank];
    free(load);
    return OK;
}

Range checkpoint_set_part(const CheckpointSet *set, const Param *param, int64_t elements, int part)
{
    const int64_t place = param->bucket_place;
    if (!set->shards) return (Range){ 0, elements };
    const Range shard = bucket_shard(param->bucket_count, part, set->shards->size);
    Range r = range_overlap((Range){ place, elements }, shard);
    r.first -= place;
    return r;
}

static Status fill(CheckpointSet *set, const ParamList *params, int64_t max_file_bytes)
{
    const size_t most = (size_t)params->count + 1;
    set->params = malloc(most * sizeof *set->params);
    set->names = malloc(most * sizeof *set->names);
    set->specs = malloc(most * sizeof *set->specs);
    CHECK(set->params && set->names && set->specs, ERR_MEMORY,
          "checkpoint: no memory to plan %s/%s", set->folder, set->base);
    for (int64_t i = 0; i < params->count; i++) {
        const Param *param = &params->items[i];
        if (!set->prefix && param->component != set->component) continue;
        const int64_t k = set->count++;
        (void)snprintf(set->names[k], sizeof set->names[k], "%s%s%s",
                       set->prefix ? component_folder(param->component) : "",
                       set->prefix ? "." : "", param->name);
        set->params[k] = param;
        set->specs[k] = (SafetensorsSpec){ set->names[k], F32, param->shape };
    }
    return safetensors_plan(set->specs, set->count, max_file_bytes, &set->plan);
}

static Status add(CheckpointSets *sets, const ParamList *params, CheckpointSet set,
                  int64_t max_file_bytes)
{
    CheckpointSet *slot = &sets->items[sets->count];
    *slot = set;
    sets->count++;
    TRY(fill(slot, params, max_file_bytes));
    sets->files += slot->plan.files;
    return OK;
}

static Status add_models(CheckpointSets *sets, const CheckpointState *state, Tensor flat,
                         const BucketShards *shards, const char *suffix, int64_t max_file_bytes)
{
    const bool text = state->model->config.text.num_layers > 0;
    for (int c = 0; c < COMPONENT_COUNT; c++) {
        if (c == COMPONENT_TEXT_ENCODER && !text) continue;
        CheckpointSet set = { .component = (Component)c, .flat = flat, .shards = shards };
        set.base = model_dir_base(set.component);
        (void)snprintf(set.folder, sizeof set.folder, "%s%s",
                       model_base_folder(state->model, set.component), suffix);
        TRY(add(sets, state->params, set, max_file_bytes));
    }
    return OK;
}

static Status add_all(CheckpointSets *sets, const CheckpointState *state, int64_t max_file_bytes)
{
    const CheckpointSet first = { .folder = "optimizer",
                                  .base = "exp_avg",
                                  .prefix = true,
                                  .flat = state->exp_avg,
                                  .shards = state->shards };
    const CheckpointSet second = { .folder = "optimizer",
                                   .base = "exp_avg_sq",
                                   .prefix = true,
                                   .flat = state->exp_avg_sq,
                                   .shards = state->shards };
    TRY(add_models(sets, state, state->weights, NULL, "", max_file_bytes));
    if (tensor_count(state->ema) > 0) /* a plan has no data */
        TRY(add_models(sets, state, state->ema, state->shards, "_ema", max_file_bytes));
    TRY(add(sets, state->params, first, max_file_bytes));
    return add(sets, state->params, second, max_file_bytes);
}

Status checkpoint_sets_create(const CheckpointState *state, int64_t max_file_bytes,
                              CheckpointSets *out)
{
    *out = (CheckpointSets){ 0 };
    const Status s = add_all(out, state, max_file_bytes);
    if (s != OK) checkpoint_sets_destroy(out);
    return s;
}
