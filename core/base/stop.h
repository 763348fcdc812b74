/*
 * stop: SIGTERM, SIGINT and SIGUSR1 ask the program to leave what it has made whole and to end with
 * code 75, "start me again".
 *
 * A signal may reach one rank and not the others: the answer is agreed on before it is acted upon.
 */
#ifndef ZT_CORE_BASE_STOP_H
#define ZT_CORE_BASE_STOP_H

#include "core/base/status.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Before threads are made and MPI is started: threads inherit what keeps signals away from them. A
 * second signal of the same kind ends the process at once, as it would without us. */
void stop_install(void);
/* Of this process. Never, where stop_install was not called. */
bool stop_requested(void);
/* ERR_STOPPED "stopped by a signal while DOING; ..." when this process was asked to. */
Status stop_check(const char *doing);

#ifdef __cplusplus
}
#endif
#endif
