/*
 * checkpoint_sets: which tensors a checkpoint stores, in which files, in one global order.
 *
 * A pure function of the parameter list and the file size limit, and who writes them one of the
 * number of ranks, too: every rank plans the same without a message.
 */
#ifndef ZT_TRAIN_CHECKPOINT_SETS_H
#define ZT_TRAIN_CHECKPOINT_SETS_H

#include "train/checkpoint.h"

enum { CHECKPOINT_SETS_MAX = 6, CHECKPOINT_NAME_BYTES = 160 };

/* Tensors that share a folder, a base name and a buffer. */
typedef struct CheckpointSet {
    char folder[32];            /* "transformer_ema" */
    const char *base;           /* "diffusion_pytorch_model" */
    bool prefix;                /* all components, each name after its folder's: optimizer/ */
    Component component;        /* of a set without prefix */
    const char *lora;           /* metadata of a file of low-rank changes; view, or NULL */
    Tensor flat;                /* this rank's buffer; view */
    const BucketShards *shards; /* what of it this rank has; view, NULL: all */
    int64_t count;
    const Param **params;                 /* owned; views into the list */
    char (*names)[CHECKPOINT_NAME_BYTES]; /* owned; as they stand in the file */
    SafetensorsSpec *specs;               /* owned */
    SafetensorsPlan plan;                 /* owned */
} CheckpointSet;

typedef struct CheckpointSets {
    CheckpointSet items[CHECKPOINT_SETS_MAX];
    int count;
    int64_t files; /* of all sets */
    int *writers;  /* (files) owned; NULL until checkpoint_sets_assign */
} CheckpointSets;

Status checkpoint_sets_create(const CheckpointState *state, int64_t max_file_bytes,
                              CheckpointSets *out);
void checkpoint_sets_destroy(CheckpointSets *sets);
/* Gives each file its writer: file after file, the rank that has the fewest bytes to write so far.
 * *bytes (may be NULL): of the tensors of `rank`. ERR_MEMORY. */
Status checkpoint_sets_assign(CheckpointSets *sets, int ranks, int rank, int64_t *bytes);
/* Bytes of the tensors in file f of one set. */
int64_t checkpoint_set_bytes(const CheckpointSet *set, int64_t file);
/* "transformer/diffusion_pytorch_model.safetensors": file f of one set, below the checkpoint. */
void checkpoint_set_file(const CheckpointSet *set, int64_t file, char out[512]);
/* What rank `part` of the gradient group has of a parameter whose slice on each tensor rank has so
 * many elements: a range of the slice, on whatever stage that is. All of it without shards. */
Range checkpoint_set_part(const CheckpointSet *set, const Param *param, int64_t elements, int part);

#endif
