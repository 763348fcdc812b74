/*
 * dit: the video transformer on one rank: its pipeline stages, its tensor slice, its tokens.
 *
 * A Dit is configuration, parameter list and views of weights and gradients. A DitSlot holds one
 * micro-batch's activations on one chunk of the rank, a virtual stage ("stage" below), in an arena
 * planned for the largest of the job's shapes. Stage 0 turns text, timestep and patches into a
 * message (x, e0, e, ctx); every stage runs its blocks; the last makes the velocity. The backward
 * runs the same files in reverse.
 */
#ifndef ZT_CORE_MODEL_DIT_H
#define ZT_CORE_MODEL_DIT_H

#include "core/group.h"
#include "core/model/block.h"
#include "core/model/embed.h"
#include "core/model/weight_store.h"
#include "core/text/umt5.h"

#include <stdbool.h>

typedef struct Dit {
    const Device *dev;
    Device f32; /* its twin that computes in F32 */
    ModelConfig config;
    MeshGroups groups;      /* views */
    Recompute recompute;    /* of training */
    int chunks;             /* exact numerics: canonical chunks; 0: fast */
    ParamList params;       /* owned */
    Weights weights, grads; /* owned lists of views; grads absent in inference */
    bool first, last;       /* whether this rank has stage 0 (chunk 0), the last (last chunk) */
} Dit;

/* A micro-batch: grid in patches; tokens = t h w. clean: frames at the start that are given rather
 * than made (spec 6, TI2V): their timestep is 0. Forward only. */
typedef struct DitShape {
    int64_t batch, t, h, w, clean;
} DitShape;

static inline DitShape dit_shape(int64_t batch, int64_t t, int64_t h, int64_t w)
{
    return (DitShape){ .batch = batch, .t = t, .h = h, .w = w };
}

static inline int64_t dit_tokens(DitShape s)
{
    return s.t * s.h * s.w;
}

/* Sampling: keys and values of every block's cross-attention, made once a prompt: of the text, and
 * of image tokens where the model reads them. */
typedef struct TextKeys {
    Tensor k, v;             /* (this rank's blocks, rows, text, local width) */
    Tensor image_k, image_v; /* (this rank's blocks, rows, image rows, local width), or none */
} TextKeys;

typedef struct DitSlot {
    Arena arena;       /* owned */
    int chunk;         /* of this rank: which stage */
    DitShape shape;    /* of the views below */
    bool train;        /* keeps every block's activations */
    bool split;        /* the backward leaves products to dit_weights */
    WeightGrads later; /* owned; of split */
    Tensor x_t;        /* stage 0: (batch, own tokens, patch in), filled by the caller */
    Tensor t;          /* stage 0: (batch) in [0, 1000), filled by the caller */
    Umt5Acts text; /* stage 0: text.ids and text.lengths are filled by the caller; without a text
                      encoder of the model's, text.out (batch, text, text_dim) is */
    Tensor image;  /* stage 0: (batch, image rows, image_dim), filled by the caller; or none */
    Tensor v;      /* last stage: (batch, own tokens, patch out): velocity in patch order */
    Tensor rope;   /* (context tokens, head_dim / 2, 2) */
    TextKeys keys; /* views, by the caller; absent in training: messages carry the text itself */
    int64_t row;   /* of the keys: the first of this micro-batch */
    Tensor in;     /* stage 0: this stage's own message */
    EmbedActs embed;
    HeadActs head;
    BlockActs shared;  /* what recomputation makes again, block by block */
    BlockActs *blocks; /* in the arena; one when not training */
} DitSlot;

/* Plans the parameters. chunks: of exact numerics, whose device must be exact; 0: fast. The
 * configuration must have passed model_config_check. ERR_MEMORY. */
Status dit_create(const Device *dev, const ModelConfig *config, const MeshGroups *groups,
                  Recompute recompute, int chunks, Dit *out);
/* Points the views into flat buffers of params.local_elements F32. grads none: inference only. */
Status dit_bind(Dit *dit, Tensor weights, Tensor grads);
/* Points the views into a store: inference only. Of two models of one configuration and mesh (the
 * experts of spec 6) it can be called again, for the other, and does not fail then. */
Status dit_bind_store(Dit *dit, const WeightStore *store);
void dit_destroy(Dit *dit);

typedef struct DitSlotOptions {
    const DitShape *shapes; /* all that will be cut */
    int count;
    int chunk;
    bool train, split;
} DitSlotOptions;

