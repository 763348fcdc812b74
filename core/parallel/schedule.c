#include "core/parallel/schedule.h"

#include <assert.h>
#include <stdlib.h>

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* Appends to one stage's row; the row was allocated for every slot that can be. */
typedef struct Row {
    Slot *slots;
    int count;
    int stage, stages;
} Row;

static void add(Row *row, SlotKind kind, int micro)
{
    row->slots[row->count++] = (Slot){ kind, micro };
}

static void add_forward(Row *row, int micro)
{
    if (row->stage > 0) add(row, SLOT_RECEIVE_FORWARD, micro);
    add(row, SLOT_FORWARD, micro);
    if (row->stage < row->stages - 1) add(row, SLOT_SEND_FORWARD, micro);
}

static void add_backward(Row *row, int micro)
{
    if (row->stage < row->stages - 1) add(row, SLOT_RECEIVE_BACKWARD, micro);
    add(row, SLOT_BACKWARD, micro);
    if (row->stage > 0) add(row, SLOT_SEND_BACKWARD, micro);
}

/* One forward, one backward: a stage runs ahead only by as many micro-batches as there are stages
 * after it, so stage s holds at most stages - s of them, however many there are in all. */
static void fill_1f1b(Row *row, int micros)
{
    const int ahead = min_int(row->stages - 1 - row->stage, micros);
    for (int m = 0; m < ahead; m++) add_forward(row, m);
    for (int m = 0; m < micros; m++) {
        if (m + ahead < micros) add_forward(row, m + ahead);
        add_backward(row, m);
    }
}

static void fill_forward(Row *row, int micros)
{
    for (int m = 0; m < micros; m++) add_forward(row, m);
}

Status schedule_create(ScheduleKind kind, int stages, int micros, Schedule *out)
{
    static const struct {
        void (*fill)(Row *row, int micros);
        int slots_a_micro;
    } kinds[] = {
        [SCHEDULE_1F1B] = { fill_1f1b, 6 },
        [SCHEDULE_FORWARD] = { fill_forward, 3 },
    };
    assert(stages >= 1 && micros >= 0);
    /* forward only: two, so that one can be sent while the next is computed */
    const int alive = kind == SCHEDULE_FORWARD ? min_int(stages, 2) : stages;
    Schedule s = { .stages = stages, .micros = micros, .in_flight = min_int(alive, micros) };
    s.counts = calloc((size_t)stages, sizeof *s.counts);
    s.slots = calloc((size_t)stages, sizeof *s.slots);
    if (!s.counts || !s.slots) goto full;
    for (int i = 0; i < stages; i++) {
        const size_t most = (size_t)micros * (size_t)kinds[kind].slots_a_micro;
        Row row = { .slots = calloc(most + 1, sizeof(Slot)), .stage = i, .stages = stages };
        if (!row.slots) goto full;
        s.slots[i] = row.slots;
        kinds[kind].fill(&row, micros);
        s.counts[i] = row.count;
    }
    *out = s;
    return OK;
full:
    schedule_destroy(&s);
    return status_fail(ERR_MEMORY, "no memory for a schedule of %d stages and %d micro-batches",
                       stages, micros);
}

void schedule_destroy(Schedule *schedule)
{
    if (!schedule) return;
    for (int i = 0; schedule->slots && i < schedule->stages; i++) free(schedule->slots[i]);
    free(schedule->slots);
    free(schedule->counts);
    *schedule = (Schedule){ 0 };
}
