/* bench: training and denoise steps of the presets on made-up clips, and what moves between ranks.
 */
#ifndef ZT_TOOLS_BENCH_H
#define ZT_TOOLS_BENCH_H

#include "core/base/status.h"

/* `zoetrope bench [steps|comm] [options]`: argv[0] is "bench". Under mpirun the ranks are
 * data-parallel. Collective. */
Status bench_main(int argc, char **argv);

#endif
