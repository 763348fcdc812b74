/*
 * checkpoint_leftovers: what a run that was killed in a save left beside its checkpoints.
 *
 * step-N.partial is half made, or half removed: nobody's any more. step-N.old is the whole one that
 * was about to be replaced where folders cannot change places: with no step-N it is the only one.
 */
#ifndef ZT_TRAIN_CHECKPOINT_LEFTOVERS_H
#define ZT_TRAIN_CHECKPOINT_LEFTOVERS_H

#include "core/base/status.h"

/* Not collective: for rank 0, while nobody saves. Gives each step-N.old that is whole its name back
 * where there is no step-N. `checkpoints`: the run's folder of them; may be absent. */
Status checkpoint_put_back(const char *checkpoints);
/* The same. Removes all that is left, but a step-N.old without step-N that could not be read: it
 * may be whole. */
Status checkpoint_remove_leftovers(const char *checkpoints);

#endif
