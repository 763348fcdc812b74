/* plan: what a configuration takes, before anything is started. */
#ifndef ZT_TOOLS_PLAN_H
#define ZT_TOOLS_PLAN_H

#include "core/base/status.h"

/* `zoetrope plan CONFIG.yaml [key=value ...] [--ranks N]`: argv[0] is "plan". One process, without
 * MPI. */
Status plan_main(int argc, char **argv);

#endif
