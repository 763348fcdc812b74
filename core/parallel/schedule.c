#include "core/parallel/schedule.h"

#include "core/parallel/schedule_order.h"

#include <assert.h>
#include <stdlib.h>

/* ---- messages ---- */

/* The orders of all ranks, and one rank's row as it grows. */
typedef struct Wiring {
    const Schedule *schedule;
    Slot *orders; /* owned; (stages, work): what each rank computes */
    int *works;   /* owned; (stages) */
    int work;     /* most that a rank computes */
    bool *got;    /* owned; (2, chunks, micros): messages of the row that have been received */
    int *cursors; /* owned; (stages): how far each other rank's order has been read for this row */
    Slot *row;
    int count;
} Wiring;

static void wiring_destroy(Wiring *w)
{
    free(w->orders);
    free(w->works);
    free(w->got);
    free(w->cursors);
}

static Status wiring_create(const Schedule *s, const ScheduleOptions *options, Wiring *w)
{
    const size_t stages = (size_t)s->stages, steps = (size_t)s->micros * (size_t)s->chunks;
    *w = (Wiring){ .schedule = s, .work = (int)steps * SCHEDULE_WORK_MAX };
    w->orders = calloc(stages * steps * SCHEDULE_WORK_MAX + 1, sizeof *w->orders);
    w->works = calloc(stages, sizeof *w->works);
    w->got = calloc(2 * steps + 1, sizeof *w->got);
    w->cursors = calloc(stages, sizeof *w->cursors);
    CHECK(w->orders && w->works && w->got && w->cursors, ERR_MEMORY,
          "no memory for a schedule of %d stages and %d micro-batches", s->stages, s->micros);
    for (int rank = 0; rank < s->stages; rank++)
        w->works[rank] = schedule_order(options, rank, w->orders + rank * w->work);
    return OK;
}

/* The rank and the chunk that a computed slot's message goes to; false: it sends none. */
static bool message_of(const Schedule *s, int from, Slot slot, int *to, int *chunk)
{
    const int place = schedule_virtual_stage(s, from, slot.chunk);
    const bool forward = slot.kind == SLOT_FORWARD;
    if (slot.kind == SLOT_WEIGHTS) return false;
    if (forward ? schedule_is_last(s, from, slot.chunk) : place == 0) return false;
    const int target = forward ? place + 1 : place - 1;
    *to = target % s->stages;
    *chunk = target / s->stages;
    return true;
}

static bool *got(const Wiring *w, bool forward, int micro, int chunk)
{
    const Schedule *s = w->schedule;
    return &w->got[((forward ? 0 : s->chunks) + chunk) * s->micros + micro];
}

static void add(Wiring *w, SlotKind kind, int micro, int chunk)
{
    w->row[w->count++] = (Slot){ kind, micro, chunk };
}

/* Receives until the message for `slot` is here. Messages between two ranks arrive in the order of
 * sending and carry no name, so all that were sent before it are received too, each into its own
 * buffer: with two ranks activations that wrap around and gradients come along the same way. */
static void receive(Wiring *w, int rank, int from, Slot slot)
{
    const Slot *order = w->orders + from * w->work;
    const bool *const here = got(w, slot.kind == SLOT_FORWARD, slot.micro, slot.chunk);
    while (!*here) {
        assert(w->cursors[from] < w->works[from]);
        const Slot sent = order[w->cursors[from]++];
        const bool forward = sent.kind == SLOT_FORWARD;
        int to, chunk;
        if (!message_of(w->schedule, from, sent, &to, &chunk) || to != rank) continue;
        add(w, forward ? SLOT_RECEIVE_FORWARD : SLOT_RECEIVE_BACKWARD, sent.micro, chunk);
        *got(w, forward, sent.micro, chunk) = true;
    }
}

static void wire_row(Wiring *w, int rank)
{
    const Schedule *s = w->schedule;
    const Slot *order = w->orders + rank * w->work;
    for (int i = 0; i < 2 * s->chunks * s->micros; i++) w->got[i] = false;
    for (int i = 0; i < s->stages; i++) w->cursors[i] = 0;
    for (int i = 0; i < w->works[rank]; i++) {
        const Slot slot = order[i];
        const bool first = schedule_is_first(s, rank, slot.chunk);
        const bool last = schedule_is_last(s, rank, slot.chunk);
        int to, chunk;
        if (slot.kind == SLOT_FORWARD && !first)
            receive(w, rank, schedule_previous_rank(s, rank), slot);
        if (slot.kind == SLOT_BACKWARD && !last)
            receive(w, rank, schedule_next_rank(s, rank), slot);
        add(w, slot.kind, slot.micro, slot.chunk);
        if (message_of(s, rank, slot, &to, &chunk))
            add(w, slot.kind == SLOT_FORWARD ? SLOT_SEND_FORWARD : SLOT_SEND_BACKWARD, slot.micro,
                slot.chunk);
    }
}

