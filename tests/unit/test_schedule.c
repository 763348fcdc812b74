#include "core/parallel/schedule_draw.h"
#include "tests/support/bubble_formula.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_STAGES = 6, MAX_MICROS = 13, MAX_CHUNKS = 4 };

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static Schedule table(ScheduleKind kind, int stages, int chunks, int micros)
{
    const ScheduleOptions options = { kind, stages, chunks, micros };
    Schedule s;
    assert_int_equal(schedule_create(&options, &s), OK);
    return s;
}

static const ScheduleKind kinds[] = { SCHEDULE_1F1B, SCHEDULE_GPIPE, SCHEDULE_INTERLEAVED,
                                      SCHEDULE_ZERO_BUBBLE, SCHEDULE_FORWARD };

/* Does something with every table that can be asked for. */
static void for_every_table(void (*visit)(ScheduleKind kind, const Schedule *s))
{
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        const bool chunked = kinds[k] == SCHEDULE_INTERLEAVED || kinds[k] == SCHEDULE_FORWARD;
        for (int stages = 1; stages <= MAX_STAGES; stages++) {
            for (int chunks = 1; chunks <= (chunked && stages > 1 ? MAX_CHUNKS : 1); chunks++) {
                for (int micros = 0; micros <= MAX_MICROS; micros++) {
                    Schedule s = table(kinds[k], stages, chunks, micros);
                    visit(kinds[k], &s);
                    schedule_destroy(&s);
                }
            }
        }
    }
}

static void check_table(ScheduleKind kind, const Schedule *s)
{
    if (schedule_check(s) != OK)
        fail_msg("kind %d, %d stages, %d chunks, %d micro-batches: %s", (int)kind, s->stages,
                 s->chunks, s->micros, status_message());
}

static void every_generated_table_is_accepted(void **state)
{
    (void)state;
    for_every_table(check_table);
}

/* Most micro-batches alive on a rank, from their forward to their last slot of work. */
static int alive_on(const Schedule *s, int rank)
{
    const SlotKind end = s->weights ? SLOT_WEIGHTS : SLOT_BACKWARD;
    int alive = 0, most = 0;
    for (int i = 0; i < s->counts[rank]; i++) {
        if (s->slots[rank][i].kind == SLOT_FORWARD) alive++;
        if (s->slots[rank][i].kind == end) alive--;
        if (alive > most) most = alive;
    }
    return most;
}

/* That is why 1F1B: the activations of stage s are those of stages - s micro-batches. Those whose
 * weights are late are no more than 1F1B's first stage has. */
static void stage_holds_no_more_than_the_stages_from_it_on(void **state)
{
    (void)state;
    for (int stages = 1; stages <= MAX_STAGES; stages++) {
        for (int micros = 0; micros <= MAX_MICROS; micros++) {
            Schedule s = table(SCHEDULE_1F1B, stages, 1, micros);
            Schedule late = table(SCHEDULE_ZERO_BUBBLE, stages, 1, micros);
            for (int rank = 0; rank < stages; rank++) {
                assert_int_equal(alive_on(&s, rank), min_int(stages - rank, micros));
                assert_true(alive_on(&late, rank) <= min_int(stages, micros));
            }
            assert_int_equal(s.in_flight, min_int(stages, micros));
            assert_int_equal(late.in_flight, s.in_flight);
            schedule_destroy(&s);
            schedule_destroy(&late);
        }
    }
}

/* What is planned for the most micro-batches is enough for fewer. */
static void check_slots_of_fewer(ScheduleKind kind, const Schedule *s)
{
    const ScheduleOptions fewer = { kind, s->stages, s->chunks, s->micros - 1 };
    int slots;
    if (s->micros == 0) return;
    assert_int_equal(schedule_in_flight(&fewer, &slots), OK);
    assert_true(slots <= s->in_flight);
    if (kind == SCHEDULE_GPIPE) assert_int_equal(s->in_flight, s->micros);
    if (kind == SCHEDULE_FORWARD)
        assert_int_equal(s->in_flight, min_int(min_int(s->stages, 2), s->micros));
    /* a chunk's slots do not grow with the batch */
    if (kind == SCHEDULE_INTERLEAVED) assert_true(s->in_flight <= 2 * s->stages);
}

