/* verify: whether a checkpoint, a run's checkpoints or a dataset hold the bytes that were written,
 * and by whom a model was signed. */
#ifndef ZT_TOOLS_VERIFY_H
#define ZT_TOOLS_VERIFY_H

#include "core/base/status.h"

/* `zoetrope verify PATH [--key PUB.pem]`: argv[0] is "verify". One line on standard error for each
 * problem; ERR_FORMAT when there is any. Collective: every rank of the job calls it with the same
 * arguments and gets the same status. */
Status verify_main(int argc, char **argv);

#endif
