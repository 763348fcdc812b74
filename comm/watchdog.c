#include "comm/watchdog.h"

#include "comm/inquiry.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 1024 };
enum { ASK_TAG = 1, ANSWER_TAG, VERDICT_TAG };

static const double TICK_S = 0.05;        /* between looks */
static const double ASKED_TICK_S = 0.005; /* while answers are due */
static const double ANSWER_S = 0.8;       /* a thread that runs answers in two ticks */
static const double HOLD_S = 1.2;         /* longer than those that find a culprit need to say so */
static const double GRACE_S = 0.4;        /* for every rank to log before the job ends */
static const double AWAY_S = 1.0; /* a look so late was stopped itself, with its whole job */

/* "Who of you has come to this call of this group?" */
typedef struct Ask {
    int32_t id, group;
} Ask;

/* A message on its way: what it says must stay. */
typedef struct Outgoing {
    MPI_Request request;
    char bytes[MESSAGE_BYTES];
} Outgoing;

struct Watchdog {
    MPI_Comm comm; /* owned; only the thread uses it */
    int rank, size;
    Calls calls;
    pthread_t thread;
    atomic_bool ending, check;
    _Atomic double timeout_s;

    pthread_mutex_t told_lock;
    Verdict told; /* by another thread of this rank; line empty: nothing */

    /* the thread's own */
    Outgoing *outgoing; /* owned; (outgoing_count) */
    int outgoing_count;
    bool asking;
    Ask question;
    Inquiry inquiry; /* what is asked, and what the ranks say */
    double asked_s, again_s;
    double present_s; /* ages count from here: before it, this process was stopped */
    double looked_s;
    double locked_s[MAX_GROUPS];     /* since when a group's call waits only for ranks that wait */
    int64_t locked_call[MAX_GROUPS]; /* which call that was */
};

static void nap(double seconds)
{
    const struct timespec t = { .tv_nsec = (long)(seconds * 1e9) };
    (void)nanosleep(&t, NULL);
}

static double age_of(const Watchdog *w, double since_s)
{
    return clock_seconds() - (since_s > w->present_s ? since_s : w->present_s);
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Lost when too much is under way: who asks asks again. */
static void post(Watchdog *w, int to, int tag, const void *bytes, size_t count)
{
    for (int i = 0; i < w->outgoing_count; i++) {
        Outgoing *o = &w->outgoing[i];
        int done = 0;
        if (MPI_Test(&o->request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || !done) continue;
        memcpy(o->bytes, bytes, count);
        (void)MPI_Isend(o->bytes, (int)count, MPI_BYTE, to, tag, w->comm, &o->request);
        return;
    }
}

static void answer(Watchdog *w, int to, const Ask *ask)
{
    const CallGroup group = calls_group(&w->calls, ask->group);
    Answer a = { .id = ask->id,
                 .collectives = group.collectives,
                 .active = group.call.active,
                 .kind = (int32_t)group.call.kind,
                 .dtype = (int32_t)group.call.dtype,
                 .count = group.call.count,
                 .age_s = age_of(w, group.call.since_s) };
    inquiry_describe(&group, a.here);
    const int waiting = calls_of_main(&w->calls);
    if (waiting >= 0) {
        const CallGroup other = calls_group(&w->calls, waiting);
        a.waits = 1;
        a.waits_s = age_of(w, other.call.since_s);
        inquiry_describe(&other, a.doing);
    }
    post(w, to, ANSWER_TAG, &a, sizeof a);
}

/* Logs the line here, tells the others and ends the job. */
static void end_job(Watchdog *w, const Verdict *v) __attribute__((noreturn));
static void end_job(Watchdog *w, const Verdict *v)
{
    if (v->culprit != w->rank) log_error("rank %d: %s", w->rank, v->line);
    for (int i = 0; i < w->size; i++)
        if (i != w->rank) post(w, i, VERDICT_TAG, v, sizeof *v);
    /* others log meanwhile; looking at the messages moves them */
    for (const double end_s = clock_seconds() + GRACE_S; clock_seconds() < end_s;) {
        int flag = 0;
        (void)MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->comm, &flag, MPI_STATUS_IGNORE);
        nap(ASKED_TICK_S);
    }
    const int code = status_exit_code(ERR_COMM);
    (void)MPI_Abort(MPI_COMM_WORLD, code);
    _exit(code);
}

static void take(Watchdog *w, const MPI_Status *from, const char bytes[MESSAGE_BYTES])
{
    Ask ask;
    Answer a;
    Verdict v;
    switch (from->MPI_TAG) {
    case ASK_TAG:
        memcpy(&ask, bytes, sizeof ask);
        answer(w, from->MPI_SOURCE, &ask);
        break;
    case ANSWER_TAG:
        memcpy(&a, bytes, sizeof a);
        if (!w->asking || a.id != w->question.id) break;
        w->inquiry.answers[from->MPI_SOURCE] = a;
        w->inquiry.asked[from->MPI_SOURCE] = false;
        break;
    case VERDICT_TAG: memcpy(&v, bytes, sizeof v); end_job(w, &v);
    default: break;
    }
}

static void take_messages(Watchdog *w)
{
    char bytes[MESSAGE_BYTES];
    for (;;) {
        MPI_Status status;
        int there = 0;
        const int code = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, w->comm, &there, &status);
        if (code != MPI_SUCCESS || !there) return;
        if (MPI_Recv(bytes, sizeof bytes, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, w->comm,
                     &status) != MPI_SUCCESS)
            return;
        take(w, &status, bytes);
    }
}

