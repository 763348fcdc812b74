/*
 * process_ranks: comm.h over forked processes, so that a rank can be killed a thousand times.
 *
 * Starting ranks by mpirun takes 0.3 s and ending a job of which one was killed a whole second;
 * forks take a millisecond. What checkpoints call of comm.h is here over sockets, and programs of
 * tests/fault link it in place of the library's. A rank whose peer is gone ends at once, as the
 * launcher would end it: nothing after the lost message runs.
 */
#ifndef ZT_TESTS_FAULT_PROCESS_RANKS_H
#define ZT_TESTS_FAULT_PROCESS_RANKS_H

#include "comm/comm.h"

enum { RANKS_MAX = 4, RANK_LOST = 4, RANK_HUNG = 142 };

/* What one rank does; the result is its exit code. */
typedef int (*RankBody)(Comm *comm, const MeshGroups *groups, void *argument);

/* Forks `size` ranks, data parallel, and waits for all. codes (size): their exit codes, 128 +
 * signal for one that a signal ended; RANK_HUNG after limit_s. The shim, when there, is reset in
 * each. */
void ranks_run(int size, RankBody body, void *argument, unsigned limit_s, int *codes);
/* A world of one in this process. */
void rank_alone(RankBody body, void *argument);

/* Lets the shim, when it is loaded, read its variables again. */
void shim_read_variables(void);

#endif
