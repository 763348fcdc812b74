#include "comm/watchdog.h"

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

enum { HOST_BYTES = 64, WORDS_BYTES = 224, LINE_BYTES = 768, MESSAGE_BYTES = 1024 };
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

typedef struct Answer {
    int32_t id;
    int32_t waits;       /* the main thread is in a call */
    double waits_s;      /* for so long */
    int64_t collectives; /* of the group, entered so far */
    /* the call in that group, if one is under way */
    int32_t active, kind, dtype;
    int64_t count;
    double age_s;
    char here[WORDS_BYTES];  /* it, or the last there, in words */
    char doing[WORDS_BYTES]; /* the main thread's, in words, where it waits */
} Answer;

/* Why the job ends. */
typedef struct Verdict {
    int32_t culprit; /* knows already, or is stopped: others tell; -1: several */
    char line[LINE_BYTES];
} Verdict;

/* A message on its way: what it says must stay. */
typedef struct Outgoing {
    MPI_Request request;
    char bytes[MESSAGE_BYTES];
} Outgoing;

struct Watchdog {
    MPI_Comm comm; /* owned; only the thread uses it */
    int rank, size;
    char (*hosts)[HOST_BYTES]; /* owned; (size) */
    Calls calls;
    pthread_t thread;
    atomic_bool ending, check;
    _Atomic double timeout_s;

    pthread_mutex_t told_lock;
    Verdict told; /* by another thread of this rank; line empty: nothing */

