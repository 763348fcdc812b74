/* worker: one task on a thread of its own, whose answer is asked for later. */
#ifndef ZT_CORE_BASE_WORKER_H
#define ZT_CORE_BASE_WORKER_H

#include "core/base/status.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

typedef struct Worker {
    pthread_t thread;
    bool started, beside;
    atomic_bool done;
    Status (*task)(void *context);
    void *context; /* view */
    KeptStatus answer;
} Worker;

/* The worker is zero or joined. beside: it gets the cores that others leave, and about a tenth of
 * one that they do not. ERR_MEMORY: there is no thread to be had, nothing was started. */
Status worker_start(Worker *worker, bool beside, Status (*task)(void *context), void *context);
/* Does not wait. True too when nothing was started. */
bool worker_done(const Worker *worker);
/* Waits. The task's status, with its message; OK when nothing was started. */
Status worker_join(Worker *worker);

#endif
