/* bench: a training step and a denoise step of the presets, timed on made-up clips. */
#ifndef ZT_TOOLS_BENCH_H
#define ZT_TOOLS_BENCH_H

#include "core/base/status.h"

/* `zoetrope bench [options]`: argv[0] is "bench". Under mpirun the ranks are data-parallel.
 * Collective. */
Status bench_main(int argc, char **argv);

#endif
