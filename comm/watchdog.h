/*
 * watchdog: a thread a rank that says whom a hanging job waits for, and ends it. Inside comm/ only.
 *
 * MPI blocks and returns nothing when a rank is stopped or never comes, so this thread looks after
 * the calls of its rank (comm/calls.h). When one has taken timeout_s, it asks the ranks that the
 * call waits for, over a communicator of its own that every rank's thread answers at once, whatever
 * the rank is doing. To blame is
 *
 *     a rank that does not answer: stopped, or lost with its host;
 *     a rank that answers, has not come to the call and waits for nobody: it works too long, or has
 *     gone another way;
 *     a rank that is in another operation where this one was expected.
 *
 * A rank that waits for another one itself is not: it finds out on its own. Only when all have
 * waited so long is it said that they wait for each other. One line on every rank tells, then the
 * job ends with the code of ERR_COMM. As long as nothing hangs, nothing is sent.
 */
#ifndef ZT_COMM_WATCHDOG_H
#define ZT_COMM_WATCHDOG_H

#include "comm/calls.h"
#include "core/base/status.h"

#include <mpi.h>

typedef struct Watchdog Watchdog;

/* Collective over `world`, of which it keeps a duplicate. Watches nothing until it has a timeout.
 */
Status watchdog_create(MPI_Comm world, Watchdog **out);
/* Collective. Call when no rank waits for another any more: it answers no longer. */
void watchdog_destroy(Watchdog *watchdog);

/* Not collective. 0: never. */
void watchdog_set_timeout(Watchdog *watchdog, double timeout_s);
/* Not collective, but the same on every rank and between the same calls: whether ranks compare
 * their calls before each collective. */
void watchdog_set_check(Watchdog *watchdog, bool check);
bool watchdog_checks(const Watchdog *watchdog);
Calls *watchdog_calls(Watchdog *watchdog);
/* "node7". */
const char *watchdog_host(const Watchdog *watchdog, int rank);

/* Not collective: logs the line on every rank that still runs, then ends the job with the code of
 * ERR_COMM. Several ranks may do so at once; each logs the first line that it has. */
void watchdog_end_job(Watchdog *watchdog, const char *line) __attribute__((noreturn));

#endif
