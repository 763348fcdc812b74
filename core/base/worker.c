#include "core/base/worker.h"

#include <string.h>
#include <sys/resource.h>

enum { NICE_BESIDE = 10 }; /* a tenth of the weight of others, in Linux's scheduler */

static void *run(void *argument)
{
    Worker *worker = argument;
    /* of this thread: Linux has no other; what it refuses costs no more than time */
    if (worker->beside) (void)setpriority(PRIO_PROCESS, 0, NICE_BESIDE);
    status_keep(&worker->answer, worker->task(worker->context));
    atomic_store(&worker->done, true);
    return NULL;
}

Status worker_start(Worker *worker, bool beside, Status (*task)(void *context), void *context)
{
    worker->task = task;
    worker->beside = beside;
    worker->context = context;
    worker->answer = (KeptStatus){ 0 };
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
    return status_kept(&worker->answer);
}