/* Arenas for the largest of the shapes. ERR_MEMORY names the arena. */
Status dit_slot_create(const Dit *dit, const DitSlotOptions *options, DitSlot *out);
/* Tells the watcher each activation of the slot that dit_slot_create plans; reserves nothing. */
Status dit_slot_watch(const Dit *dit, const DitSlotOptions *options, const ArenaWatcher *watcher);
void dit_slot_destroy(DitSlot *slot);
size_t dit_slot_bytes(const DitSlot *slot);
/* Whether the slot's stage is stage 0, the last. */
bool dit_slot_first(const Dit *dit, const DitSlot *slot);
bool dit_slot_last(const Dit *dit, const DitSlot *slot);
/* Cuts the slot's tensors for a shape; nothing happens when it is the shape they have. */
Status dit_slot_shape(const Dit *dit, DitSlot *slot, DitShape shape);
/* Scratch bytes that forward and backward of this shape need. */
Status dit_scratch(const Dit *dit, DitShape shape, bool train, size_t *bytes);

/* This rank's own tokens of a clip, and what the layers share. */
TokenRange dit_own_tokens(const Dit *dit, DitShape shape);
LayerContext dit_context(const Dit *dit, DitShape shape, Tensor rope);

/* F32 values of a message between stages. */
int64_t dit_message_count(const Dit *dit, DitShape shape);
/* The same in sampling: without the text, which went ahead once a prompt. */
int64_t dit_stream_count(const Dit *dit, DitShape shape);

/* Stage 0, from slot->text.ids and lengths; not collective. Elsewhere, and where the model has no
 * text encoder, nothing. */
Status dit_encode_text(const Dit *dit, DitSlot *slot, Arena *scratch);

/* Sampling. Keys and values of up to `rows` rows of text; ERR_MEMORY. A slot's views of them and
 * its row are set by the caller before all below. */
Status dit_keys_alloc(const Dit *dit, Arena *arena, int64_t rows, TextKeys *keys);
/* Points a block's cross-attention at the slot's keys and values, where it has them. */
void dit_take_keys(const DitSlot *slot, int64_t block, AttentionActs *acts);
/* Room for what a condition of `rows` rows is. */
Status dit_condition_alloc(const Dit *dit, Arena *arena, int64_t rows, Condition *condition);
/* Stage 0: condition = embedding of the slot's text and image; elsewhere nothing. */
Status dit_embed_condition(const Dit *dit, DitSlot *slot, Condition condition, Arena *scratch);
/* This rank's keys and values of it. Collective over the tensor group. */
Status dit_keys_fill(const Dit *dit, DitSlot *slot, Condition condition);

/* The slot's stage's forward. in: the received message (none on stage 0); out: the message to send
 * (none on the last stage, whose slot->v is the result). After dit_encode_text, or with the slot's
 * keys filled. Collective over the sequence group. */
Status dit_forward(const Dit *dit, DitSlot *slot, Tensor in, Tensor out, Arena *scratch);

/* Told when a gradient bucket of params has its last contribution of this micro-batch. */
typedef struct DitWatcher {
    void *context;
    Status (*bucket_done)(void *context, int bucket);
} DitWatcher;

/* order (params.buckets): the buckets as dit_backward completes them. */
void dit_bucket_order(const Dit *dit, int *order);

/* The slot's stage's backward. Last stage: dv (batch, own tokens, patch out), dout none. Others:
 * dout, the gradient of the message sent; it is used up. din: the gradient to send back; on stage 0
 * none, or the gradient of x_t. g += . watcher may be NULL. Collective over the sequence group. */
Status dit_backward(const Dit *dit, DitSlot *slot, Tensor in, Tensor dv, Tensor dout, Tensor din,
                    const DitWatcher *watcher, Arena *scratch);
/* What a split slot's backward left: g += . `in` is still what it was. Buckets are whole only after
 * it, whatever the watcher of a split slot's dit_backward is told. Not collective. */
Status dit_weights(const Dit *dit, DitSlot *slot);

/* When [first, end) of a flat gradient is whole on this rank, and before it is summed over context
 * ranks and other clips: sums over the tensor group what each rank computed from its own tokens.
 * Collective over the tensor group. */
Status dit_join(const Dit *dit, Tensor grads, int64_t first, int64_t end);

#endif
