/*
 * heldout: the loss on clips that are not trained on, at fixed timesteps and fixed noise, so that
 * its curve moves only because the model does.
 *
 * Every clip is measured with its first wording at the middle of each of `bins` equal parts of the
 * timesteps; the noise is a function of (seed, clip, bin). Of a model with two experts each bin is
 * measured with the one that takes its timestep in sampling. Loss = sum / count over all elements,
 * clips added in the order of the data: in exact numerics the same bits on every mesh.
 */
#ifndef ZT_TRAIN_HELDOUT_H
#define ZT_TRAIN_HELDOUT_H

#include "comm/comm.h"
#include "core/model/velocity.h"
#include "core/solver/generate.h"
#include "data/dataset.h"

enum { HELDOUT_BINS = 4, HELDOUT_BINS_MAX = 64 }; /* of training; of anybody */

/* Tensors of the largest clip; one clip at a time is measured. */
typedef struct HeldoutSpace {
    Arena arena;                           /* owned */
    Tensor latents, noise, x_t, target, v; /* (values of the largest clip); views */
    Tensor sums;                           /* (clips * bins) F64: squared errors; view */
    Tensor text; /* (1, text rows, text_dim): a clip's embedded caption; view; none where the model
                    encodes captions itself */
    /* image-to-video models: views; none where the model does not read them */
    Tensor condition; /* (values of the largest clip) */
    Tensor beside;    /* (its tokens, patch in - patch out): mask and condition, as they stand */
    Tensor image;     /* (1, image rows, image_dim) */
} HeldoutSpace;

/* On a counting device nothing is reserved. Not collective. ERR_MEMORY. */
Status heldout_space_create(const Dit *dit, BucketList buckets, int bins, HeldoutSpace *out);
void heldout_space_destroy(HeldoutSpace *space);

typedef struct HeldoutOptions {
    uint64_t seed;
    int bins;         /* as the space was made for */
    double low, high; /* of the timesteps of [0, 1] that are measured */
    /* two experts that are both measured: DenoiseOptions.boundary, and who switches; or zero */
    double boundary;
    const GenerateExperts *experts;
} HeldoutOptions;

/* losses (bins) by timestep bin, *mean over all; the same on every
 * rank. Clips are dealt over the data replicas. Collective over the world; an error on any rank is
 * an error on all, ERR_STOPPED between two clips when a signal came. */
Status heldout_loss(Comm *comm, const MeshGroups *groups, Velocity *velocity, HeldoutSpace *space,
                    Dataset *ds, const HeldoutOptions *options, double *losses, double *mean);

/* Shapes of a dataset's buckets in patches, batch 1: what a Velocity for it plans. The caller frees
 * *shapes. */
Status heldout_shapes(BucketList buckets, const DitConfig *config, DitShape **shapes, int *count);

#endif
