#include "core/base/worker.h"

#include <stdio.h>
#include <string.h>

static void *run(void *argument)
{
    Worker *worker = argument;
    worker->status = worker->task(worker->context);
    /* the message is this thread's own: it travels with the status */
    (void)snprintf(worker->message, sizeof worker->message, "%s", status_message());
    atomic_store(&worker->done, true);
    return NULL;
}

Status worker_start(Worker *worker, Status (*task)(void *context), void *context)
{
    worker->task = task;
    worker->context = context;
    atomic_store(&worker->done, false);
    const int code = pthread_create(&worker->thread, NULL, run, worker);
    CHECK(code == 0, ERR_MEMORY, "no thread to work beside training: %s", strerror(code));
    worker->started = true;
    return OK;
}

bool worker_done(const Worker *worker)
{
    return !worker->started || atomic_load(&worker->done);
}

Status worker_join(Worker *worker)
{
    if (!worker->started) return OK;
    (void)pthread_join(worker->thread, NULL);
    worker->started = false;
    if (worker->status == OK) return OK;
    return status_fail(worker->status, "%s", worker->message);
}
