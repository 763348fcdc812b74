#include "train/heldout.h"

#include <stdlib.h>
#include <string.h>

Status heldout_shapes(const Dataset *ds, const DitConfig *config, DitShape **shapes, int *count)
{
    const int n = (int)dataset_buckets(ds);
    DitShape *out = calloc((size_t)n + 1, sizeof *out);
    CHECK(out, ERR_MEMORY, "no memory for %d shapes", n);
    for (int i = 0; i < n; i++) {
        const DatasetBucket *b = dataset_bucket(ds, i);
        out[i] = (DitShape){ 1, b->t / config->patch_size[0], b->h / config->patch_size[1],
                             b->w / config->patch_size[2] };
    }
    *shapes = out;
    *count = n;
    return OK;
}

/* Tensors of the largest clip; one clip at a time is measured. */
typedef struct Workspace {
    Arena arena;
    Tensor latents, noise, x_t, target, v; /* (1, tokens, patch) */
    Tensor sums;                           /* (clips, bins) F64: squared errors */
} Workspace;

static Status workspace_create(const Dataset *ds, int bins, Workspace *out)
{
    const int64_t clips = dataset_clips(ds);
    int64_t most = 0;
    for (int64_t i = 0; i < dataset_buckets(ds); i++) {
        const DatasetBucket *b = dataset_bucket(ds, i);
        if (b->tokens * b->patch > most) most = b->tokens * b->patch;
    }
    TRY(arena_create(&out->arena, "held-out",
                     5 * ((size_t)most * sizeof(float) + ARENA_ALIGN) +
                         (size_t)(clips * bins) * sizeof(double) + ARENA_ALIGN));
    Tensor *const tensors[] = { &out->latents, &out->noise, &out->x_t, &out->target, &out->v };
    for (int i = 0; i < 5; i++)
        TRY(tensor_alloc(&out->arena, F32, SHAPE(most), "held-out", tensors[i]));
    TRY(tensor_alloc(&out->arena, F64, SHAPE(clips, bins), "held-out sums", &out->sums));
    memset(out->sums.data, 0, (size_t)(clips * bins) * sizeof(double));
    return OK;
}

/* The first elements of a workspace tensor, as this clip's shape. */
static Tensor shaped(Tensor t, const DatasetBucket *b)
{
    return tensor_reshape(tensor_slice(t, 0, b->tokens * b->patch), SHAPE(1, b->tokens, b->patch));
}

static Status measure_clip(Velocity *velocity, Dataset *ds, int64_t clip, uint64_t seed, int bins,
                           Workspace *work, double *sums)
{
    const Dit *dit = velocity->dit;
    const int64_t *p = dit->config.dit.patch_size;
    const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
    const DitShape shape = { 1, b->t / p[0], b->h / p[1], b->w / p[2] };
    const Tensor latents = shaped(work->latents, b), noise = shaped(work->noise, b);
    const Tensor x_t = shaped(work->x_t, b), target = shaped(work->target, b);
    const Tensor v = shaped(work->v, b);
    const char *caption = dataset_caption(ds, clip, 0);
    TRY(velocity_captions(velocity, &caption, 1));
    for (int bin = 0; bin < bins; bin++) {
        float t = ((float)bin + 0.5f) / (float)bins;
        const Tensor time = tensor_of(&t, F32, SHAPE(1));
        const uint64_t id = (uint64_t)(clip * bins + bin);
        double sum = 0.0;
        TRY(op_normal(dit->dev, noise, rng_make(seed, RNG_EVAL, id), 0));
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

Status heldout_loss(Comm *comm, const MeshGroups *groups, Velocity *velocity, Dataset *ds,
                    uint64_t seed, int bins, double *losses, double *mean)
{
    const Mesh *mesh = &groups->mesh;
    Workspace work = { 0 };
    Status s = OK;
    TRY_TO(done, s, comm_agree(comm, workspace_create(ds, bins, &work)));
    double *const sums = work.sums.data;
    for (int64_t first = 0; first < dataset_clips(ds); first += mesh->shape.data) {
        const int64_t clip = first + mesh->dp;
        const bool mine = clip < dataset_clips(ds);
        if (mine) {
            const DatasetBucket *b = dataset_bucket(ds, dataset_clip(ds, clip).bucket);
            s = dataset_read_latents(
                ds, clip, dataset_clip_tokens(ds, clip),
                tensor_reshape(shaped(work.latents, b), SHAPE(b->tokens, b->patch)));
        }
        TRY_TO(done, s, comm_agree(comm, s));
        if (mine) s = measure_clip(velocity, ds, clip, seed, bins, &work, sums + clip * bins);
        /* inside the model nothing fails on one rank alone that the others could outlive */
        if (s != OK) comm_abort(comm, s);
    }
    /* all ranks of a replica hold the same sums: one of them reports; with the others' zeros the
     * all-reduce is a gather */
    if (groups->replica->rank != 0) memset(sums, 0, (size_t)tensor_count(work.sums) * sizeof *sums);
    TRY_TO(done, s, group_all_reduce(comm_world(comm), work.sums));
    find_losses(ds, sums, bins, losses, mean);
done:
    arena_destroy(&work.arena);
    return s;
}
