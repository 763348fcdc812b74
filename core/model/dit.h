/*
 * dit: the video transformer on one rank: its pipeline stage, its tensor slice, its tokens.
 *
 * A Dit is configuration, parameter list and views of weights and gradients. A DitSlot holds one
 * micro-batch's activations in an arena planned for the largest of the job's shapes. Stage 0 turns
 * text, timestep and patches into a message (x, e0, e, ctx); every stage runs its blocks; the last
 * makes the velocity. The backward runs the same files in reverse.
 */
#ifndef ZT_CORE_MODEL_DIT_H
#define ZT_CORE_MODEL_DIT_H

#include "core/group.h"
#include "core/model/block.h"
#include "core/model/embed.h"
#include "core/text/umt5.h"

#include <stdbool.h>

typedef struct Dit {
    const Device *dev;
    ModelConfig config;
    MeshGroups groups;      /* views */
    Recompute recompute;    /* of training */
    ParamList params;       /* owned */
    Weights weights, grads; /* owned lists of views; grads absent in inference */
    bool first, last;       /* whether this is stage 0, the last stage */
} Dit;

/* A micro-batch: grid in patches; tokens = t h w. */
typedef struct DitShape {
    int64_t batch, t, h, w;
} DitShape;

static inline int64_t dit_tokens(DitShape s)
{
    return s.t * s.h * s.w;
}

typedef struct DitSlot {
    Arena arena;    /* owned */
    DitShape shape; /* of the views below */
    bool train;     /* keeps every block's activations */
    Tensor x_t;     /* stage 0: (batch, own tokens, patch), filled by the caller */
    Tensor t;       /* stage 0: (batch) in [0, 1000), filled by the caller */
    Umt5Acts text;  /* stage 0: text.ids and text.lengths are filled by the caller */
    Tensor v;       /* last stage: (batch, own tokens, patch), the velocity in patch order */
    Tensor rope;    /* (context tokens, head_dim / 2, 2) */
    Tensor in;      /* stage 0: this stage's own message */
    EmbedActs embed;
    HeadActs head;
    BlockActs shared;  /* what recomputation makes again, block by block */
    BlockActs *blocks; /* in the arena; one when not training */
} DitSlot;

/* Plans the parameters. The configuration must have passed model_config_check. ERR_MEMORY. */
Status dit_create(const Device *dev, const ModelConfig *config, const MeshGroups *groups,
                  Recompute recompute, Dit *out);
/* Points the views into flat buffers of params.local_elements F32. grads none: inference only. */
Status dit_bind(Dit *dit, Tensor weights, Tensor grads);
void dit_destroy(Dit *dit);

/* An arena for the largest of `shapes`. ERR_MEMORY names the arena. */
Status dit_slot_create(const Dit *dit, const DitShape *shapes, int count, bool train, DitSlot *out);
/* Tells the watcher each tensor of the slot that dit_slot_create plans; reserves nothing. */
Status dit_slot_watch(const Dit *dit, const DitShape *shapes, int count, bool train,
                      const ArenaWatcher *watcher);
void dit_slot_destroy(DitSlot *slot);
/* Cuts the slot's tensors for a shape; nothing happens when it is the shape they have. */
Status dit_slot_shape(const Dit *dit, DitSlot *slot, DitShape shape);
/* Scratch bytes that forward and backward of this shape need. */
Status dit_scratch(const Dit *dit, DitShape shape, bool train, size_t *bytes);

/* This rank's own tokens of a clip, and what the layers share. */
TokenRange dit_own_tokens(const Dit *dit, DitShape shape);
LayerContext dit_context(const Dit *dit, DitShape shape, Tensor rope);

/* F32 values of a message between stages. */
int64_t dit_message_count(const Dit *dit, DitShape shape);

/* Stage 0, from slot->text.ids and lengths; not collective. Elsewhere nothing. */
Status dit_encode_text(const Dit *dit, DitSlot *slot, Arena *scratch);
/* This stage's forward. in: the received message (none on stage 0); out: the message to send (none
 * on the last stage, whose slot->v is the result). After dit_encode_text. Collective over the
 * sequence group. */
Status dit_forward(const Dit *dit, DitSlot *slot, Tensor in, Tensor out, Arena *scratch);

/* Told when a gradient bucket of params has its last contribution of this micro-batch. */
typedef struct DitWatcher {
    void *context;
    Status (*bucket_done)(void *context, int bucket);
} DitWatcher;

/* order (params.buckets): the buckets as dit_backward completes them. */
void dit_bucket_order(const Dit *dit, int *order);

/* This stage's backward. Last stage: dv (batch, own tokens, patch), dout none. Others: dout, the
 * gradient of the message sent; it is used up. din: the gradient to send back (none on stage 0). g
 * += . watcher may be NULL. Collective over the sequence group. */
Status dit_backward(const Dit *dit, DitSlot *slot, Tensor in, Tensor dv, Tensor dout, Tensor din,
                    const DitWatcher *watcher, Arena *scratch);

/* Once a step, when a bucket is whole on this rank and before it is summed over other clips and
 * context ranks: sums over the tensor group what each rank computed from its own tokens. Collective
 * over the tensor group. */
Status dit_join_bucket(const Dit *dit, Tensor grads, int bucket);

#endif
