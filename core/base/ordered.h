/*
 * ordered: items worked on by several threads, finished in order.
 *
 * Work runs side by side; what a work function does after ordered_wait runs one item at a time, in
 * the order of the items. The first failure in that order is the answer, as in a plain loop.
 */
#ifndef ZT_CORE_BASE_ORDERED_H
#define ZT_CORE_BASE_ORDERED_H

#include "core/base/status.h"

#include <stdint.h>

typedef struct Ordered Ordered;

/* worker: 0 .. workers - 1, for scratch of its own. Runs with one OpenMP thread. */
typedef Status (*OrderedWork)(Ordered *order, void *context, int worker, int64_t item);

/* Runs `work` for items 0 .. count - 1. Items after a failed one may not run at all. */
Status ordered_run(int64_t count, int workers, OrderedWork work, void *context);
/* Within `work`: waits until every earlier item has finished. May be called again. Once an earlier
 * item has failed, the answer is an error that is to be passed on. */
Status ordered_wait(Ordered *order, int64_t item);

#endif