/* ---- who is to blame ------------------------------------------------------------------------- */

static void ask(Watchdog *w, int group)
{
    w->inquiry.about = calls_group(&w->calls, group);
    w->question = (Ask){ .id = w->question.id + 1, .group = group };
    w->asked_s = clock_seconds();
    w->asking = true;
    memset(w->inquiry.asked, 0, (size_t)w->size * sizeof *w->inquiry.asked);
    for (int i = 0; i < w->inquiry.about.size; i++) {
        if (!inquiry_concerns(&w->inquiry, i)) continue;
        w->inquiry.asked[w->inquiry.about.members[i]] = true;
        post(w, w->inquiry.about.members[i], ASK_TAG, &w->question, sizeof w->question);
    }
}

static bool answers_are_due(const Watchdog *w)
{
    if (clock_seconds() - w->asked_s > ANSWER_S) return false;
    for (int i = 0; i < w->size; i++)
        if (w->inquiry.asked[i]) return true;
    return false;
}

/* Whether all that the call waits for have waited themselves for the whole timeout, and so for a
 * while: then no other rank is going to name somebody else. */
static bool is_locked(Watchdog *w, const Cast *cast)
{
    const int g = w->question.group;
    const int64_t number = w->inquiry.about.call.number;
    const double timeout_s = atomic_load(&w->timeout_s), now = clock_seconds();
    const Part part = cast->count[WAITS] > 0 ? WAITS : IN_CALL;
    /* one that waits here and there, each time a little, has left this call behind */
    const bool lost = part == WAITS && age_of(w, w->inquiry.about.call.since_s) > 2 * timeout_s;
    if (cast->least_s[part] < timeout_s && !lost) {
        w->locked_call[g] = 0;
        return false;
    }
    if (w->locked_call[g] != number) {
        w->locked_call[g] = number;
        w->locked_s[g] = now;
    }
    return now - w->locked_s[g] > HOLD_S;
}

