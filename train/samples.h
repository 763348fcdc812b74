/*
 * samples: videos rendered during training, so that people see what the loss does not say.
 *
 * RUN/samples/step-00000600-1.mp4 and step-00000600-1.txt with its prompt, one pair for each of
 * train.sample_prompts, of the size of the dataset's first bucket, from the weights as they are.
 */
#ifndef ZT_TRAIN_SAMPLES_H
#define ZT_TRAIN_SAMPLES_H

#include "core/codec/codec.h"
#include "core/model/velocity.h"
#include "data/dataset.h"

struct TrainState;

/* What rendering needs; made at start, so that a look in passing allocates nothing large. */
typedef struct Sampling {
    Velocity velocity;  /* owned */
    DitShape shape;     /* in patches */
    Arena arena;        /* owned */
    Tensor x;           /* (1, tokens, patch) */
    CodecStream *codec; /* owned; NULL where no codec was given */
} Sampling;

/* For clips of this size. codec: all zero in a plan without its files, which then has no room for
 * it. On a counting device nothing is reserved. Not collective. ERR_MEMORY. */
Status sampling_create(const Dit *dit, const MeshGroups *groups, const Codec *codec,
                       const DatasetBucket *bucket, Sampling *out);
void sampling_destroy(Sampling *sampling);
size_t sampling_bytes(const Sampling *sampling);

/* Prompts are dealt over the data replicas. ERR_STOPPED when a signal came. Collective over the
 * world. */
Status samples_render(struct TrainState *state, int64_t step);

#endif
