#include "train/heldout.h"

#include "core/base/stop.h"
#include "core/codec/condition.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

Status heldout_shapes(BucketList buckets, const DitConfig *config, DitShape **shapes, int *count)
{
    const int n = (int)buckets.count;
    DitShape *out = calloc((size_t)n + 1, sizeof *out);
    CHECK(out, ERR_MEMORY, "no memory for %d shapes", n);
    for (int i = 0; i < n; i++) {
        const DatasetBucket *b = &buckets.items[i];
        out[i] = dit_shape(1, b->t / config->patch_size[0], b->h / config->patch_size[1],
                           b->w / config->patch_size[2]);
    }
    *shapes = out;
    *count = n;
    return OK;
}

/* Mask and condition of one token. */
static int64_t beside_width(const DitConfig *c)
{
    return dit_patch_in(c) - dit_patch_out(c);
}

static Status cut_condition(const DitConfig *c, Arena *arena, int64_t most, HeldoutSpace *s)
{
    const int64_t width = beside_width(c), tokens = most / dit_patch_out(c);
    s->condition = s->beside = s->image = tensor_none();
    if (width > 0) {
        TRY(tensor_alloc(arena, F32, SHAPE(most), "held-out condition", &s->condition));
        TRY(tensor_alloc(arena, F32, SHAPE(tokens * width), "held-out beside", &s->beside));
    }
    if (c->image_rows == 0) return OK;
    return tensor_alloc(arena, F32, SHAPE(1, c->image_rows, c->image_dim), "held-out image",
                        &s->image);
}

static Status cut_space(const ModelConfig *c, Arena *arena, int64_t most, int64_t sums,
                        HeldoutSpace *s)
{
    Tensor *const tensors[] = { &s->latents, &s->noise, &s->x_t, &s->target, &s->v };
    for (int i = 0; i < 5; i++) TRY(tensor_alloc(arena, F32, SHAPE(most), "held-out", tensors[i]));
    TRY(tensor_alloc(arena, F64, SHAPE(sums), "held-out sums", &s->sums));
    TRY(cut_condition(&c->dit, arena, most, s));
    if (c->text.num_layers > 0) return OK;
    return tensor_alloc(arena, F32, SHAPE(1, c->text.max_length, c->text.d_model), "held-out text",
                        &s->text);
}

Status heldout_space_create(const Dit *dit, BucketList buckets, int bins, HeldoutSpace *out)
{
    int64_t most = 0, sums = 0;
    HeldoutSpace space = { 0 };
    for (int64_t i = 0; i < buckets.count; i++) {
        const DatasetBucket *b = &buckets.items[i];
        if (b->tokens * b->patch > most) most = b->tokens * b->patch;
        sums += b->clips * bins;
    }
    Arena counting = arena_counting("held-out");
    TRY(cut_space(&dit->config, &counting, most, sums, &space));
    TRY(device_arena(dit->dev, "held-out", counting.peak, &space.arena));
    TRY(cut_space(&dit->config, &space.arena, most, sums,
                  &space)); /* cannot fail: it has just been counted */
    *out = space;
    return OK;
}

void heldout_space_destroy(HeldoutSpace *space)
{
    if (!space) return;
    arena_destroy(&space->arena);
    *space = (HeldoutSpace){ 0 };
}

/* The first elements of a workspace tensor, as this clip's shape. */
static Tensor shaped(Tensor t, const DatasetBucket *b)
{
    return tensor_reshape(tensor_slice(t, 0, b->tokens * b->patch), SHAPE(1, b->tokens, b->patch));
}

/* (1, tokens, ...): the clip's mask and condition, or none. */
static Status make_beside(const Dit *dit, const Dataset *ds, const DatasetBucket *b,
                          const HeldoutSpace *work, Tensor *out)
{
    const int64_t width = beside_width(&dit->config.dit);
    const ConditionPart part = { condition_known(dataset_info(ds)->condition), b->t,
                                 b->tokens / b->t, 0 };
    *out = tensor_none();
    if (width == 0) return OK;
    *out = tensor_reshape(tensor_slice(work->beside, 0, b->tokens * width),
                          SHAPE(1, b->tokens, width));
    return condition_place(dit->dev, *out, 0, shaped(work->condition, b), &part);
}

static Status tell_clip(Velocity *velocity, const Dataset *ds, int64_t clip, const DatasetBucket *b,
                        const HeldoutSpace *work)
{
    VelocityCondition told = { work->text, work->image, tensor_none() };
    const char *caption = dataset_caption(ds, clip, 0);
    TRY(make_beside(velocity->dit, ds, b, work, &told.beside));
    return work->text.data ? velocity_condition(velocity, &told, 1)
                           : velocity_captions(velocity, &caption, 1);
}

/* The middle of a part. */
static float time_of(const HeldoutOptions *o, int bin)
{
    return (float)(o->low + (o->high - o->low) * ((bin + 0.5) / o->bins));
}

static bool is_of(const HeldoutOptions *o, int expert, int bin)
{
    return generate_expert(o->boundary, 1000.0f * time_of(o, bin)) == expert;
}

