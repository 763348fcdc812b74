/*
 * calls: what this rank is doing in each of its groups. Inside comm/ only.
 *
 * Every operation over MPI is entered here before it starts and left when it is done, by whichever
 * thread runs it; the watchdog's thread reads. It costs two short locks and two looks at the clock
 * a call, no memory and no system call.
 */
#ifndef ZT_COMM_CALLS_H
#define ZT_COMM_CALLS_H

#include "core/base/tensor.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum { MAX_GROUPS = 256 }; /* the world and one an axis for each mesh */

typedef enum CallKind {
    CALL_ALL_REDUCE,
    CALL_BROADCAST,
    CALL_ALL_GATHER,
    CALL_ALL_GATHER_V,
    CALL_REDUCE_SCATTER_V,
    CALL_ALL_TO_ALL_V,
    CALL_RECEIVE, /* this and the next wait for one peer */
    CALL_WAIT,
    CALL_AGREE,
    CALL_BARRIER,
    CALL_SPLIT,
    CALL_FINISH,
    CALL_KINDS
} CallKind;

typedef struct Call {
    CallKind kind;
    DType dtype;
    int64_t count;    /* elements; 0: none, or ranks differ on purpose */
    int64_t detail;   /* of a collective: its root, or a hash of the ranks' parts */
    int peer;         /* CALL_RECEIVE, CALL_WAIT: rank of the group; else -1 */
    const char *site; /* "file:line" */
    /* set by calls_enter: */
    int64_t number; /* from 1, in the group: of its collectives, or of its waits for a peer */
    double since_s; /* clock_seconds */
    bool active, in_main;
} Call;

typedef struct CallGroup {
    const char *name; /* view */
    int size;
    int *members;               /* owned; (size) ranks of the world */
    int64_t collectives, waits; /* entered so far */
    Call call;                  /* the last entered */
} CallGroup;

typedef struct Calls {
    pthread_mutex_t lock; /* of all below */
    CallGroup groups[MAX_GROUPS];
    int count;
    pthread_t main;  /* the thread that made this */
    bool main_waits; /* for what another thread of this rank has under way */
    double main_waits_since_s, waited_s;
    int64_t step;
} Calls;

/* "all-reduce". */
const char *call_kind_name(CallKind kind);

void calls_init(Calls *calls);
void calls_destroy(Calls *calls);
/* Takes `members` over. Returns the index of the group, the same on every rank that makes the same
 * groups in the same order. */
int calls_add_group(Calls *calls, const char *name, int size, int *members);

/* Returns the call's number. */
int64_t calls_enter(Calls *calls, int group, const Call *call);
void calls_leave(Calls *calls, int group);
/* The main thread waits for, and goes on after, another thread's calls. */
void calls_main_waits(Calls *calls);
void calls_main_goes_on(Calls *calls);

/* Index of the next group, in a circle after `after`, whose call began before before_s; -1: none.
 */
int calls_overdue(Calls *calls, double before_s, int after);
/* Index of the group in whose call the main thread waits, itself or for another thread; -1: it
 * works. */
int calls_of_main(Calls *calls);
CallGroup calls_group(Calls *calls, int group);
/* Seconds that the main thread has waited in calls so far. */
double calls_waited_s(Calls *calls);
void calls_set_step(Calls *calls, int64_t step);
int64_t calls_step(Calls *calls);

#endif