static void fewer_micro_batches_need_no_more_slots(void **state)
{
    (void)state;
    for_every_table(check_slots_of_fewer);
}

/* Micro-batches are accumulated in one order, whatever the schedule and the number of stages. */
static void check_sums(ScheduleKind kind, const Schedule *s)
{
    (void)kind;
    for (int rank = 0; rank < s->stages; rank++) {
        int next[2][MAX_CHUNKS] = { { 0 } };
        for (int i = 0; i < s->counts[rank]; i++) {
            const Slot slot = s->slots[rank][i];
            if (slot.kind != SLOT_BACKWARD && slot.kind != SLOT_WEIGHTS) continue;
            assert_int_equal(slot.micro, next[slot.kind == SLOT_WEIGHTS][slot.chunk]++);
        }
    }
}

static void gradients_are_summed_in_the_order_of_micro_batches(void **state)
{
    (void)state;
    for_every_table(check_sums);
}

static void refused(const Schedule *s, const char *why)
{
    assert_int_equal(schedule_check(s), ERR_CONFIG);
    if (!strstr(status_message(), why)) fail_msg("%s\nlacks: %s", status_message(), why);
}

/* Each with its own kinds of slots. */
static Schedule sample_table(int which)
{
    switch (which) {
    case 0: return table(SCHEDULE_1F1B, 3, 1, 4);
    case 1: return table(SCHEDULE_ZERO_BUBBLE, 3, 1, 4);
    case 2: return table(SCHEDULE_INTERLEAVED, 2, 2, 3);
    default: return table(SCHEDULE_FORWARD, 3, 2, 4);
    }
}

enum { SAMPLES = 4 };

static void every_missing_slot_is_refused(void **state)
{
    (void)state;
    for (int which = 0; which < SAMPLES; which++) {
        Schedule s = sample_table(which);
        for (int stage = 0; stage < s.stages; stage++) {
            Slot *row = s.slots[stage];
            const int count = s.counts[stage];
            for (int i = 0; i < count; i++) {
                const Slot left_out = row[i];
                memmove(row + i, row + i + 1, (size_t)(count - i - 1) * sizeof *row);
                s.counts[stage] = count - 1;
                refused(&s, " has no ");
                memmove(row + i + 1, row + i, (size_t)(count - i - 1) * sizeof *row);
                row[i] = left_out;
                s.counts[stage] = count;
            }
        }
        assert_int_equal(schedule_check(&s), OK);
        schedule_destroy(&s);
    }
}

static void every_duplicate_slot_is_refused(void **state)
{
    (void)state;
    for (int which = 0; which < SAMPLES; which++) {
        Schedule s = sample_table(which);
        for (int stage = 0; stage < s.stages; stage++) {
            for (int i = 0; i + 1 < s.counts[stage]; i++) {
                const Slot kept = s.slots[stage][i + 1];
                s.slots[stage][i + 1] = s.slots[stage][i];
                refused(&s, "it is there twice");
                s.slots[stage][i + 1] = kept;
            }
        }
        assert_int_equal(schedule_check(&s), OK);
        schedule_destroy(&s);
    }
}

/* Two stages' tables, written out: F0 is the forward of micro-batch 0, RB1 receives the gradient of
 * micro-batch 1, F0b is of the second chunk, XX is a kind that does not exist. */
typedef struct Written {
    const char *why; /* part of the message; NULL: the table is right */
    int micros, in_flight;
    const char *rows[2];
} Written;

static SlotKind read_kind(const char *name)
{
    static const char *const names[] = { "F", "B", "W", "SF", "RF", "SB", "RB" };
    for (int kind = 0; kind < SLOT_KINDS; kind++)
        if (strcmp(name, names[kind]) == 0) return (SlotKind)kind;
    return (SlotKind)17;
}

enum { ROW_MAX = 24 };

