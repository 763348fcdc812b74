#include "core/parallel/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { MAX_STAGES = 6, MAX_MICROS = 12 };

static int min_int(int a, int b)
{
    return a < b ? a : b;
}

static void every_generated_table_is_accepted(void **state)
{
    (void)state;
    for (int stages = 1; stages <= MAX_STAGES; stages++) {
        for (int micros = 0; micros <= MAX_MICROS; micros++) {
            Schedule s;
            assert_int_equal(schedule_create(SCHEDULE_1F1B, stages, micros, &s), OK);
            assert_int_equal(schedule_check(&s, 1), OK);
            assert_int_equal(s.in_flight, min_int(stages, micros));
            schedule_destroy(&s);
            assert_int_equal(schedule_create(SCHEDULE_FORWARD, stages, micros, &s), OK);
            assert_int_equal(schedule_check(&s, 0), OK);
            assert_int_equal(s.in_flight, min_int(min_int(stages, 2), micros));
            schedule_destroy(&s);
        }
    }
}

/* That is why 1F1B: the activations of stage s are those of stages - s micro-batches. */
static void stage_holds_no_more_than_the_stages_from_it_on(void **state)
{
    (void)state;
    for (int stages = 1; stages <= MAX_STAGES; stages++) {
        Schedule s;
        assert_int_equal(schedule_create(SCHEDULE_1F1B, stages, MAX_MICROS, &s), OK);
        for (int stage = 0; stage < stages; stage++) {
            int alive = 0, most = 0;
            for (int i = 0; i < s.counts[stage]; i++) {
                if (s.slots[stage][i].kind == SLOT_FORWARD) alive++;
                if (s.slots[stage][i].kind == SLOT_BACKWARD) alive--;
                if (alive > most) most = alive;
            }
            assert_int_equal(most, stages - stage);
        }
        schedule_destroy(&s);
    }
}

/* Micro-batches are accumulated in one order, whatever the number of stages. */
static void backwards_come_in_the_order_of_micro_batches(void **state)
{
    (void)state;
    for (int stages = 1; stages <= MAX_STAGES; stages++) {
        Schedule s;
        assert_int_equal(schedule_create(SCHEDULE_1F1B, stages, MAX_MICROS, &s), OK);
        for (int stage = 0; stage < stages; stage++) {
            int next = 0;
            for (int i = 0; i < s.counts[stage]; i++)
                if (s.slots[stage][i].kind == SLOT_BACKWARD)
                    assert_int_equal(s.slots[stage][i].micro, next++);
        }
        schedule_destroy(&s);
    }
}

static void refused(const Schedule *s, const char *why)
{
    assert_int_equal(schedule_check(s, 1), ERR_CONFIG);
    if (!strstr(status_message(), why)) fail_msg("%s\nlacks: %s", status_message(), why);
}

static void every_missing_slot_is_refused(void **state)
{
    (void)state;
    for (int stage = 0; stage < 3; stage++) {
        for (int i = 0;; i++) {
            Schedule s;
            assert_int_equal(schedule_create(SCHEDULE_1F1B, 3, 4, &s), OK);
            const bool more = i < s.counts[stage];
            if (more) {
                Slot *at = &s.slots[stage][i];
                memmove(at, at + 1, (size_t)(s.counts[stage] - i - 1) * sizeof *at);
                s.counts[stage]--;
                refused(&s, " has no ");
            }
            schedule_destroy(&s);
            if (!more) break;
        }
    }
}

static void every_duplicate_slot_is_refused(void **state)
{
    (void)state;
    for (int stage = 0; stage < 3; stage++) {
        Schedule s;
        assert_int_equal(schedule_create(SCHEDULE_1F1B, 3, 4, &s), OK);
        for (int i = 0; i + 1 < s.counts[stage]; i++) {
            const Slot kept = s.slots[stage][i + 1];
            s.slots[stage][i + 1] = s.slots[stage][i];
            refused(&s, "it is there twice");
            s.slots[stage][i + 1] = kept;
        }
        assert_int_equal(schedule_check(&s, 1), OK);
        schedule_destroy(&s);
    }
}

/* Two stages' tables, written out: F0 is the forward of micro-batch 0, RB1 receives the gradient of
 * micro-batch 1, XX is a kind that does not exist. */
typedef struct Written {
    const char *why; /* part of the message; NULL: the table is right */
    int micros, in_flight;
    const char *rows[2];
} Written;

static SlotKind read_kind(const char *name)
{
    static const char *const names[] = { "F", "B", "SF", "RF", "SB", "RB" };
    for (int kind = 0; kind < 6; kind++)
        if (strcmp(name, names[kind]) == 0) return (SlotKind)kind;
    return (SlotKind)17;
}

