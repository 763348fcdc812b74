#include "comm/calls.h"

#include "core/base/clock.h"

#include <assert.h>
#include <stdlib.h>

const char *call_kind_name(CallKind kind)
{
    static const char *const names[CALL_KINDS] = {
        "all-reduce",       "broadcast",    "all-gather",        "all-gather-v",
        "reduce-scatter-v", "all-to-all-v", "receive",           "wait for a send",
        "agreement",        "barrier",      "split into groups", "end of the job",
    };
    return names[kind];
}

void calls_init(Calls *calls)
{
    *calls = (Calls){ .main = pthread_self() };
    (void)pthread_mutex_init(&calls->lock, NULL);
}

void calls_destroy(Calls *calls)
{
    for (int i = 0; i < calls->count; i++) free(calls->groups[i].members);
    (void)pthread_mutex_destroy(&calls->lock);
}

static void lock(Calls *calls)
{
    (void)pthread_mutex_lock(&calls->lock);
}

static void unlock(Calls *calls)
{
    (void)pthread_mutex_unlock(&calls->lock);
}

int calls_add_group(Calls *calls, const char *name, int size, int *members)
{
    lock(calls);
    assert(calls->count < MAX_GROUPS);
    const int index = calls->count++;
    calls->groups[index] = (CallGroup){ .name = name, .size = size, .members = members };
    unlock(calls);
    return index;
}

int64_t calls_enter(Calls *calls, int group, const Call *call)
{
    const double now = clock_seconds();
    lock(calls);
    CallGroup *g = &calls->groups[group];
    g->call = *call;
    g->call.number = call->peer < 0 ? ++g->collectives : ++g->waits;
    g->call.since_s = now;
    g->call.active = true;
    g->call.in_main = pthread_equal(pthread_self(), calls->main) != 0;
    const int64_t number = g->call.number;
    unlock(calls);
    return number;
}

void calls_leave(Calls *calls, int group)
{
    const double now = clock_seconds();
    lock(calls);
    Call *call = &calls->groups[group].call;
    call->active = false;
    if (call->in_main) calls->waited_s += now - call->since_s;
    unlock(calls);
}

void calls_main_waits(Calls *calls)
{
    const double now = clock_seconds();
    lock(calls);
    calls->main_waits = true;
    calls->main_waits_since_s = now;
    unlock(calls);
}

void calls_main_goes_on(Calls *calls)
{
    const double now = clock_seconds();
    lock(calls);
    calls->main_waits = false;
    calls->waited_s += now - calls->main_waits_since_s;
    unlock(calls);
}

int calls_overdue(Calls *calls, double before_s, int after)
{
    int found = -1;
    lock(calls);
    for (int k = 1; k <= calls->count && found < 0; k++) {
        const int i = (after + k) % calls->count;
        const Call *call = &calls->groups[i].call;
        if (call->active && call->since_s <= before_s) found = i;
    }
    unlock(calls);
    return found;
}

int calls_of_main(Calls *calls)
{
    int found = -1;
    lock(calls);
    for (int i = 0; i < calls->count; i++) {
        const Call *call = &calls->groups[i].call;
        if (!call->active || (!call->in_main && !calls->main_waits)) continue;
        if (found < 0 || call->since_s < calls->groups[found].call.since_s) found = i;
    }
    unlock(calls);
    return found;
}

CallGroup calls_group(Calls *calls, int group)
{
    lock(calls);
    const CallGroup copy = calls->groups[group];
    unlock(calls);
    return copy;
}

double calls_waited_s(Calls *calls)
{
    lock(calls);
    const double waited_s = calls->waited_s;
    unlock(calls);
    return waited_s;
}

void calls_set_step(Calls *calls, int64_t step)
{
    lock(calls);
    calls->step = step;
    unlock(calls);
}

int64_t calls_step(Calls *calls)
{
    lock(calls);
    const int64_t step = calls->step;
    unlock(calls);
    return step;
}
