/*
 * small_run: the smallest model's training state, saved and loaded, every value known.
 *
 * Buffers hold values of (step, run, buffer, parameter, element): a load proves which checkpoint it
 * was and that every element of it is there.
 */
#ifndef ZT_TESTS_FAULT_SMALL_RUN_H
#define ZT_TESTS_FAULT_SMALL_RUN_H

#include "tests/fault/process_ranks.h"
#include "train/checkpoint.h"

/* Which checkpoint: its step, and a letter that stands for the configuration of its run. */
typedef struct Saved {
    int64_t step; /* 0: none */
    char run;
} Saved;

/* Collective: on each rank of ranks_run, or alone. keep: as in CheckpointOptions. */
Status small_run_save(Comm *comm, const MeshGroups *groups, const char *folder, Saved what,
                      int keep);
/* Collective. The newest that verifies, all of it compared: ERR_FORMAT when a value is another's.
 * *found.step 0: there is none. */
Status small_run_load(Comm *comm, const MeshGroups *groups, const char *folder, Saved *found);

#endif
