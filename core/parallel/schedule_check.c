/*
 * schedule_check: proves a table before anything runs it.
 *
 * Three passes. Each rank's row alone: every slot that must be there is, once, in an order that
 * respects what it needs; gradients are summed in the order of micro-batches; micro-batches that
 * share an activation slot do not overlap in time. Each pair of ranks that talk: sends and receives
 * name the same messages in the same order, as messages carry no name; with two ranks activations
 * that wrap around and gradients share one way and one order. All rows together: a run with
 * blocking receives, and with the interpreter's wait for a send before its buffer is written again,
 * comes to its end.
 */
#include "core/parallel/schedule.h"

#include <stdlib.h>

static const char *const kind_names[SLOT_KINDS] = {
    [SLOT_FORWARD] = "forward",
    [SLOT_BACKWARD] = "backward",
    [SLOT_WEIGHTS] = "weights",
    [SLOT_SEND_FORWARD] = "send forward",
    [SLOT_RECEIVE_FORWARD] = "receive forward",
    [SLOT_SEND_BACKWARD] = "send backward",
    [SLOT_RECEIVE_BACKWARD] = "receive backward",
};

/* What must come before what, for one micro-batch on one chunk. */
static const struct {
    SlotKind before, after;
} order[] = {
    { SLOT_RECEIVE_FORWARD, SLOT_FORWARD }, { SLOT_FORWARD, SLOT_SEND_FORWARD },
    { SLOT_FORWARD, SLOT_BACKWARD },        { SLOT_RECEIVE_BACKWARD, SLOT_BACKWARD },
    { SLOT_BACKWARD, SLOT_SEND_BACKWARD },  { SLOT_BACKWARD, SLOT_WEIGHTS },
};

/* The tables are views into one block. */
typedef struct Checker {
    const Schedule *schedule;
    int *place;    /* (kinds, chunks, micros): index in the row being looked at, or -1 */
    int *holder;   /* (chunks, in_flight): micro-batch in the activation slot, or -1 */
    int *left;     /* (chunks, micros): slots of the row that have still to run */
    int *next;     /* (stages): first slot that has not run */
    int *sent;     /* (stages, 2): messages sent so far, by rank and way */
    int *received; /* (stages, 2): of those, how many have been received */
    int *busy;     /* (2, stages, chunks, in_flight): messages of its way that must have been
                      received before this outgoing buffer is free again; out, then din */
} Checker;

static bool kind_exists(const Schedule *s, int rank, int chunk, SlotKind kind)
{
    const bool first = schedule_is_first(s, rank, chunk), last = schedule_is_last(s, rank, chunk);
    switch (kind) {
    case SLOT_FORWARD: return true;
    case SLOT_BACKWARD: return s->backward;
    case SLOT_WEIGHTS: return s->weights;
    case SLOT_SEND_FORWARD: return !last;
    case SLOT_RECEIVE_FORWARD: return !first;
    case SLOT_SEND_BACKWARD: return s->backward && !first;
    case SLOT_RECEIVE_BACKWARD: return s->backward && !last;
    default: return false;
    }
}

static Status refuse(const Checker *c, int rank, int index, const char *why)
{
    const Slot slot = c->schedule->slots[rank][index];
    const bool known = (int)slot.kind >= 0 && slot.kind < SLOT_KINDS;
    return status_fail(
        ERR_CONFIG, "schedule: stage %d slot %d (%s of micro-batch %d, chunk %d): %s", rank, index,
        known ? kind_names[slot.kind] : "unknown kind", slot.micro, slot.chunk, why);
}

static int *place_of(const Checker *c, SlotKind kind, int chunk, int micro)
{
    const Schedule *s = c->schedule;
    return &c->place[((int)kind * s->chunks + chunk) * s->micros + micro];
}

static Status check_missing(const Checker *c, int rank, int chunk)
{
    const Schedule *s = c->schedule;
    for (int kind = 0; kind < SLOT_KINDS; kind++) {
        for (int m = 0; m < s->micros; m++) {
            const bool missing = *place_of(c, (SlotKind)kind, chunk, m) < 0;
            CHECK(!missing || !kind_exists(s, rank, chunk, (SlotKind)kind), ERR_CONFIG,
                  "schedule: stage %d has no %s of micro-batch %d, chunk %d", rank,
                  kind_names[kind], m, chunk);
        }
    }
    return OK;
}

