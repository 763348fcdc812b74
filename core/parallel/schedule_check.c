/*
 * schedule_check: proves a table before anything runs it.
 *
 * Three passes. Each stage's row alone: every slot that must be there is, once, in an order that
 * respects what it needs, and micro-batches that share an activation slot do not overlap in time.
 * Each pair of neighbours: sends and receives name the same micro-batches in the same order, as
 * messages carry no name. All rows together: a run with blocking receives, and with the
 * interpreter's wait for a send before its buffer is written again, comes to its end.
 */
#include "core/parallel/schedule.h"

#include <stdbool.h>
#include <stdlib.h>

enum { KINDS = SLOT_RECEIVE_BACKWARD + 1 };

static const char *const kind_names[KINDS] = {
    [SLOT_FORWARD] = "forward",
    [SLOT_BACKWARD] = "backward",
    [SLOT_SEND_FORWARD] = "send forward",
    [SLOT_RECEIVE_FORWARD] = "receive forward",
    [SLOT_SEND_BACKWARD] = "send backward",
    [SLOT_RECEIVE_BACKWARD] = "receive backward",
};

/* What must come before what, for one micro-batch on one stage. */
static const struct {
    SlotKind before, after;
} order[] = {
    { SLOT_RECEIVE_FORWARD, SLOT_FORWARD }, { SLOT_FORWARD, SLOT_SEND_FORWARD },
    { SLOT_FORWARD, SLOT_BACKWARD },        { SLOT_RECEIVE_BACKWARD, SLOT_BACKWARD },
    { SLOT_BACKWARD, SLOT_SEND_BACKWARD },
};

/* The tables are views into one block. */
typedef struct Checker {
    const Schedule *schedule;
    bool backward;
    int *place;    /* (kinds, micros): index in the row being looked at, or -1 */
    int *holder;   /* (in_flight): micro-batch in the activation slot, or -1 */
    int *left;     /* (micros): slots of the row that this micro-batch has still to run */
    int *next;     /* (stages): first slot that has not run */
    int *sent;     /* (2, stages): messages sent so far, by direction */
    int *received; /* (2, stages) */
    int *busy;     /* (2, stages, in_flight): messages that the neighbour must have received
                      before this outgoing buffer is free again */
} Checker;

static bool kind_exists(const Checker *c, int stage, SlotKind kind)
{
    const bool first = stage == 0, last = stage == c->schedule->stages - 1;
    switch (kind) {
    case SLOT_FORWARD: return true;
    case SLOT_BACKWARD: return c->backward;
    case SLOT_SEND_FORWARD: return !last;
    case SLOT_RECEIVE_FORWARD: return !first;
    case SLOT_SEND_BACKWARD: return c->backward && !first;
    case SLOT_RECEIVE_BACKWARD: return c->backward && !last;
    }
    return false;
}

static Status refuse(const Checker *c, int stage, int index, const char *why)
{
    const Slot slot = c->schedule->slots[stage][index];
    const bool known = (int)slot.kind >= 0 && (int)slot.kind < KINDS;
    return status_fail(ERR_CONFIG, "schedule: stage %d slot %d (%s of micro-batch %d): %s", stage,
                       index, known ? kind_names[slot.kind] : "unknown kind", slot.micro, why);
}

/* Every slot that must be there is there once, and nothing else is. Fills `place`. */
static Status check_complete(Checker *c, int stage)
{
    const Schedule *s = c->schedule;
    for (int i = 0; i < KINDS * s->micros; i++) c->place[i] = -1;
    for (int i = 0; i < s->counts[stage]; i++) {
        const Slot slot = s->slots[stage][i];
        if (slot.micro < 0 || slot.micro >= s->micros)
            return refuse(c, stage, i, "there is no such micro-batch");
        if (!kind_exists(c, stage, slot.kind))
            return refuse(c, stage, i, "this stage has no such slot");
        int *place = &c->place[(int)slot.kind * s->micros + slot.micro];
        if (*place >= 0) return refuse(c, stage, i, "it is there twice");
        *place = i;
    }
    for (int kind = 0; kind < KINDS; kind++) {
        for (int m = 0; m < s->micros; m++) {
            const bool missing = c->place[kind * s->micros + m] < 0;
            CHECK(!missing || !kind_exists(c, stage, (SlotKind)kind), ERR_CONFIG,
                  "schedule: stage %d has no %s of micro-batch %d", stage, kind_names[kind], m);
        }
    }
    return OK;
}

static Status check_order(const Checker *c, int stage)
{
    const int micros = c->schedule->micros;
    for (size_t k = 0; k < sizeof order / sizeof order[0]; k++) {
        for (int m = 0; m < micros; m++) {
            const int before = c->place[(int)order[k].before * micros + m];
            const int after = c->place[(int)order[k].after * micros + m];
            if (before < 0 || after < 0 || before < after) continue;
            return refuse(c, stage, after, "it comes before what it needs");
        }
    }
    return OK;
}

/* A micro-batch holds activation slot micro % in_flight from its first slot of the row to its last.
 */
