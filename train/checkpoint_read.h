/*
 * checkpoint_read: the tensors of a checkpoint into the buffers of all ranks, each byte of them
 * read once.
 *
 * The mirror image of train/checkpoint_write.h: every rank walks the same list of pieces
 * (train/checkpoint_pieces.h) in the same order. In each round all ranks read at the same time,
 * each its own pieces, and agree that they could; then they hand them on. A piece in the slices of
 * all tensor ranks is broadcast over the reader's tensor group, and each keeps its columns. What
 * all replicas have (weights) is then broadcast over the gradient group; of what is sharded each
 * owner is sent its part, or reads it itself where nobody else wants it. So what cannot be read on
 * one rank is an error on every rank in the round in which it was found, nothing of that round was
 * handed on, and nobody waits.
 *
 * Memory: a buffer for a round's own pieces and one for another rank's piece on its way, at most
 * 5/4 of `buffer_bytes` together (CHECKPOINT_READ_BYTES: 80 MiB), less where there is less to read;
 * each has room for a row of a tensor cut along an inner dimension at least, however long.
 *
 * Names, shapes and offsets (the files' headers and indices) are read and checked by every rank.
 */
#ifndef ZT_TRAIN_CHECKPOINT_READ_H
#define ZT_TRAIN_CHECKPOINT_READ_H

#include "train/checkpoint_sets.h"

enum { CHECKPOINT_READ_BYTES = 64 << 20 };

/* Collective over the world. Fills the sets' buffers from the files below `folder`, which were
 * verified. The same status on every rank; the buffers hold anything after an error. *bytes: of
 * tensors that this rank read. */
Status checkpoint_read(Comm *comm, const MeshGroups *groups, const CheckpointSets *sets,
                       const ParamList *params, const char *folder, int64_t buffer_bytes,
                       int64_t *bytes);

#endif