static void judge(Watchdog *w)
{
    const CallGroup group = calls_group(&w->calls, w->question.group);
    w->asking = false;
    w->again_s = clock_seconds() + 4 * TICK_S;
    /* it has gone on while answers were due */
    if (!group.call.active || group.call.number != w->inquiry.about.call.number ||
        group.call.kind != w->inquiry.about.call.kind)
        return;
    const Cast cast = inquiry_cast(&w->inquiry);
    /* a rank that waits itself is to blame only when everybody does */
    const bool locked = is_locked(w, &cast);
    int part = PARTS - 1;
    while (cast.count[part] == 0) part--;
    if (part <= WAITS && !locked) return;
    const Verdict verdict =
        inquiry_verdict(&w->inquiry, &cast, (Part)part, age_of(w, w->inquiry.about.call.since_s),
                        calls_step(&w->calls));
    end_job(w, &verdict);
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void look(Watchdog *w)
{
    const double timeout_s = atomic_load(&w->timeout_s), now = clock_seconds();
    if (timeout_s <= 0 || now < w->again_s || now - w->present_s < timeout_s) return;
    const int group = calls_overdue(&w->calls, now - timeout_s, w->question.group);
    if (group >= 0) ask(w, group);
}

/* A job that was suspended as a whole must not find all its calls overdue when it goes on. */
static void notice_absence(Watchdog *w)
{
    const double now = clock_seconds();
    if (now - w->looked_s > AWAY_S) {
        w->present_s = now;
        w->asking = false;
    }
    w->looked_s = now;
}

static void end_if_told(Watchdog *w)
{
    (void)pthread_mutex_lock(&w->told_lock);
    const Verdict told = w->told;
    (void)pthread_mutex_unlock(&w->told_lock);
    if (told.line[0]) end_job(w, &told);
}

static void *run(void *argument)
{
    Watchdog *w = argument;
    w->looked_s = clock_seconds();
    while (!atomic_load(&w->ending)) {
        notice_absence(w);
        take_messages(w);
        end_if_told(w);
        if (!w->asking)
            look(w);
        else if (!answers_are_due(w))
            judge(w);
        nap(w->asking ? ASKED_TICK_S : TICK_S);
    }
    return NULL;
}

/* The signals of the job are the main thread's. */
static int start_thread(Watchdog *w)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    const int code = pthread_create(&w->thread, NULL, run, w);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

/* ---- for the others -------------------------------------------------------------------------- */

static void release(Watchdog *w)
{
    if (w->comm != MPI_COMM_NULL) (void)MPI_Comm_free(&w->comm);
    calls_destroy(&w->calls);
    (void)pthread_mutex_destroy(&w->told_lock);
    free(w->inquiry.hosts);
    free(w->outgoing);
    free(w->inquiry.answers);
    free(w->inquiry.asked);
    free(w);
}

static Status learn_hosts(Watchdog *w)
{
    char host[HOST_BYTES] = "";
    (void)gethostname(host, sizeof host - 1);
    const int code =
        MPI_Allgather(host, HOST_BYTES, MPI_CHAR, w->inquiry.hosts, HOST_BYTES, MPI_CHAR, w->comm);
    CHECK(code == MPI_SUCCESS, ERR_COMM, "MPI_Allgather of host names failed with code %d", code);
    return OK;
}

Status watchdog_create(MPI_Comm world, Watchdog **out)
{
    int size = 1;
    Watchdog *w = calloc(1, sizeof *w);
    CHECK(w, ERR_MEMORY, "no memory for the watchdog");
    w->comm = MPI_COMM_NULL;
    calls_init(&w->calls);
    (void)pthread_mutex_init(&w->told_lock, NULL);
    (void)MPI_Comm_rank(world, &w->rank);
    (void)MPI_Comm_size(world, &size);
    w->size = size;
    w->inquiry.rank = w->rank;
    w->outgoing_count = 2 * size + 16;
    w->inquiry.hosts = calloc((size_t)size, sizeof *w->inquiry.hosts);
    w->outgoing = calloc((size_t)w->outgoing_count, sizeof *w->outgoing);
    w->inquiry.answers = calloc((size_t)size, sizeof *w->inquiry.answers);
    w->inquiry.asked = calloc((size_t)size, sizeof *w->inquiry.asked);
    Status s = OK;
    CHECK_TO(fail, s, w->inquiry.hosts && w->outgoing && w->inquiry.answers && w->inquiry.asked,
             ERR_MEMORY, "no memory for the watchdog of %d ranks", size);
    for (int i = 0; i < w->outgoing_count; i++) w->outgoing[i].request = MPI_REQUEST_NULL;
    int code = MPI_Comm_dup(world, &w->comm);
    CHECK_TO(fail, s, code == MPI_SUCCESS, ERR_COMM, "MPI_Comm_dup failed with code %d", code);
    (void)MPI_Comm_set_errhandler(w->comm, MPI_ERRORS_RETURN);
    TRY_TO(fail, s, learn_hosts(w));
    code = start_thread(w);
    CHECK_TO(fail, s, code == 0, ERR_MEMORY, "the watchdog's thread could not be started: error %d",
             code);
    *out = w;
    return OK;
fail:
    release(w);
    return s;
}

void watchdog_destroy(Watchdog *watchdog)
{
    if (!watchdog) return;
    atomic_store(&watchdog->ending, true);
    (void)pthread_join(watchdog->thread, NULL);
    /* questions and answers that came too late for anybody */
    for (int i = 0; i < watchdog->outgoing_count; i++)
        if (watchdog->outgoing[i].request != MPI_REQUEST_NULL)
            (void)MPI_Request_free(&watchdog->outgoing[i].request);
    release(watchdog);
}

void watchdog_set_timeout(Watchdog *watchdog, double timeout_s)
{
    atomic_store(&watchdog->timeout_s, timeout_s);
}

void watchdog_set_check(Watchdog *watchdog, bool check)
{
    atomic_store_explicit(&watchdog->check, check, memory_order_relaxed);
}

bool watchdog_checks(const Watchdog *watchdog)
{
    return atomic_load_explicit(&watchdog->check, memory_order_relaxed);
}

Calls *watchdog_calls(Watchdog *watchdog)
{
    return &watchdog->calls;
}

const char *watchdog_host(const Watchdog *watchdog, int rank)
{
    return watchdog->inquiry.hosts[rank];
}

void watchdog_end_job(Watchdog *watchdog, const char *line)
{
    Verdict *told = &watchdog->told;
    (void)pthread_mutex_lock(&watchdog->told_lock);
    told->culprit = -1;
    (void)snprintf(told->line, sizeof told->line, "%s", line);
    (void)pthread_mutex_unlock(&watchdog->told_lock);
    for (;;) (void)pause();
}
