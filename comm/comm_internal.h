/* What the files of comm/ share of Comm. */
#ifndef ZT_COMM_COMM_INTERNAL_H
#define ZT_COMM_COMM_INTERNAL_H

#include "comm/comm.h"
#include "comm/group_mpi.h"
#include "comm/watchdog.h"

struct Comm {
    bool mpi; /* MPI runs; otherwise a world of one */
    int rank, size, local_rank, local_size;
    Group self;        /* every group of a world without MPI */
    MpiGroup **groups; /* owned, as are they; the world first, then one an axis for each mesh */
    int group_count;
    Watchdog *watchdog; /* owned; NULL without MPI */
};

#endif
