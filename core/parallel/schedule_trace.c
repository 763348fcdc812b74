#include "core/parallel/schedule_trace.h"

#include <assert.h>
#include <stdlib.h>

Status trace_create(int most, Trace *out)
{
    Trace t = { .most = most, .events = calloc((size_t)most + 1, sizeof *t.events) };
    CHECK(t.events, ERR_MEMORY, "no memory for a trace of %d slots", most);
    *out = t;
    return OK;
}

void trace_destroy(Trace *trace)
{
    if (!trace) return;
    free(trace->events);
    *trace = (Trace){ 0 };
}

void traces_destroy(Trace *traces, int count)
{
    for (int i = 0; i < count; i++) trace_destroy(&traces[i]);
}

void trace_add(Trace *trace, Slot slot, double start, double end)
{
    if (trace->count < trace->most)
        trace->events[trace->count++] = (TraceEvent){ slot, start, end };
}

static bool is_work(SlotKind kind)
{
    return kind == SLOT_FORWARD || kind == SLOT_BACKWARD || kind == SLOT_WEIGHTS;
}

/* Of one slot; messages cost nothing. */
static double cost(const Schedule *s, const ScheduleTimes *times, SlotKind kind)
{
    const double chunks = (double)s->chunks;
    switch (kind) {
    case SLOT_FORWARD: return times->forward / chunks;
    case SLOT_BACKWARD: return (times->backward + (s->weights ? 0.0 : times->weights)) / chunks;
    case SLOT_WEIGHTS: return times->weights / chunks;
    default: return 0.0;
    }
}

/* When each message was sent, found by what it is. */
typedef struct Mail {
    const Schedule *schedule;
    double *sent; /* owned; (2, virtual stages, micros): end of its send, or -1 */
} Mail;

static double *mail_at(const Mail *mail, bool forward, int stage, int micro)
{
    const Schedule *s = mail->schedule;
    const int all = s->stages * s->chunks;
    return &mail->sent[((forward ? 0 : all) + stage) * s->micros + micro];
}

/* The next slot of a rank, if what it waits for has been sent. */
static bool run_slot(const Mail *mail, const ScheduleTimes *times, int rank, Trace *trace)
{
    const Schedule *s = mail->schedule;
    if (trace->count == s->counts[rank]) return false;
    const Slot slot = s->slots[rank][trace->count];
    const int stage = schedule_virtual_stage(s, rank, slot.chunk);
    const double start = trace->count > 0 ? trace->events[trace->count - 1].end : 0.0;
    double end = start + cost(s, times, slot.kind);
    if (slot.kind == SLOT_RECEIVE_FORWARD || slot.kind == SLOT_RECEIVE_BACKWARD) {
        const bool forward = slot.kind == SLOT_RECEIVE_FORWARD;
        const double sent = *mail_at(mail, forward, forward ? stage - 1 : stage + 1, slot.micro);
        if (sent < 0.0) return false;
        if (sent > end) end = sent;
    }
    if (slot.kind == SLOT_SEND_FORWARD || slot.kind == SLOT_SEND_BACKWARD)
        *mail_at(mail, slot.kind == SLOT_SEND_FORWARD, stage, slot.micro) = end;
    trace_add(trace, slot, start, end);
    return true;
}

static void run(const Mail *mail, const ScheduleTimes *times, Trace *traces)
{
    const Schedule *s = mail->schedule;
    for (bool moved = true; moved;) {
        moved = false;
        for (int rank = 0; rank < s->stages; rank++)
            while (run_slot(mail, times, rank, &traces[rank])) moved = true;
    }
    for (int rank = 0; rank < s->stages; rank++) assert(traces[rank].count == s->counts[rank]);
}

Status schedule_simulate(const Schedule *schedule, const ScheduleTimes *times, Trace *traces)
{
    const Schedule *s = schedule;
    const size_t messages = 2 * (size_t)s->stages * (size_t)s->chunks * (size_t)s->micros;
    Mail mail = { .schedule = s, .sent = malloc((messages + 1) * sizeof *mail.sent) };
    Status status = OK;
    for (int rank = 0; rank < s->stages; rank++) traces[rank] = (Trace){ 0 };
    CHECK_TO(done, status, mail.sent, ERR_MEMORY, "no memory to simulate %d stages", s->stages);
    for (size_t i = 0; i < messages; i++) mail.sent[i] = -1.0;
    for (int rank = 0; rank < s->stages; rank++)
        TRY_TO(done, status, trace_create(s->counts[rank], &traces[rank]));
    run(&mail, times, traces);
done:
    if (status != OK) traces_destroy(traces, s->stages);
    free(mail.sent);
    return status;
}

double trace_span(const Trace *traces, int count)
{
    double first = 0.0, last = 0.0;
    bool any = false;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < traces[i].count; k++) {
            const TraceEvent *e = &traces[i].events[k];
            if (!is_work(e->slot.kind)) continue;
            if (!any || e->start < first) first = e->start;
            if (!any || e->end > last) last = e->end;
            any = true;
        }
    }
    return last - first;
}

double trace_work(const Trace *traces, int count)
{
    double sum = 0.0;
    for (int i = 0; i < count; i++)
        for (int k = 0; k < traces[i].count; k++)
            if (is_work(traces[i].events[k].slot.kind))
                sum += traces[i].events[k].end - traces[i].events[k].start;
    return sum;
}

double trace_bubble(const Trace *traces, int count)
{
    const double span = trace_span(traces, count);
    return span > 0.0 ? 1.0 - trace_work(traces, count) / (span * (double)count) : 0.0;
}
