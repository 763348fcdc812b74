/* convert: the parts of a Wan model from one set of names, dtypes and files to another. */
#ifndef ZT_TOOLS_CONVERT_H
#define ZT_TOOLS_CONVERT_H

#include "core/base/status.h"

/* `zoetrope convert FROM TO [options]`: argv[0] is "convert". Not collective. */
Status convert_main(int argc, char **argv);

#endif