static int read_row(const char *text, Slot out[ROW_MAX])
{
    int count = 0, used, micro;
    char name[3];
    while (sscanf(text, "%2[A-Z]%d%n", name, &micro, &used) == 2) {
        text += used;
        const int chunk = *text >= 'a' && *text <= 'z' ? *text++ - 'a' : 0;
        if (*text == ' ') text++;
        assert_true(count < ROW_MAX);
        out[count++] = (Slot){ read_kind(name), micro, chunk };
    }
    assert_true(*text == 0);
    return count;
}

// clang-format off
static const Written tables[] = {
    { NULL, 1, 1, { "F0 SF0 RB0 B0", "RF0 F0 B0 SB0" } },
    { "stage 1 slot 2 (forward of micro-batch 0, chunk 0): it comes before what it needs", 1, 1,
      { "F0 SF0 RB0 B0", "B0 SB0 F0 RF0" } },
    { "(forward of micro-batch 0, chunk 0): it comes before what it needs", 1, 1,
      { "F0 SF0 RB0 B0", "F0 RF0 B0 SB0" } },
    { "(send forward of micro-batch 0, chunk 0): it comes before what it needs", 1, 1,
      { "SF0 F0 RB0 B0", "RF0 F0 B0 SB0" } },
    { "(backward of micro-batch 0, chunk 0): it comes before what it needs", 1, 1,
      { "F0 SF0 B0 RB0", "RF0 F0 B0 SB0" } },
    { "(send backward of micro-batch 0, chunk 0): it comes before what it needs", 1, 1,
      { "F0 SF0 RB0 B0", "RF0 F0 SB0 B0" } },
    /* each waits for the other's message */
    { "stage 0 slot 1 (receive backward of micro-batch 0, chunk 0): it waits for ever", 1, 1,
      { "F0 RB0 SF0 B0", "RF0 F0 B0 SB0" } },
    { "this stage has no such slot", 1, 1,
      { "F0 SF0 RB0 B0 SB0", "RF0 F0 B0 SB0" } },
    { "there is no such micro-batch", 1, 1,
      { "F0 SF0 RB0 B0 F1", "RF0 F0 B0 SB0" } },
    { "unknown kind", 1, 1,
      { "F0 SF0 RB0 B0 XX0", "RF0 F0 B0 SB0" } },
    /* messages carry no name: the receiver would take micro-batch 0 for 1 */
    { "its neighbour sends another message at this point", 2, 2,
      { "F0 SF0 F1 SF1 RB0 B0 RB1 B1",
        "RF1 F1 RF0 F0 B0 SB0 B1 SB1" } },
    /* the second micro-batch would overwrite the first one's activations */
    { "stage 0 slot 2 (forward of micro-batch 1, chunk 0): an earlier micro-batch still holds", 2, 1,
      { "F0 SF0 F1 SF1 RB0 B0 RB1 B1",
        "RF0 F0 B0 SB0 RF1 F1 B1 SB1" } },
    { NULL, 2, 2,
      { "F0 SF0 F1 SF1 RB0 B0 RB1 B1",
        "RF0 F0 B0 SB0 RF1 F1 B1 SB1" } },
    /* W before B, W twice, none at all */
    { NULL, 1, 1, { "F0 SF0 RB0 B0 W0", "RF0 F0 B0 SB0 W0" } },
    { "stage 1 slot 2 (weights of micro-batch 0, chunk 0): it comes before what it needs", 1, 1,
      { "F0 SF0 RB0 B0 W0", "RF0 F0 W0 B0 SB0" } },
    { "(weights of micro-batch 0, chunk 0): it is there twice", 1, 1,
      { "F0 SF0 RB0 B0 W0 W0", "RF0 F0 B0 SB0 W0" } },
    { "stage 1 has no weights of micro-batch 0, chunk 0", 1, 1,
      { "F0 SF0 RB0 B0 W0", "RF0 F0 B0 SB0" } },
    /* sums of gradients in another order: right, but other bits */
    { "(backward of micro-batch 1, chunk 0): it comes before that of an earlier", 2, 2,
      { "F0 SF0 F1 SF1 RB1 B1 RB0 B0",
        "RF0 F0 RF1 F1 B1 SB1 B0 SB0" } },
    { "stage 0 slot 8 (weights of micro-batch 1, chunk 0): it comes before that of an earlier", 2, 2,
      { "F0 SF0 F1 SF1 RB0 B0 RB1 B1 W1 W0",
        "RF0 F0 RF1 F1 B0 SB0 B1 SB1 W0 W1" } },
    /* two chunks: the second forward of stage 0 receives what wraps around */
    { NULL, 1, 1,
      { "F0a SF0a RF0b F0b SF0b RB0b B0b SB0b RB0a B0a",
        "RF0a F0a SF0a RF0b F0b B0b SB0b RB0a B0a SB0a" } },
    { "there is no such chunk", 1, 1,
      { "F0a SF0a RF0b F0b SF0b RB0b B0b SB0b RB0a B0a F0c",
        "RF0a F0a SF0a RF0b F0b B0b SB0b RB0a B0a SB0a" } },
    { "stage 1 has no send forward of micro-batch 0, chunk 0", 1, 1,
      { "F0a SF0a RF0b F0b SF0b RB0b B0b SB0b RB0a B0a",
        "RF0a F0a RF0b F0b B0b SB0b RB0a B0a SB0a" } },
    /* the last stage of all sends nothing on */
    { "this stage has no such slot", 1, 1,
      { "F0a SF0a RF0b F0b SF0b RB0b B0b SB0b RB0a B0a",
        "RF0a F0a SF0a RF0b F0b SF0b B0b SB0b RB0a B0a SB0a" } },
    /* each stage waits for the other's second chunk */
    { "it waits for ever", 1, 1,
      { "F0a RF0b SF0a F0b SF0b RB0b B0b SB0b RB0a B0a",
        "RF0a F0a SF0a RF0b F0b B0b SB0b RB0a B0a SB0a" } },
    /* activations that wrap around and gradients come from stage 1 along one way: sent in this
     * order, they must be received in it */
    { "stage 0 slot 7 (receive forward of micro-batch 1, chunk 1): its neighbour sends another", 2, 2,
      { "F0a SF0a RF0b F0b SF0b F1a SF1a RF1b F1b SF1b RB0b B0b SB0b RB1b B1b SB1b RB0a B0a RB1a B1a",
        "RF0a F0a SF0a RF0b F0b B0b SB0b RF1a F1a SF1a RF1b F1b B1b SB1b RB0a B0a SB0a RB1a B1a SB1a" } },
    { NULL, 2, 2,
      { "F0a SF0a RF0b F0b SF0b F1a SF1a RB0b RF1b F1b SF1b B0b SB0b RB1b B1b SB1b RB0a B0a RB1a B1a",
        "RF0a F0a SF0a RF0b F0b B0b SB0b RF1a F1a SF1a RF1b F1b B1b SB1b RB0a B0a SB0a RB1a B1a SB1a" } },
    { "in_flight is 0", 1, 0, { "F0 SF0 RB0 B0", "RF0 F0 B0 SB0" } },
};
// clang-format on

