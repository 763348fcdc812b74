/*
 * checkpoint_pieces: who reads which bytes of a checkpoint, and when. Pure arithmetic.
 *
 * The tensors of all sets fall into pieces, ranges of a file of at most a quarter of the read
 * buffer (one row of a tensor cut along an inner dimension, where that is longer). Every byte is in
 * exactly one piece, and a piece has one reader, a rank that wants some of it: the one with the
 * least to read so far. All ranks of a stage make the same list; stages have nothing in common.
 *
 * Ranks read at the same time, in rounds: a reader's pieces of one round fill its buffer once. A
 * piece that nobody else wants (moments and averages with shards) goes straight to its place and
 * has no need of the buffer; its round only says when.
 */
#ifndef ZT_TRAIN_CHECKPOINT_PIECES_H
#define ZT_TRAIN_CHECKPOINT_PIECES_H

#include "core/parallel/mesh.h"
#include "train/checkpoint_sets.h"

enum { CHECKPOINT_READ_LEAST = 16 }; /* bytes of a buffer: a piece of one element */

typedef struct CheckpointPiece {
    const CheckpointSet *set; /* view */
    const Param *param;       /* view */
    int tensor;               /* the tensor rank whose slice it is in; -1: it is in those of all */
    Range slice;              /* elements of that slice, or the same ones of each */
    Range stored;             /* elements of the whole tensor, in the order of the file */
    int gradient, seat;       /* the reader: its rank in the gradient group, in the tensor group */
    bool alone;               /* nobody but the reader wants it */
    int64_t round;
    int64_t at;     /* where in the reader's buffer, in elements; -1 when alone */
    int64_t number; /* in the order of the sets */
} CheckpointPiece;

typedef struct CheckpointPieces {
    CheckpointPiece *items; /* owned; by round, then by number */
    int64_t count;
    int64_t rounds; /* of the stage that has most: the same on every rank */
} CheckpointPieces;

/* The pieces of this rank's stage, the same whatever its other coordinates. ERR_MEMORY. */
Status checkpoint_pieces_create(const CheckpointSets *sets, const Mesh *mesh, int64_t buffer_bytes,
                                CheckpointPieces *out);
void checkpoint_pieces_destroy(CheckpointPieces *pieces);

#endif
