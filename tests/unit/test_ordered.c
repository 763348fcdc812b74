/* core/base/ordered: items of several threads end in order, and so does their first failure. */
#include "core/base/ordered.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

enum { ITEMS = 40 };

typedef struct Trace {
    int64_t order[ITEMS], count;
    int64_t fails; /* items from here on fail */
} Trace;

/* Later items are quicker, so that without waiting they would finish first. */
static Status trace_item(Ordered *order, void *context, int worker, int64_t item)
{
    Trace *trace = context;
    (void)worker;
    usleep((useconds_t)(ITEMS - item) * 50);
    if (item >= trace->fails) return status_fail(ERR_FORMAT, "item %lld", (long long)item);
    TRY(ordered_wait(order, item));
    trace->order[trace->count++] = item;
    return OK;
}

static void many_workers_finish_in_order(void **state)
{
    (void)state;
    for (int workers = 1; workers <= 8; workers *= 2) {
        Trace trace = { .fails = ITEMS };
        assert_int_equal(ordered_run(ITEMS, workers, trace_item, &trace), OK);
        assert_int_equal(trace.count, ITEMS);
        for (int64_t i = 0; i < ITEMS; i++) assert_int_equal(trace.order[i], i);
    }
}

static void the_first_failure_in_order_is_the_answer(void **state)
{
    (void)state;
    for (int workers = 1; workers <= 8; workers *= 2) {
        Trace trace = { .fails = 20 };
        assert_int_equal(ordered_run(ITEMS, workers, trace_item, &trace), ERR_FORMAT);
        assert_string_equal(status_message(), "item 20");
        assert_int_equal(trace.count, 20);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_workers_finish_in_order),
        cmocka_unit_test(the_first_failure_in_order_is_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