static void broken_tables_are_refused_and_named(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof tables / sizeof tables[0]; k++) {
        Slot rows[2][ROW_MAX];
        Slot *slots[2] = { rows[0], rows[1] };
        int counts[2];
        for (int stage = 0; stage < 2; stage++)
            counts[stage] = read_row(tables[k].rows[stage], rows[stage]);
        const Schedule s = { .stages = 2,
                             .chunks = strchr(tables[k].rows[0], 'b') ? 2 : 1,
                             .micros = tables[k].micros,
                             .backward = true,
                             .weights = strchr(tables[k].rows[0], 'W') != NULL,
                             .in_flight = tables[k].in_flight,
                             .counts = counts,
                             .slots = slots };
        if (tables[k].why)
            refused(&s, tables[k].why);
        else
            check_table(SCHEDULE_1F1B, &s);
    }
}

static void table_says_what_it_is_for(void **state)
{
    (void)state;
    Schedule s = table(SCHEDULE_FORWARD, 2, 1, 3);
    assert_false(s.backward);
    s.backward = true;
    refused(&s, "stage 0 has no backward of micro-batch 0");
    schedule_destroy(&s);
    s = table(SCHEDULE_ZERO_BUBBLE, 2, 1, 3);
    s.weights = false;
    refused(&s, "this stage has no such slot");
    schedule_destroy(&s);
}

