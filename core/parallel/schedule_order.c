#include "core/parallel/schedule_order.h"

/* Appends to one rank's row. */
typedef struct Row {
    Slot *slots;
    int count;
    int rank, stages, chunks, micros;
} Row;

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static void add(Row *row, SlotKind kind, int micro, int chunk)
{
    row->slots[row->count++] = (Slot){ kind, micro, chunk };
}

/* All forwards, then all backwards, in the same order: not the reverse, which would free the
 * newest activations first but sum the gradients backwards. */
static void order_gpipe(Row *row)
{
    for (int m = 0; m < row->micros; m++) add(row, SLOT_FORWARD, m, 0);
    for (int m = 0; m < row->micros; m++) add(row, SLOT_BACKWARD, m, 0);
}

/* One forward, one backward: a rank runs ahead only by as many micro-batches as there are ranks
 * after it, so rank r holds at most stages - r of them, however many there are in all. */
static void order_1f1b(Row *row)
{
    const int ahead = min_int(row->stages - 1 - row->rank, row->micros);
    for (int m = 0; m < ahead; m++) add(row, SLOT_FORWARD, m, 0);
    for (int m = 0; m < row->micros; m++) {
        if (m + ahead < row->micros) add(row, SLOT_FORWARD, m + ahead, 0);
        add(row, SLOT_BACKWARD, m, 0);
    }
}

/* 1F1B whose backward is cut in two. Rank r runs its weight slots r micro-batches late: while the
 * pipeline fills, gradients travel back the sooner; when it drains, the late slots fill the gaps.
 * From forward to weights at most stages micro-batches are alive on every rank, as on rank 0 of
 * 1F1B. */
static void order_zero_bubble(Row *row)
{
    const int ahead = min_int(row->stages - 1 - row->rank, row->micros), late = row->rank;
    for (int m = 0; m < ahead; m++) add(row, SLOT_FORWARD, m, 0);
    for (int m = 0; m < row->micros + late; m++) {
        if (m + ahead < row->micros) add(row, SLOT_FORWARD, m + ahead, 0);
        if (m < row->micros) add(row, SLOT_BACKWARD, m, 0);
        if (m >= late) add(row, SLOT_WEIGHTS, m - late, 0);
    }
}

/* Step k over (micro-batch, chunk): groups of `stages` micro-batches go through all chunks before
 * the next group starts. A last group that is not full is thought full and its missing
 * micro-batches are left out: what is left of an order without deadlock has none either. */
static void add_step(Row *row, SlotKind kind, int k)
{
    const int a_group = row->stages * row->chunks;
    const int micro = k / a_group * row->stages + k % row->stages;
    const int chunk = k % a_group / row->stages;
    if (micro >= row->micros) return;
    add(row, kind, micro, kind == SLOT_FORWARD ? chunk : row->chunks - 1 - chunk);
}

static int count_steps(const Row *row)
{
    return (row->micros + row->stages - 1) / row->stages * row->stages * row->chunks;
}

/* 1F1B over steps. A rank runs ahead by the steps until its first group is through the last chunk,
 * and by one for each rank that a message passes on the way there and back. */
static void order_interleaved(Row *row)
{
    const int steps = count_steps(row);
    const int wanted = 2 * (row->stages - 1 - row->rank) + (row->chunks - 1) * row->stages;
    const int ahead = min_int(wanted, steps);
    for (int k = 0; k < ahead; k++) add_step(row, SLOT_FORWARD, k);
    for (int k = 0; k < steps; k++) {
        if (k + ahead < steps) add_step(row, SLOT_FORWARD, k + ahead);
        add_step(row, SLOT_BACKWARD, k);
    }
}

static void order_forward(Row *row)
{
    for (int k = 0; k < count_steps(row); k++) add_step(row, SLOT_FORWARD, k);
}

int schedule_order(const ScheduleOptions *options, int rank, Slot *out)
{
    static void (*const orders[])(Row * row) = {
        [SCHEDULE_1F1B] = order_1f1b,
        [SCHEDULE_GPIPE] = order_gpipe,
        [SCHEDULE_INTERLEAVED] = order_interleaved,
        [SCHEDULE_ZERO_BUBBLE] = order_zero_bubble,
        [SCHEDULE_FORWARD] = order_forward,
    };
    Row row = { .slots = out,
                .rank = rank,
                .stages = options->stages,
                .chunks = options->chunks,
                .micros = options->micros };
    orders[options->kind](&row);
    return row.count;
}
