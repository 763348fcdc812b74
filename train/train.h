/* train: the training command. */
#ifndef ZT_TRAIN_TRAIN_H
#define ZT_TRAIN_TRAIN_H

#include "core/base/status.h"

/* `zoetrope train CONFIG.yaml [key=value ...] [--print-config]`: argv[0] is "train". Collective. */
Status train_main(int argc, char **argv);

#endif