/* ---- time ---- */

/* forward, input gradient, weight gradient: multiples of every number of chunks, so that all sums
 * are exact */
static const ScheduleTimes times[] = { { 12, 12, 12 }, { 24, 36, 12 }, { 12, 24, 12 } };

static void check_times(const ScheduleOptions *options)
{
    Schedule s = table(options->kind, options->stages, options->chunks, options->micros);
    for (size_t k = 0; k < sizeof times / sizeof times[0]; k++) {
        const double work =
            options->micros * (times[k].forward + times[k].backward + times[k].weights);
        Trace traces[8];
        assert_int_equal(schedule_simulate(&s, &times[k], traces), OK);
        assert_true(trace_work(traces, s.stages) == s.stages * work);
        const double idle = trace_span(traces, s.stages) - work;
        if (idle != bubble_idle(options, &times[k]))
            fail_msg("kind %d, %d stages, %d chunks, %d micro-batches: idle %g, expected %g",
                     (int)options->kind, s.stages, s.chunks, s.micros, idle,
                     bubble_idle(options, &times[k]));
        /* one division more */
        assert_true(fabs(trace_bubble(traces, s.stages) - bubble_fraction(options, &times[k])) <
                    1e-15);
        traces_destroy(traces, s.stages);
    }
    schedule_destroy(&s);
}

static void bubble_of_every_table_is_the_formulas(void **state)
{
    (void)state;
    for_every_bubble(check_times);
}

/* ---- drawings ---- */

static char *draw(Status (*how)(const Schedule *, FILE *), const Schedule *s)
{
    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    assert_non_null(stream);
    assert_int_equal(how(s, stream), OK);
    assert_int_equal(fclose(stream), 0);
    return text;
}

static void text_shows_who_does_what_when(void **state)
{
    (void)state;
    Schedule s = table(SCHEDULE_ZERO_BUBBLE, 2, 1, 3);
    char *text = draw(schedule_draw_text, &s);
    assert_string_equal(text, "rank 0   F0 F1 .  B0 W0 F2 B1 W1 B2 W2\n"
                              "rank 1   .  F0 B0 F1 B1 W0 F2 B2 W1 W2\n"
                              "bubble 10.0 %\n");
    free(text);
    schedule_destroy(&s);
    s = table(SCHEDULE_INTERLEAVED, 2, 2, 2);
    text = draw(schedule_draw_text, &s);
    assert_non_null(strstr(text, "rank 0   F0a F1a F0b F1b .   .   B0b B0b"));
    free(text);
    schedule_destroy(&s);
}

static int count_of(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = strstr(text, what); at; at = strstr(at + 1, what)) count++;
    return count;
}

static void svg_has_a_box_for_each_piece_of_work(void **state)
{
    (void)state;
    Schedule s = table(SCHEDULE_ZERO_BUBBLE, 4, 1, 6);
    char *text = draw(schedule_draw_svg, &s);
    assert_int_equal(strncmp(text, "<svg ", 5), 0);
    assert_string_equal(text + strlen(text) - 7, "</svg>\n");
    /* the paper and a legend of three stand beside them */
    assert_int_equal(count_of(text, "<rect "), 4 * 6 * 3 + 3 + 1);
    assert_int_equal(count_of(text, "bubble 14.3 %"), 1);
    free(text);
    schedule_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_generated_table_is_accepted),
        cmocka_unit_test(stage_holds_no_more_than_the_stages_from_it_on),
        cmocka_unit_test(fewer_micro_batches_need_no_more_slots),
        cmocka_unit_test(gradients_are_summed_in_the_order_of_micro_batches),
        cmocka_unit_test(every_missing_slot_is_refused),
        cmocka_unit_test(every_duplicate_slot_is_refused),
        cmocka_unit_test(broken_tables_are_refused_and_named),
        cmocka_unit_test(table_says_what_it_is_for),
        cmocka_unit_test(bubble_of_every_table_is_the_formulas),
        cmocka_unit_test(text_shows_who_does_what_when),
        cmocka_unit_test(svg_has_a_box_for_each_piece_of_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
