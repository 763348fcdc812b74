/*
 * stop: SIGTERM, SIGINT and SIGUSR1 ask the run to commit a checkpoint and end with code 75.
 */
#ifndef ZT_TRAIN_STOP_H
#define ZT_TRAIN_STOP_H

#include <stdbool.h>

/* A second signal of the same kind ends the process at once, as it would without us. */
void stop_install(void);
bool stop_requested(void);

#endif