    /* the thread's own */
    Outgoing *outgoing; /* owned; (outgoing_count) */
    int outgoing_count;
    Answer *answers; /* owned; (size) the last of each rank */
    bool *asked;     /* owned; (size) an answer is due */
    bool asking;
    Ask question;
    CallGroup about; /* the overdue call, as it was when the question was put */
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

/* ---- words ----------------------------------------------------------------------------------- */

/* "all-reduce 17 of the world group (5 F64) at train/trainer.c:42". */
static void describe(const CallGroup *group, char out[WORDS_BYTES])
{
    const Call *c = &group->call;
    char what[48] = "";
    if (c->number == 0) {
        (void)snprintf(out, WORDS_BYTES, "nothing yet in the %s group", group->name);
        return;
    }
    if (c->peer >= 0)
        (void)snprintf(what, sizeof what, " with rank %d", group->members[c->peer]);
    else if (c->count > 0)
        (void)snprintf(what, sizeof what, " (%lld %s)", (long long)c->count, dtype_name(c->dtype));
    (void)snprintf(out, WORDS_BYTES, "%s %lld of the %s group%s at %s", call_kind_name(c->kind),
                   (long long)c->number, group->name, what, c->site);
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
    describe(&group, a.here);
    const int waiting = calls_of_main(&w->calls);
    if (waiting >= 0) {
        const CallGroup other = calls_group(&w->calls, waiting);
        a.waits = 1;
        a.waits_s = age_of(w, other.call.since_s);
        describe(&other, a.doing);
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
        w->answers[from->MPI_SOURCE] = a;
        w->asked[from->MPI_SOURCE] = false;
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

/* Whether the overdue call waits for this member of its group. */
static bool concerns(const Watchdog *w, int member)
{
    const int peer = w->about.call.peer;
    return w->about.members[member] != w->rank && (peer < 0 || peer == member);
}

static void ask(Watchdog *w, int group)
{
    w->about = calls_group(&w->calls, group);
    w->question = (Ask){ .id = w->question.id + 1, .group = group };
    w->asked_s = clock_seconds();
    w->asking = true;
    memset(w->asked, 0, (size_t)w->size * sizeof *w->asked);
    for (int i = 0; i < w->about.size; i++) {
        if (!concerns(w, i)) continue;
        w->asked[w->about.members[i]] = true;
        post(w, w->about.members[i], ASK_TAG, &w->question, sizeof w->question);
    }
}

static bool answers_are_due(const Watchdog *w)
{
    if (clock_seconds() - w->asked_s > ANSWER_S) return false;
    for (int i = 0; i < w->size; i++)
        if (w->asked[i]) return true;
    return false;
}

/* What a rank has to do with the overdue call, the worst last. */
typedef enum Part {
    IN_CALL, /* as it should */
    WAITS,   /* elsewhere, for somebody */
    DIFFERS, /* in another operation where this call is expected */
    WORKS,   /* elsewhere, for itself */
    SILENT,  /* does not answer */
    PARTS
} Part;

static Part part_of(const Watchdog *w, int rank)
{
    const Call *call = &w->about.call;
    const Answer *a = &w->answers[rank];
    if (w->asked[rank]) return SILENT;
    if (call->peer >= 0 || a->collectives < call->number) return a->waits ? WAITS : WORKS;
    const bool same = a->kind == (int32_t)call->kind && a->dtype == (int32_t)call->dtype &&
                      a->count == call->count;
    return a->collectives == call->number && a->active && !same ? DIFFERS : IN_CALL;
}

/* Who plays each part: how many, the first of them, and the shortest time they have done so. */
typedef struct Cast {
    int count[PARTS], first[PARTS];
    double least_s[PARTS];
} Cast;

static Cast cast_parts(const Watchdog *w)
{
    Cast cast = { 0 };
    for (int i = 0; i < w->about.size; i++) {
        if (!concerns(w, i)) continue;
        const int rank = w->about.members[i];
        const Answer *a = &w->answers[rank];
        const Part part = part_of(w, rank);
        const double s = part == WAITS ? a->waits_s : a->active ? a->age_s : 1e9;
        if (cast.count[part]++ == 0) cast.first[part] = rank;
        if (cast.count[part] == 1 || s < cast.least_s[part]) cast.least_s[part] = s;
    }
    return cast;
}

/* What one rank does, as a line tells it: "rank 2 (node7) and 1 more". */
static int name_ranks(const Watchdog *w, const Cast *cast, Part part, char *out, size_t bytes)
{
    const int rank = cast->first[part], others = cast->count[part] - 1;
    const int n = snprintf(out, bytes, "rank %d (%s)", rank, w->hosts[rank]);
    if (others == 0) return n;
    return n + snprintf(out + n, bytes - (size_t)n, " and %d more", others);
}

/* Why the job ends, when the worst that a rank does is `part`. */
static Verdict verdict_of(Watchdog *w, const Cast *cast, Part part)
{
    Verdict v = { .culprit = cast->first[part] };
    char call[WORDS_BYTES], who[HOST_BYTES + 64];
    const Answer *a = &w->answers[v.culprit];
    const double s = age_of(w, w->about.call.since_s);
    const long long step = (long long)calls_step(&w->calls);
    describe(&w->about, call);
    (void)name_ranks(w, cast, part, who, sizeof who);
    switch (part) {
    case SILENT:
        (void)snprintf(v.line, sizeof v.line,
                       "%s gives no sign of life, stopped or lost: waited %.1f s for it in %s, "
                       "step %lld",
                       who, s, call, step);
        break;
    case WORKS:
        (void)snprintf(v.line, sizeof v.line,
                       "%s does not come to %s, step %lld, waited for %.1f s: it waits for nobody; "
                       "its last call there is %s",
                       who, call, step, s, a->here);
        break;
    case DIFFERS:
        (void)snprintf(v.line, sizeof v.line,
                       "%s is in %s, where rank %d is in %s, step %lld, for "
                       "%.1f s",
                       who, a->here, w->rank, call, step, s);
        break;
    case WAITS:
        /* either may be wrong: both tell */
        v.culprit = -1;
        (void)snprintf(
            v.line, sizeof v.line,
            "no rank can go on: rank %d (%s) waits %.1f s for %s in %s, step %lld, which "
            "waits in %s",
            w->rank, w->hosts[w->rank], s, who, call, step, a->doing);
        break;
    default:
        v.culprit = -1;
        (void)snprintf(v.line, sizeof v.line,
                       "rank %d (%s) and all others are in %s, step %lld, for %.1f s, and it does "
                       "not end: a message is lost, or calls before it did not match (comm.check: "
                       "true tells)",
                       w->rank, w->hosts[w->rank], call, step, s);
        break;
    }
    return v;
}

/* Whether all that the call waits for have waited themselves for the whole timeout, and so for a
 * while: then no other rank is going to name somebody else. */
static bool is_locked(Watchdog *w, const Cast *cast)
{
    const int g = w->question.group;
    const int64_t number = w->about.call.number;
    const double timeout_s = atomic_load(&w->timeout_s), now = clock_seconds();
    const Part part = cast->count[WAITS] > 0 ? WAITS : IN_CALL;
    /* one that waits here and there, each time a little, has left this call behind */
    const bool lost = part == WAITS && age_of(w, w->about.call.since_s) > 2 * timeout_s;
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
    if (!group.call.active || group.call.number != w->about.call.number ||
        group.call.kind != w->about.call.kind)
        return;
    const Cast cast = cast_parts(w);
    /* a rank that waits itself is to blame only when everybody does */
    const bool locked = is_locked(w, &cast);
    int part = PARTS - 1;
    while (cast.count[part] == 0) part--;
    if (part <= WAITS && !locked) return;
    const Verdict verdict = verdict_of(w, &cast, (Part)part);
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
    free(w->hosts);
    free(w->outgoing);
    free(w->answers);
    free(w->asked);
    free(w);
}

static Status learn_hosts(Watchdog *w)
{
    char host[HOST_BYTES] = "";
    (void)gethostname(host, sizeof host - 1);
    const int code =
        MPI_Allgather(host, HOST_BYTES, MPI_CHAR, w->hosts, HOST_BYTES, MPI_CHAR, w->comm);
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
    w->outgoing_count = 2 * size + 16;
    w->hosts = calloc((size_t)size, sizeof *w->hosts);
    w->outgoing = calloc((size_t)w->outgoing_count, sizeof *w->outgoing);
    w->answers = calloc((size_t)size, sizeof *w->answers);
    w->asked = calloc((size_t)size, sizeof *w->asked);
    Status s = OK;
    CHECK_TO(fail, s, w->hosts && w->outgoing && w->answers && w->asked, ERR_MEMORY,
             "no memory for the watchdog of %d ranks", size);
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
    return watchdog->hosts[rank];
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