/* Every slot that must be there is there once, and nothing else is. Fills `place`. */
static Status check_complete(Checker *c, int rank)
{
    const Schedule *s = c->schedule;
    for (int i = 0; i < SLOT_KINDS * s->chunks * s->micros; i++) c->place[i] = -1;
    for (int i = 0; i < s->counts[rank]; i++) {
        const Slot slot = s->slots[rank][i];
        if (slot.micro < 0 || slot.micro >= s->micros)
            return refuse(c, rank, i, "there is no such micro-batch");
        if (slot.chunk < 0 || slot.chunk >= s->chunks)
            return refuse(c, rank, i, "there is no such chunk");
        if (!kind_exists(s, rank, slot.chunk, slot.kind))
            return refuse(c, rank, i, "this stage has no such slot");
        int *place = place_of(c, slot.kind, slot.chunk, slot.micro);
        if (*place >= 0) return refuse(c, rank, i, "it is there twice");
        *place = i;
    }
    for (int chunk = 0; chunk < s->chunks; chunk++) TRY(check_missing(c, rank, chunk));
    return OK;
}

static Status check_needs(const Checker *c, int rank, int chunk)
{
    for (size_t k = 0; k < sizeof order / sizeof order[0]; k++) {
        for (int m = 0; m < c->schedule->micros; m++) {
            const int before = *place_of(c, order[k].before, chunk, m);
            const int after = *place_of(c, order[k].after, chunk, m);
            if (before < 0 || after < 0 || before < after) continue;
            return refuse(c, rank, after, "it comes before what it needs");
        }
    }
    return OK;
}

/* Sums of gradients must not know the schedule. */
static Status check_ascending(const Checker *c, int rank, int chunk, SlotKind kind)
{
    for (int m = 1; m < c->schedule->micros; m++) {
        const int at = *place_of(c, kind, chunk, m);
        if (at >= 0 && at < *place_of(c, kind, chunk, m - 1))
            return refuse(c, rank, at, "it comes before that of an earlier micro-batch");
    }
    return OK;
}

/* A micro-batch holds activation slot micro % in_flight of each chunk from the chunk's first slot
 * of it to the last. */
static Status check_in_flight(Checker *c, int rank)
{
    const Schedule *s = c->schedule;
    for (int i = 0; i < s->chunks * s->in_flight; i++) c->holder[i] = -1;
    for (int i = 0; i < s->chunks * s->micros; i++) c->left[i] = 0;
    for (int i = 0; i < s->counts[rank]; i++) {
        const Slot slot = s->slots[rank][i];
        c->left[slot.chunk * s->micros + slot.micro]++;
    }
    for (int i = 0; i < s->counts[rank]; i++) {
        const Slot slot = s->slots[rank][i];
        int *holder = &c->holder[slot.chunk * s->in_flight + slot.micro % s->in_flight];
        if (*holder >= 0 && *holder != slot.micro)
            return refuse(c, rank, i, "an earlier micro-batch still holds its activation slot");
        *holder = --c->left[slot.chunk * s->micros + slot.micro] > 0 ? slot.micro : -1;
    }
    return OK;
}

/* ---- messages ---- */

static bool is_send(SlotKind kind)
{
    return kind == SLOT_SEND_FORWARD || kind == SLOT_SEND_BACKWARD;
}

static bool is_receive(SlotKind kind)
{
    return kind == SLOT_RECEIVE_FORWARD || kind == SLOT_RECEIVE_BACKWARD;
}

/* The rank at the other end of a message slot. */
static int peer_of(const Schedule *s, int rank, SlotKind kind)
{
    const bool up = kind == SLOT_SEND_FORWARD || kind == SLOT_RECEIVE_BACKWARD;
    return up ? schedule_next_rank(s, rank) : schedule_previous_rank(s, rank);
}

/* A rank sends two ways: to the next rank and to the previous one. With two ranks both are one. */
static int way_of(const Schedule *s, int from, int to)
{
    return 2 * from + (to == schedule_next_rank(s, from) ? 0 : 1);
}

static int find_message(const Schedule *s, int rank, int peer, bool (*is)(SlotKind), int from)
{
    int i = from;
    while (i < s->counts[rank] &&
           !(is(s->slots[rank][i].kind) && peer_of(s, rank, s->slots[rank][i].kind) == peer))
        i++;
    return i;
}

static bool same_message(const Schedule *s, int from, Slot sent, int to, Slot received)
{
    const bool forward = sent.kind == SLOT_SEND_FORWARD;
    const int step = forward ? 1 : -1;
    return forward == (received.kind == SLOT_RECEIVE_FORWARD) && sent.micro == received.micro &&
           schedule_virtual_stage(s, from, sent.chunk) + step ==
               schedule_virtual_stage(s, to, received.chunk);
}

