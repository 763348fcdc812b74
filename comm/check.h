/*
 * check: ranks of a group compare what they are about to do. Inside comm/ only.
 *
 * A collective whose calls do not match hangs, or moves the wrong bytes. With comm.check each is
 * preceded by one all-gather of what it is, always of the same few bytes, so that this one matches
 * even where the calls do not. Messages (send, receive) are not checked: their lengths are always.
 */
#ifndef ZT_COMM_CHECK_H
#define ZT_COMM_CHECK_H

#include "comm/group_mpi.h"

/* Collective over the group. Ends the job on every rank, with the first two ranks that disagree,
 * when kind, number, count, type, detail or site of the call are not the same on all. */
void check_call(MpiGroup *mpi, const Call *call, int64_t number);

#endif
