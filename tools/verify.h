/* verify: whether a checkpoint, a run's checkpoints or a dataset hold the bytes that were written.
 */
#ifndef ZT_TOOLS_VERIFY_H
#define ZT_TOOLS_VERIFY_H

#include "core/base/status.h"

/* `zoetrope verify PATH`: argv[0] is "verify". One line on standard error for each problem;
 * ERR_FORMAT when there is any. Not collective. */
Status verify_main(int argc, char **argv);

#endif