static int read_row(const char *text, Slot out[16])
{
    int count = 0, used, micro;
    char name[3];
    for (; sscanf(text, "%2[A-Z]%d%n", name, &micro, &used) == 2;
         text += used + (text[used] == ' '))
        out[count++] = (Slot){ read_kind(name), micro };
    assert_true(*text == 0 && count < 16);
    return count;
}

// clang-format off
static const Written tables[] = {
    { NULL, 1, 1, { "F0 SF0 RB0 B0", "RF0 F0 B0 SB0" } },
    { "stage 1 slot 2 (forward of micro-batch 0): it comes before what it needs", 1, 1,
      { "F0 SF0 RB0 B0", "B0 SB0 F0 RF0" } },
    { "(forward of micro-batch 0): it comes before what it needs", 1, 1,
      { "F0 SF0 RB0 B0", "F0 RF0 B0 SB0" } },
    { "(send forward of micro-batch 0): it comes before what it needs", 1, 1,
      { "SF0 F0 RB0 B0", "RF0 F0 B0 SB0" } },
    { "(backward of micro-batch 0): it comes before what it needs", 1, 1,
      { "F0 SF0 B0 RB0", "RF0 F0 B0 SB0" } },
    { "(send backward of micro-batch 0): it comes before what it needs", 1, 1,
      { "F0 SF0 RB0 B0", "RF0 F0 SB0 B0" } },
    /* each waits for the other's message */
    { "stage 0 slot 1 (receive backward of micro-batch 0): it waits for ever", 1, 1,
      { "F0 RB0 SF0 B0", "RF0 F0 B0 SB0" } },
    { "this stage has no such slot", 1, 1,
      { "F0 SF0 RB0 B0 SB0", "RF0 F0 B0 SB0" } },
    { "there is no such micro-batch", 1, 1,
      { "F0 SF0 RB0 B0 F1", "RF0 F0 B0 SB0" } },
    { "unknown kind", 1, 1,
      { "F0 SF0 RB0 B0 XX0", "RF0 F0 B0 SB0" } },
    /* messages carry no name: the receiver would take micro-batch 0 for 1 */
    { "its neighbour sends another micro-batch at this point", 2, 2,
      { "F0 SF0 F1 SF1 RB1 B1 RB0 B0",
        "RF1 F1 B1 SB1 RF0 F0 B0 SB0" } },
    /* the second micro-batch would overwrite the first one's activations */
    { "stage 0 slot 2 (forward of micro-batch 1): an earlier micro-batch still holds", 2, 1,
      { "F0 SF0 F1 SF1 RB0 B0 RB1 B1",
        "RF0 F0 B0 SB0 RF1 F1 B1 SB1" } },
    { NULL, 2, 2,
      { "F0 SF0 F1 SF1 RB0 B0 RB1 B1",
        "RF0 F0 B0 SB0 RF1 F1 B1 SB1" } },
    { "in_flight is 0", 1, 0, { "F0 SF0 RB0 B0", "RF0 F0 B0 SB0" } },
};
// clang-format on

static void broken_tables_are_refused_and_named(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof tables / sizeof tables[0]; k++) {
        Slot rows[2][16];
        Slot *slots[2] = { rows[0], rows[1] };
        int counts[2];
        for (int stage = 0; stage < 2; stage++)
            counts[stage] = read_row(tables[k].rows[stage], rows[stage]);
        const Schedule s = { .stages = 2,
                             .micros = tables[k].micros,
                             .in_flight = tables[k].in_flight,
                             .counts = counts,
                             .slots = slots };
        if (tables[k].why)
            refused(&s, tables[k].why);
        else
            assert_int_equal(schedule_check(&s, 1), OK);
    }
}

static void table_without_backwards_does_not_train(void **state)
{
    (void)state;
    Schedule s;
    assert_int_equal(schedule_create(SCHEDULE_FORWARD, 2, 3, &s), OK);
    refused(&s, "stage 0 has no backward of micro-batch 0");
    schedule_destroy(&s);
    assert_int_equal(schedule_create(SCHEDULE_1F1B, 2, 3, &s), OK);
    assert_int_equal(schedule_check(&s, 0), ERR_CONFIG);
    schedule_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_generated_table_is_accepted),
        cmocka_unit_test(stage_holds_no_more_than_the_stages_from_it_on),
        cmocka_unit_test(backwards_come_in_the_order_of_micro_batches),
        cmocka_unit_test(every_missing_slot_is_refused),
        cmocka_unit_test(every_duplicate_slot_is_refused),
        cmocka_unit_test(broken_tables_are_refused_and_named),
        cmocka_unit_test(table_without_backwards_does_not_train),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