static Status check_in_flight(Checker *c, int stage)
{
    const Schedule *s = c->schedule;
    for (int i = 0; i < s->in_flight; i++) c->holder[i] = -1;
    for (int m = 0; m < s->micros; m++) c->left[m] = 0;
    for (int i = 0; i < s->counts[stage]; i++) c->left[s->slots[stage][i].micro]++;
    for (int i = 0; i < s->counts[stage]; i++) {
        const int micro = s->slots[stage][i].micro;
        int *holder = &c->holder[micro % s->in_flight];
        if (*holder >= 0 && *holder != micro)
            return refuse(c, stage, i, "an earlier micro-batch still holds its activation slot");
        *holder = --c->left[micro] > 0 ? micro : -1;
    }
    return OK;
}

/* Index in the row of the n-th slot of a kind, or the row's length. */
static int find_kind(const Schedule *s, int stage, SlotKind kind, int from)
{
    int i = from;
    while (i < s->counts[stage] && s->slots[stage][i].kind != kind) i++;
    return i;
}

/* Both rows are complete, so the two sequences have the same length. */
static Status check_messages(const Checker *c, int from, int to, SlotKind send, SlotKind receive)
{
    const Schedule *s = c->schedule;
    int i = find_kind(s, from, send, 0), j = find_kind(s, to, receive, 0);
    while (i < s->counts[from] && j < s->counts[to]) {
        if (s->slots[from][i].micro != s->slots[to][j].micro)
            return refuse(c, to, j, "its neighbour sends another micro-batch at this point");
        i = find_kind(s, from, send, i + 1);
        j = find_kind(s, to, receive, j + 1);
    }
    return OK;
}

enum { FORWARD, BACKWARD }; /* directions of messages */

/* Runs the next slot of a stage if it can; says whether it could. */
static bool run_slot(Checker *c, int stage)
{
    const Schedule *s = c->schedule;
    const Slot slot = s->slots[stage][c->next[stage]];
    const int slots = s->in_flight, place = slot.micro % slots;
    int *sent[2] = { c->sent, c->sent + s->stages };
    int *received[2] = { c->received, c->received + s->stages };
    int *busy[2] = { c->busy + stage * slots, c->busy + (s->stages + stage) * slots };
    const int next = stage + 1, previous = stage - 1;
    switch (slot.kind) {
    case SLOT_FORWARD: /* writes `out`: its last message must have arrived */
        if (next < s->stages && received[FORWARD][next] < busy[FORWARD][place]) return false;
        break;
    case SLOT_BACKWARD: /* writes `din` */
        if (previous >= 0 && received[BACKWARD][previous] < busy[BACKWARD][place]) return false;
        break;
    case SLOT_SEND_FORWARD: busy[FORWARD][place] = ++sent[FORWARD][stage]; break;
    case SLOT_SEND_BACKWARD: busy[BACKWARD][place] = ++sent[BACKWARD][stage]; break;
    case SLOT_RECEIVE_FORWARD:
        if (sent[FORWARD][previous] == received[FORWARD][stage]) return false;
        received[FORWARD][stage]++;
        break;
    case SLOT_RECEIVE_BACKWARD:
        if (sent[BACKWARD][next] == received[BACKWARD][stage]) return false;
        received[BACKWARD][stage]++;
        break;
    }
    c->next[stage]++;
    return true;
}

/* Nothing ever takes a message or a buffer away from another stage, so the order in which stages
 * are tried does not matter: if this run ends, every run does. */
static Status check_run(Checker *c)
{
    const Schedule *s = c->schedule;
    for (bool moved = true; moved;) {
        moved = false;
        for (int stage = 0; stage < s->stages; stage++)
            while (c->next[stage] < s->counts[stage] && run_slot(c, stage)) moved = true;
    }
    for (int stage = 0; stage < s->stages; stage++)
        if (c->next[stage] < s->counts[stage])
            return refuse(c, stage, c->next[stage], "it waits for ever (deadlock)");
    return OK;
}

static Status check_all(Checker *c)
{
    const Schedule *s = c->schedule;
    CHECK(s->micros == 0 || s->in_flight > 0, ERR_CONFIG, "schedule: in_flight is %d",
          s->in_flight);
    for (int stage = 0; stage < s->stages; stage++) {
        TRY(check_complete(c, stage));
        TRY(check_order(c, stage));
        TRY(check_in_flight(c, stage));
    }
    for (int stage = 0; stage + 1 < s->stages; stage++) {
        TRY(check_messages(c, stage, stage + 1, SLOT_SEND_FORWARD, SLOT_RECEIVE_FORWARD));
        TRY(check_messages(c, stage + 1, stage, SLOT_SEND_BACKWARD, SLOT_RECEIVE_BACKWARD));
    }
    return check_run(c);
}

Status schedule_check(const Schedule *schedule, int backward)
{
    const size_t stages = (size_t)schedule->stages, micros = (size_t)schedule->micros;
    const size_t slots = schedule->in_flight > 0 ? (size_t)schedule->in_flight : 0;
    const size_t sizes[] = { KINDS * micros,    slots, micros, stages, 2 * stages, 2 * stages,
                             2 * stages * slots };
    Checker c = { .schedule = schedule, .backward = backward != 0 };
    int **const tables[] = { &c.place, &c.holder, &c.left, &c.next, &c.sent, &c.received, &c.busy };
    size_t total = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) total += sizes[i];
    int *const block = calloc(total, sizeof *block);
    CHECK(block, ERR_MEMORY, "no memory to check a schedule of %zu stages, %zu micro-batches",
          stages, micros);
    int *at = block;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        *tables[i] = at;
        at += sizes[i];
    }
    const Status s = check_all(&c);
    free(block);
    return s;
}