/* Both rows are complete, so the two sequences have the same length. */
static Status check_messages(const Checker *c, int from, int to)
{
    const Schedule *s = c->schedule;
    int i = find_message(s, from, to, is_send, 0), j = find_message(s, to, from, is_receive, 0);
    while (i < s->counts[from] && j < s->counts[to]) {
        if (!same_message(s, from, s->slots[from][i], to, s->slots[to][j]))
            return refuse(c, to, j, "its neighbour sends another message at this point");
        i = find_message(s, from, to, is_send, i + 1);
        j = find_message(s, to, from, is_receive, j + 1);
    }
    return OK;
}

/* ---- a run ---- */

/* Runs the next slot of a rank if it can; says whether it could. */
static bool run_slot(Checker *c, int rank)
{
    const Schedule *s = c->schedule;
    const Slot slot = s->slots[rank][c->next[rank]];
    const bool forward = slot.kind == SLOT_FORWARD || slot.kind == SLOT_SEND_FORWARD;
    const int row = ((forward ? 0 : s->stages) + rank) * s->chunks + slot.chunk;
    int *busy = &c->busy[row * s->in_flight + slot.micro % s->in_flight];
    if (is_receive(slot.kind)) {
        const int way = way_of(s, peer_of(s, rank, slot.kind), rank);
        if (c->sent[way] == c->received[way]) return false;
        c->received[way]++;
    } else if (is_send(slot.kind)) {
        *busy = ++c->sent[way_of(s, rank, peer_of(s, rank, slot.kind))];
    } else if (slot.kind != SLOT_WEIGHTS) {
        /* writes `out` or `din`: the last message from it must have arrived */
        const SlotKind send = forward ? SLOT_SEND_FORWARD : SLOT_SEND_BACKWARD;
        if (c->received[way_of(s, rank, peer_of(s, rank, send))] < *busy) return false;
    }
    c->next[rank]++;
    return true;
}

/* Nothing ever takes a message or a buffer away from another rank, so the order in which ranks
 * are tried does not matter: if this run ends, every run does. */
static Status check_run(Checker *c)
{
    const Schedule *s = c->schedule;
    for (bool moved = true; moved;) {
        moved = false;
        for (int rank = 0; rank < s->stages; rank++)
            while (c->next[rank] < s->counts[rank] && run_slot(c, rank)) moved = true;
    }
    for (int rank = 0; rank < s->stages; rank++)
        if (c->next[rank] < s->counts[rank])
            return refuse(c, rank, c->next[rank], "it waits for ever (deadlock)");
    return OK;
}

/* ---- all of it ---- */

static Status check_row(Checker *c, int rank)
{
    TRY(check_complete(c, rank));
    for (int chunk = 0; chunk < c->schedule->chunks; chunk++) {
        TRY(check_needs(c, rank, chunk));
        TRY(check_ascending(c, rank, chunk, SLOT_BACKWARD));
        TRY(check_ascending(c, rank, chunk, SLOT_WEIGHTS));
    }
    return check_in_flight(c, rank);
}

static Status check_all(Checker *c)
{
    const Schedule *s = c->schedule;
    CHECK(s->micros == 0 || s->in_flight > 0, ERR_CONFIG, "schedule: in_flight is %d",
          s->in_flight);
    CHECK(s->chunks == 1 || s->stages > 1, ERR_CONFIG, "schedule: %d chunks on one stage",
          s->chunks);
    CHECK(s->backward || !s->weights, ERR_CONFIG, "schedule: weights without backwards");
    for (int rank = 0; rank < s->stages; rank++) TRY(check_row(c, rank));
    for (int rank = 0; s->stages > 1 && rank < s->stages; rank++) {
        TRY(check_messages(c, rank, schedule_next_rank(s, rank)));
        TRY(check_messages(c, rank, schedule_previous_rank(s, rank)));
    }
    return check_run(c);
}

Status schedule_check(const Schedule *schedule)
{
    const size_t stages = (size_t)schedule->stages, chunks = (size_t)schedule->chunks;
    const size_t steps = chunks * (size_t)schedule->micros;
    const size_t slots = chunks * (schedule->in_flight > 0 ? (size_t)schedule->in_flight : 0);
    const size_t sizes[] = {
        SLOT_KINDS * steps, slots, steps, stages, 2 * stages, 2 * stages, 2 * stages * slots,
    };
    Checker c = { .schedule = schedule };
    int **const tables[] = { &c.place, &c.holder, &c.left, &c.next, &c.sent, &c.received, &c.busy };
    size_t total = 1;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) total += sizes[i];
    int *const block = calloc(total, sizeof *block);
    CHECK(block, ERR_MEMORY, "no memory to check a schedule of %zu stages, %zu micro-batches",
          stages, (size_t)schedule->micros);
    int *at = block;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        *tables[i] = at;
        at += sizes[i];
    }
    const Status s = check_all(&c);
    free(block);
    return s;
}
