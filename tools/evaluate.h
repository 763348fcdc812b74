/* evaluate: held-out loss by timestep, and whether captions get their own videos. */
#ifndef ZT_TOOLS_EVALUATE_H
#define ZT_TOOLS_EVALUATE_H

#include "core/base/status.h"

/* `zoetrope evaluate ...`: argv[0] is "evaluate". Collective: every rank of the job calls it with
 * the same arguments and gets the same status. */
Status evaluate_main(int argc, char **argv);

#endif
