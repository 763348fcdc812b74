/*
 * velocity: the model as a function from (x, t, caption) to velocity, over the mesh.
 *
 * Serves sampling, held-out loss and samples during training. The weights are only read. Rows (the
 * prompts, with and without guidance) are the pipeline's micro-batches; without a pipeline all rows
 * go through at once. Captions are encoded once; what cross-attention makes of them, keys and
 * values of every block, is kept for every step of the sampling loop.
 */
#ifndef ZT_CORE_MODEL_VELOCITY_H
#define ZT_CORE_MODEL_VELOCITY_H

#include "core/model/dit.h"
#include "core/parallel/pipeline.h"

typedef struct Velocity {
    const Dit *dit;   /* view */
    Group *pipeline;  /* view */
    int64_t rows_max; /* rows that fit */
    int chunks;       /* virtual stages a rank */
    DitSlot *slots;   /* owned; (chunks, slot_count): micro-batches in flight */
    int slot_count;
    int64_t *counts;         /* owned; (sequence ranks): floats of each rank's tokens of a row */
    Arena scratch;           /* owned */
    Arena arena;             /* owned: messages, text and its keys */
    PipelineBuffers buffers; /* owned */
    Schedule schedule;       /* owned; of `schedule.micros` micro-batches */
    Condition condition;     /* of a micro-batch's rows: embedded text, image */
    TextKeys keys;           /* of rows_max rows */
    Tensor beside;           /* view; of velocity_condition */
} Velocity;

/* Plans for up to `rows` rows of the largest of `shapes` (their batch is ignored). ERR_MEMORY. */
Status velocity_create(const Dit *dit, Group *pipeline, const DitShape *shapes, int count,
                       int64_t rows, Velocity *out);
void velocity_destroy(Velocity *velocity);
size_t velocity_bytes(const Velocity *velocity);

/* What of it is what. */
typedef struct VelocityBytes {
    size_t activations, scratch;
    size_t messages; /* between stages */
    size_t text;     /* embedded text and images, and the keys and values made of them */
} VelocityBytes;

VelocityBytes velocity_bytes_of(const Velocity *velocity);

/* Encodes the captions of the rows to come; "" is the null caption. What was encoded is of the
 * weights of that moment. Collective over the replica. */
Status velocity_captions(Velocity *velocity, const char *const *captions, int64_t rows);

/* What a model without a text encoder of its own is told; the same on every rank. */
typedef struct VelocityCondition {
    Tensor text;   /* (rows, max_length, text_dim): zeros past a caption's end (spec 17, 5) */
    Tensor image;  /* (rows, image rows, image_dim), or none */
    Tensor beside; /* (rows, tokens, patch in - patch out): channels beside the noise (mask and
                      condition of image to video, spec 6), or none; must stay while it is used */
} VelocityCondition;

/* In place of velocity_captions. Collective over the replica. */
Status velocity_condition(Velocity *velocity, const VelocityCondition *condition, int64_t rows);
/* v (rows, tokens, patch out), the same bits on every rank of the replica; x alike; t (rows) in
 * [0, 1000); rows as in velocity_captions. shape.batch is ignored. Collective over the replica. */
Status velocity_eval(Velocity *velocity, DitShape shape, Tensor v, Tensor x, Tensor t);

/* own (rows, own tokens, patch) = this rank's part of all (rows, tokens, patch). */
Status velocity_take_own(const Velocity *velocity, DitShape shape, Tensor own, Tensor all);
/* all = the ranks' own. Collective over the sequence group. */
Status velocity_gather(const Velocity *velocity, DitShape shape, Tensor all, Tensor own);

/*
 * For loops with several timesteps under way over a pipeline of two stages or more: one row through
 * this stage, from the stage before it and on to the next. number: 0, 1, 2, ... in the order that
 * all stages go through; row: of velocity_captions.
 */
typedef struct VelocityTurn {
    int64_t number, row;
} VelocityTurn;

/* First stage: reads x (own tokens, patch) and t; last: v (own tokens, patch) = . shape.batch is 1.
 * Collective over the sequence group. */
Status velocity_pass(Velocity *velocity, DitShape shape, VelocityTurn turn, Tensor v, Tensor x,
                     float t);
/* After the last: waits until what was sent is over. */
Status velocity_pass_end(Velocity *velocity);

#endif
