/*
 * checkpoint_stream: brings the tensors of all ranks to the ranks that write them.
 *
 * Every rank walks the same list of tensors in the same order. A tensor has a piece a tensor rank,
 * and a piece a part for each rank of the gradient group that owns elements of it (all of it lies
 * on the first when the set has no shards). Owners send parts straight from their buffers; the
 * writer receives into one buffer of the largest piece, puts them in place and copies them into its
 * ring (train/checkpoint_files.h), waiting there for the disk when it is full.
 */
#ifndef ZT_TRAIN_CHECKPOINT_STREAM_H
#define ZT_TRAIN_CHECKPOINT_STREAM_H

#include "comm/comm.h"
#include "core/base/ring.h"
#include "train/checkpoint_sets.h"

/* Collective over the world. When it returns, nothing of the tensors is needed any longer. The same
 * status on every rank; that of files is their writers' own. */
Status checkpoint_stream(Comm *comm, const Mesh *mesh, const CheckpointSets *sets, Ring *ring);

#endif
