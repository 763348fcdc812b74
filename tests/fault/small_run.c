#include "tests/fault/small_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 4 };

typedef struct Side {
    ModelDir model;
    ParamList params;
    BucketShards shards;
    CheckpointState state;
} Side;

static Tensor *buffer(CheckpointState *state, int i)
{
    Tensor *const all[BUFFERS] = { &state->weights, &state->ema, &state->exp_avg,
                                   &state->exp_avg_sq };
    return all[i];
}

/* One block of everything: few tensors, so few calls, and every kind of file. */
static Status smallest_config(ModelConfig *out)
{
    TRY(model_config_preset("tiny", out));
    out->dit.num_layers = 1;
    out->dit.num_attention_heads = 1;
    out->dit.attention_head_dim = 16;
    out->dit.ffn_dim = 16;
    out->dit.text_dim = out->text.d_model = 16;
    out->dit.freq_dim = 16;
    out->text.d_ff = 16;
    out->text.num_layers = 1;
    return OK;
}

static float value_at(Saved what, int i, int64_t n, int64_t element)
{
    const int64_t bits = (element ^ (what.step * 7)) & 0xfff;
    return (float)(2 * i + 1) * ((float)bits + (float)(n & 0x3f) * 0x1p-6f) +
           (float)(what.run - 'a');
}

static void fill_flat(const Side *side, int i, Saved what, Tensor flat)
{
    for (int64_t n = 0; n < side->params.count; n++) {
        const Tensor t = params_view(&side->params.items[n], flat);
        const int64_t count = tensor_count(t);
        float *out = tensor_f32(t);
        for (int64_t k = 0; k < count; k++) out[k] = value_at(what, i, n, k);
    }
}

/* Buffer i of that checkpoint: whole, or what this rank owns of it. `flat` is scratch. */
static void fill(const Side *side, int i, Saved what, Tensor flat, Tensor out)
{
    memset(flat.data, 0, tensor_bytes(flat));
    fill_flat(side, i, what, flat);
    if (i == 0 || !side->state.shards) {
        memcpy(out.data, flat.data, tensor_bytes(out));
        return;
    }
    for (int b = 0; b < side->shards.buckets; b++) {
        const Range own = bucket_shards_range(&side->shards, b);
        memcpy(tensor_f32(out) + side->shards.place[b], tensor_f32(flat) + own.first,
               (size_t)own.count * sizeof(float));
    }
}

static Tensor zeros(int64_t count)
{
    void *data = calloc((size_t)count + 1, sizeof(float));
    if (!data) abort();
    return tensor_of(data, F32, SHAPE(count));
}

static Status save_codec(void *context, const char *folder)
{
    char path[FILE_PATH_BYTES];
    TRY(file_join(path, folder, "config.json"));
    return file_write(path, context, strlen(context));
}

static void side_destroy(Side *side)
{
    for (int i = 0; i < BUFFERS; i++) free(buffer(&side->state, i)->data);
    bucket_shards_destroy(&side->shards);
    params_destroy(&side->params);
}

/* Moments and averages are sharded over the ranks, so that parts of every file travel. */
static Status side_create(const MeshGroups *groups, Side *side)
{
    static char codec[] = "{}";
    const Group *gradient = groups->gradient;
    *side = (Side){ .model = { .shift = 3.0 } };
    TRY(smallest_config(&side->model.config));
    TRY(params_plan(&side->model.config, &groups->mesh, &side->params));
    side->state = (CheckpointState){ .params = &side->params,
                                     .model = &side->model,
                                     .config_text = "run: {}\n",
                                     .codec_save = save_codec,
                                     .codec_context = codec };
    if (gradient->size > 1) {
        TRY(bucket_shards_create(side->params.bucket_first, side->params.buckets, gradient->rank,
                                 gradient->size, &side->shards));
        side->state.shards = &side->shards;
    }
    for (int i = 0; i < BUFFERS; i++)
        *buffer(&side->state, i) =
            zeros(i > 0 && side->state.shards ? bucket_shards_elements(&side->shards)
                                              : side->params.local_elements);
    return OK;
}

Status small_run_save(Comm *comm, const MeshGroups *groups, const char *folder, Saved what,
                      int keep)
{
    Side side;
    const CheckpointOptions options = { .run_dir = folder, .keep = keep };
    TRY(side_create(groups, &side));
    const Tensor flat = zeros(side.params.local_elements);
    side.state.progress = (CheckpointProgress){
        .step = what.step, .samples = 8 * what.step, .seed = 7, .config_digest = { what.run }
    };
    for (int i = 0; i < BUFFERS; i++) fill(&side, i, what, flat, *buffer(&side.state, i));
    const Status s = checkpoint_save(comm, groups, &side.state, &options);
    free(flat.data);
    side_destroy(&side);
    return s;
}

static Status compare(Side *side, Saved what)
{
    Status s = OK;
    const Tensor flat = zeros(side->params.local_elements);
    const Tensor wanted = zeros(side->params.local_elements);
    for (int i = 0; i < BUFFERS && s == OK; i++) {
        const Tensor found = *buffer(&side->state, i);
        Tensor part = wanted;
        part.shape[0] = tensor_count(found);
        fill(side, i, what, flat, part);
        if (memcmp(part.data, found.data, tensor_bytes(found)) != 0)
            s = status_fail(ERR_FORMAT, "step %lld: buffer %d is not what was saved",
                            (long long)what.step, i);
    }
    free(wanted.data);
    free(flat.data);
    return s;
}

Status small_run_load(Comm *comm, const MeshGroups *groups, const char *folder, Saved *found)
{
    Side side;
    bool any = false;
    *found = (Saved){ 0 };
    TRY(side_create(groups, &side));
    Status s = checkpoint_load(comm, groups, folder, &side.state, &any, NULL);
    if (s == OK && any) {
        const CheckpointProgress *p = &side.state.progress;
        *found = (Saved){ p->step, p->config_digest[0] };
        if (p->samples != 8 * p->step || p->seed != 7)
            s = status_fail(ERR_FORMAT, "step %lld: its progress is not what was saved",
                            (long long)p->step);
        if (s == OK) s = compare(&side, *found);
    }
    side_destroy(&side);
    return s;
}
