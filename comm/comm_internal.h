/* What the files of comm/ share of Comm. */
#ifndef ZT_COMM_COMM_INTERNAL_H
#define ZT_COMM_COMM_INTERNAL_H

#include "comm/comm.h"
#include "comm/group_mpi.h"

enum { MAX_GROUPS = 512 }; /* the world and one an axis for each mesh */

struct Comm {
    bool mpi; /* MPI runs; otherwise a world of one */
    int rank, size, local_rank, local_size;
    Group self;                   /* every group of a world without MPI */
    MpiGroup *groups[MAX_GROUPS]; /* owned; the world first; empty without MPI */
    int group_count;
};

#endif
