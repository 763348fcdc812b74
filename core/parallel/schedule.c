#include "core/parallel/schedule.h"

#include "core/parallel/schedule_order.h"

#include <assert.h>
#include <stdlib.h>

/* ---- messages ---- */

/* One rank's row as it grows. */
typedef struct Row {
    Slot *slots;
    int count;
} Row;

static void add(Row *row, SlotKind kind, Slot of)
{
    row->slots[row->count++] = (Slot){ kind, of.micro, of.chunk };
}

/* A piece of work with its messages: received just before, sent at once. With two ranks activations
 * that wrap around and gradients come along one way; that they are needed in the order of sending
 * is for the checker to prove. */
static void add_wired(const Schedule *s, int rank, Slot work, Row *row)
{
    const bool forward = work.kind == SLOT_FORWARD, backward = work.kind == SLOT_BACKWARD;
    const bool first = schedule_is_first(s, rank, work.chunk);
    const bool last = schedule_is_last(s, rank, work.chunk);
    if (forward && !first) add(row, SLOT_RECEIVE_FORWARD, work);
    if (backward && !last) add(row, SLOT_RECEIVE_BACKWARD, work);
    add(row, work.kind, work);
    if (forward && !last) add(row, SLOT_SEND_FORWARD, work);
    if (backward && !first) add(row, SLOT_SEND_BACKWARD, work);
}

static Status fill_row(const Schedule *s, const ScheduleOptions *options, int rank, Row *row)
{
    const size_t most = (size_t)s->micros * (size_t)s->chunks * SCHEDULE_WORK_MAX;
    Slot *order = malloc((most + 1) * sizeof *order);
    /* a piece of work has at most one message in and one out */
    row->slots = malloc((3 * most + 1) * sizeof *row->slots);
    const bool full = !order || !row->slots;
    const int count = full ? 0 : schedule_order(options, rank, order);
    for (int i = 0; i < count; i++) add_wired(s, rank, order[i], row);
    free(order);
    CHECK(!full, ERR_MEMORY, "no memory for a schedule of %d stages and %d micro-batches",
          s->stages, s->micros);
    return OK;
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

static Status fill(Schedule *s, const ScheduleOptions *options)
{
    s->counts = calloc((size_t)s->stages, sizeof *s->counts);
    s->slots = calloc((size_t)s->stages, sizeof *s->slots);
    CHECK(s->counts && s->slots, ERR_MEMORY, "no memory for a schedule of %d stages", s->stages);
    for (int rank = 0; rank < s->stages; rank++) {
        Row row = { 0 };
        const Status status = fill_row(s, options, rank, &row);
        s->slots[rank] = row.slots;
        s->counts[rank] = row.count;
        TRY(status);
    }
    return count_in_flight(s);
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
    const Status status = fill(&s, &o);
    if (status != OK) {
        schedule_destroy(&s);
        return status;
    }
    *out = s;
    return OK;
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
