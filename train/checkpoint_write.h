/*
 * checkpoint_write: streams the tensors of all ranks into files, each file with one writer.
 *
 * Every rank walks the same list of tensors in the same order. The ranks of data replica 0 that own
 * a piece send it straight from their flat buffer; the writer receives into one bounded buffer,
 * puts the pieces in place and hashes as it writes. A writer whose disk fails goes on receiving, so
 * that nobody waits for it; the failure is agreed on afterwards.
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
