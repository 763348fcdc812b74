#include "core/base/ordered.h"

#include <omp.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct Ordered {
    pthread_mutex_t mutex;
    pthread_cond_t moved; /* turn has changed */
    int64_t count;
    int64_t next;       /* item that no thread has taken */
    int64_t turn;       /* every item before it has finished */
    KeptStatus failure; /* the first, in the order of the items */
    OrderedWork work;
    void *context;
};

typedef struct OrderedThread {
    pthread_t thread;
    Ordered *order;
    int worker;
} OrderedThread;

Status ordered_wait(Ordered *order, int64_t item)
{
    pthread_mutex_lock(&order->mutex);
    while (order->turn != item) pthread_cond_wait(&order->moved, &order->mutex);
    const bool failed = order->failure.status != OK;
    pthread_mutex_unlock(&order->mutex);
    return failed ? status_fail(ERR_STOPPED, "stopped: an earlier item failed") : OK;
}

/* Ends the item in its turn. */
static void finish_item(Ordered *order, int64_t item, Status s)
{
    KeptStatus own = { 0 };
    status_keep(&own, s);
    /* waiting writes a message of its own when an earlier item failed: that one stays */
    (void)ordered_wait(order, item);
    pthread_mutex_lock(&order->mutex);
    if (order->failure.status == OK) order->failure = own;
    order->turn++;
    pthread_cond_broadcast(&order->moved);
    pthread_mutex_unlock(&order->mutex);
}

static int64_t take_item(Ordered *order)
{
    pthread_mutex_lock(&order->mutex);
    const bool more = order->next < order->count && order->failure.status == OK;
    const int64_t item = more ? order->next++ : -1;
    pthread_mutex_unlock(&order->mutex);
    return item;
}

static void *work_on_items(void *argument)
{
    const OrderedThread *self = argument;
    Ordered *order = self->order;
    int64_t item;
    omp_set_num_threads(1); /* of this thread: the items are the parallelism */
    while ((item = take_item(order)) >= 0) {
        finish_item(order, item, order->work(order, order->context, self->worker, item));
    }
    return NULL;
}

Status ordered_run(int64_t count, int workers, OrderedWork work, void *context)
{
    Ordered order = { .mutex = PTHREAD_MUTEX_INITIALIZER,
                      .moved = PTHREAD_COND_INITIALIZER,
                      .count = count,
                      .work = work,
                      .context = context };
    OrderedThread *threads = calloc((size_t)workers, sizeof *threads);
    CHECK(threads, ERR_MEMORY, "no memory for %d threads", workers);
    int started = 0;
    for (; started < workers; started++) {
        threads[started] = (OrderedThread){ .order = &order, .worker = started };
        OrderedThread *t = &threads[started];
        if (pthread_create(&t->thread, NULL, work_on_items, t) != 0) break;
    }
    for (int i = 0; i < started; i++) pthread_join(threads[i].thread, NULL);
    free(threads);
    pthread_cond_destroy(&order.moved);
    pthread_mutex_destroy(&order.mutex);
    CHECK(started > 0, ERR_MEMORY, "cannot start a thread");
    return status_kept(&order.failure);
}
