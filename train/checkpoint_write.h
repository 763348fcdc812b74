/*
 * checkpoint_write: streams the tensors of all ranks into files, each file with one writer.
 *
 * Every rank walks the same list of tensors in the same order. A tensor has a piece a tensor rank,
 * and a piece a part for each rank of the gradient group that owns elements of it (all of it lies
 * on the first when the set has no shards). Owners send parts straight from their buffers; the
 * writer receives into one bounded buffer, puts them in place and hashes as it writes. A writer
 * whose disk fails goes on receiving, so that nobody waits for it; the failure is agreed on
 * afterwards.
 */
#ifndef ZT_TRAIN_CHECKPOINT_WRITE_H
#define ZT_TRAIN_CHECKPOINT_WRITE_H

#include "core/formats/manifest.h"
#include "train/checkpoint_sets.h"

/* Collective over the world. Writes all files of the sets below `folder`, whose subfolders exist.
 * The same status on every rank. *known: names, sizes and digests of them all, on every rank. */
Status checkpoint_write(Comm *comm, const Mesh *mesh, const CheckpointSets *sets,
                        const char *folder, Manifest *known);

#endif