/* ---- activation slots ---- */

/* Micro-batches that one chunk of a row keeps at once, from the oldest that is not through to the
 * newest begun: so many slots, taken in turn, are enough. left (micros): scratch. */
static int alive_at_once(const Slot *row, int count, int chunk, int micros, int *left)
{
    int oldest = 0, newest = -1, most = 0;
    for (int m = 0; m < micros; m++) left[m] = 0;
    for (int i = 0; i < count; i++)
        if (row[i].chunk == chunk) left[row[i].micro]++;
    for (int i = 0; i < count; i++) {
        if (row[i].chunk != chunk) continue;
        if (row[i].micro > newest) newest = row[i].micro;
        if (newest - oldest + 1 > most) most = newest - oldest + 1;
        left[row[i].micro]--;
        while (oldest < micros && left[oldest] == 0) oldest++;
    }
    return most;
}

static Status count_in_flight(Schedule *s)
{
    int *left = calloc((size_t)s->micros + 1, sizeof *left);
    CHECK(left, ERR_MEMORY, "no memory for a schedule of %d micro-batches", s->micros);
    /* forward only: two, so that one can be sent while the next is computed */
    int most = !s->backward && s->stages > 1 ? 2 : 1;
    for (int rank = 0; rank < s->stages; rank++) {
        for (int chunk = 0; chunk < s->chunks; chunk++) {
            const int n = alive_at_once(s->slots[rank], s->counts[rank], chunk, s->micros, left);
            if (n > most) most = n;
        }
    }
    s->in_flight = most < s->micros ? most : s->micros;
    free(left);
    return OK;
}

/* ---- the table ---- */

static Status fill(Schedule *s, Wiring *w)
{
    /* a slot computed has at most one message in and one out */
    const size_t most = (size_t)w->work * 3 + 1;
    Slot *row = malloc(most * sizeof *row);
    if (!row) goto full;
    for (int rank = 0; rank < s->stages; rank++) {
        w->row = row;
        w->count = 0;
        wire_row(w, rank);
        s->slots[rank] = malloc(((size_t)w->count + 1) * sizeof *row);
        if (!s->slots[rank]) goto full;
        for (int i = 0; i < w->count; i++) s->slots[rank][i] = row[i];
        s->counts[rank] = w->count;
    }
    free(row);
    return count_in_flight(s);
full:
    free(row);
    return status_fail(ERR_MEMORY, "no memory for a schedule of %d stages and %d micro-batches",
                       s->stages, s->micros);
}

Status schedule_create(const ScheduleOptions *options, Schedule *out)
{
    ScheduleOptions o = *options;
    if (o.chunks == 0) o.chunks = 1;
    assert(o.stages >= 1 && o.micros >= 0 && o.chunks >= 1);
    assert(o.chunks == 1 ||
           (o.stages > 1 && (o.kind == SCHEDULE_INTERLEAVED || o.kind == SCHEDULE_FORWARD)));
    Schedule s = { .stages = o.stages,
                   .chunks = o.chunks,
                   .micros = o.micros,
                   .backward = o.kind != SCHEDULE_FORWARD,
                   .weights = o.kind == SCHEDULE_ZERO_BUBBLE };
    Wiring wiring = { 0 };
    Status status = OK;
    s.counts = calloc((size_t)o.stages, sizeof *s.counts);
    s.slots = calloc((size_t)o.stages, sizeof *s.slots);
    CHECK_TO(done, status, s.counts && s.slots, ERR_MEMORY, "no memory for a schedule of %d stages",
             o.stages);
    TRY_TO(done, status, wiring_create(&s, &o, &wiring));
    TRY_TO(done, status, fill(&s, &wiring));
    wiring_destroy(&wiring);
    *out = s;
    return OK;
done:
    wiring_destroy(&wiring);
    schedule_destroy(&s);
    return status;
}

void schedule_destroy(Schedule *schedule)
{
    if (!schedule) return;
    for (int i = 0; schedule->slots && i < schedule->stages; i++) free(schedule->slots[i]);
    free(schedule->slots);
    free(schedule->counts);
    *schedule = (Schedule){ 0 };
}

Status schedule_in_flight(const ScheduleOptions *options, int *slots)
{
    Schedule s;
    TRY(schedule_create(options, &s));
    *slots = s.in_flight;
    schedule_destroy(&s);
    return OK;
}
