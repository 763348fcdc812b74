/* inspect: what a dataset, a run, a checkpoint, a model directory or a safetensors file holds. */
#ifndef ZT_TOOLS_INSPECT_H
#define ZT_TOOLS_INSPECT_H

#include "core/base/status.h"

/* `zoetrope inspect PATH [--json] [--digest] [--quick]`: argv[0] is "inspect". Facts go to standard
 * output, all or none. Not collective. */
Status inspect_main(int argc, char **argv);

#endif