/* In the bins of one expert, whose weights are there. */
static Status measure_clip(Velocity *velocity, Dataset *ds, int64_t clip, const HeldoutOptions *o,
                           int expert, const HeldoutSpace *work, double *sums)
{
    const Dit *dit = velocity->dit;
    const int64_t *p = dit->config.dit.patch_size;
    const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
    const DitShape shape = dit_shape(1, b->t / p[0], b->h / p[1], b->w / p[2]);
    const Tensor latents = shaped(work->latents, b), noise = shaped(work->noise, b);
    const Tensor x_t = shaped(work->x_t, b), target = shaped(work->target, b);
    const Tensor v = shaped(work->v, b);
    TRY(tell_clip(velocity, ds, clip, b, work));
    for (int bin = 0; bin < o->bins; bin++) {
        if (!is_of(o, expert, bin)) continue;
        float t = time_of(o, bin);
        const Tensor time = tensor_of(&t, F32, SHAPE(1));
        const uint64_t id = (uint64_t)(clip * o->bins + bin);
        double sum = 0.0;
        TRY(op_normal(dit->dev, noise, rng_make(o->seed, RNG_EVAL, id), 0));
        TRY(op_flow_mix(dit->dev, x_t, target, latents, noise, time));
        t *= 1000.0f;
        TRY(velocity_eval(velocity, shape, v, x_t, time));
        TRY(op_squared_error(dit->dev, tensor_of(&sum, F64, SHAPE(1)), v, target));
        sums[bin] = sum;
    }
    return OK;
}

/* Squared errors (clips, bins) to losses: clip by clip in the order of the data, whichever replica
 * has measured it, so that the sum does not know the mesh. */
static void find_losses(const Dataset *ds, const double *sums, int bins, double *losses,
                        double *mean)
{
    double elements = 0.0;
    for (int bin = 0; bin < bins; bin++) losses[bin] = 0.0;
    for (int64_t clip = 0; clip < dataset_clips(ds); clip++) {
        const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
        elements += (double)(b->tokens * b->patch);
        for (int bin = 0; bin < bins; bin++) losses[bin] += sums[clip * bins + bin];
    }
    *mean = 0.0;
    for (int bin = 0; bin < bins; bin++) {
        losses[bin] /= elements;
        *mean += losses[bin] / (double)bins;
    }
}

/* All that is measured of a clip: its latents, and what the model is told. */
static Status read_clip(Dataset *ds, int64_t clip, const HeldoutSpace *space)
{
    const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
    const Shape shape = SHAPE(b->tokens, b->patch);
    const TokenRange all = dataset_clip_tokens(ds, clip);
    TRY(dataset_read_latents(ds, clip, all, tensor_reshape(shaped(space->latents, b), shape)));
    if (space->text.data) TRY(dataset_read_text(ds, clip, 0, tensor_at(space->text, 0)));
    if (space->image.data) TRY(dataset_read_image(ds, clip, tensor_at(space->image, 0)));
    if (!space->condition.data) return OK;
    return dataset_read_condition(ds, clip, all,
                                  tensor_reshape(shaped(space->condition, b), shape));
}

/* The clips of this replica. Collective over the world. */
static Status measure_clips(Comm *comm, const MeshGroups *groups, Velocity *velocity, Dataset *ds,
                            const HeldoutOptions *o, int expert, const HeldoutSpace *space)
{
    const Mesh *mesh = &groups->mesh;
    double *sums = space->sums.data;
    Status s = OK;
    for (int64_t first = 0; first < dataset_clips(ds); first += mesh->shape.data) {
        const int64_t clip = first + mesh->dp;
        const bool mine = clip < dataset_clips(ds);
        if (mine) s = read_clip(ds, clip, space);
        TRY(comm_agree(comm, s == OK ? stop_check("measuring the held-out loss") : s));
        if (mine) s = measure_clip(velocity, ds, clip, o, expert, space, sums + clip * o->bins);
        /* inside the model nothing fails on one rank alone that the others could outlive */
        if (s != OK) comm_abort(comm, s);
    }
    return OK;
}

static bool has_bins(const HeldoutOptions *o, int expert)
{
    for (int bin = 0; bin < o->bins; bin++)
        if (is_of(o, expert, bin)) return true;
    return false;
}

Status heldout_loss(Comm *comm, const MeshGroups *groups, Velocity *velocity, HeldoutSpace *space,
                    Dataset *ds, const HeldoutOptions *o, double *losses, double *mean)
{
    const int64_t count = dataset_clips(ds) * o->bins;
    double *sums = space->sums.data;
    assert(tensor_count(space->sums) == count);
    memset(sums, 0, (size_t)count * sizeof *sums);
    for (int expert = 0; expert < 2; expert++) {
        if (!has_bins(o, expert)) continue;
        if (o->boundary > 0) TRY(comm_agree(comm, o->experts->use(o->experts->context, expert)));
        TRY(measure_clips(comm, groups, velocity, ds, o, expert, space));
    }
    /* all ranks of a replica hold the same sums: one of them reports; with the others' zeros the
     * all-reduce is a gather */
    if (groups->replica->rank != 0) memset(sums, 0, (size_t)count * sizeof *sums);
    TRY(group_all_reduce(comm_world(comm), space->sums));
    find_losses(ds, sums, o->bins, losses, mean);
    return OK;
}
