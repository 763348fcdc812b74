#include "train/state_plan.h"

#include "train/state.h"

/* Of the smallest clip, in patches: each sequence rank needs one at least. */
static int64_t fewest_tokens(BucketList sizes, int64_t fewest)
{
    for (int64_t i = 0; i < sizes.count; i++) {
        const int64_t tokens = sizes.items[i].tokens;
        if (fewest == 0 || tokens < fewest) fewest = tokens;
    }
    return fewest;
}

MeshLimits train_mesh_limits(const TrainConfig *c, BucketList train, BucketList heldout)
{
    return (MeshLimits){ .heads = c->model.dit.num_attention_heads,
                         .ffn_dim = c->model.dit.ffn_dim,
                         .layers = c->model.dit.num_layers,
                         .batch = c->data.batch,
                         .chunks = train_exact_chunks(c),
                         .tokens = fewest_tokens(heldout, fewest_tokens(train, 0)) };
}

/* The VAE that renders samples, where it is here; a linear codec takes nothing. */
static Status count_codec(const TrainConfig *c, Codec *out)
{
    bool there;
    if (c->train.sample_every == 0 || c->codec != CODEC_WAN) return OK;
    TRY(codec_find_vae(c->codec_vae, &there));
    return there ? codec_load_vae(c->codec_vae, WAN_DECODES | WAN_COUNTS, out) : OK;
}

Status state_plan_rank(const StatePlan *plan, const Mesh *mesh, RankMemory *memory,
                       TrainTraffic *traffic)
{
    Group storage[MESH_AXES];
    TrainState s = { .config = plan->config,
                     .train_sizes = plan->train_sizes,
                     .heldout_sizes = plan->heldout_sizes,
                     .condition = CONDITION_FIRST /* the others are as large */ };
    Status status = OK;
    s.groups = mesh_groups_described(mesh, storage);
    TRY(train_device_open(&plan->config, plan->threads, &s.device));
    s.device.counting = true;
    TRY_TO(done, status, count_codec(&plan->config, &s.codec));
    TRY_TO(done, status, train_state_reserve(&s));
    TRY_TO(done, status, train_state_memory(&s, memory));
    if (traffic) TRY_TO(done, status, train_traffic(&s, traffic));
done:
    train_state_destroy(&s);
    return status;
}
