#include "core/cpu/table.h"

#include <pthread.h>

#include "core/cpu/cpu.h"

/* Filled once and constant from then on: devices hold a view, and there is nothing to destroy. */
static OpTable table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
#define FILL(topic) CPU_FILL(topic)(&table);
    CPU_TOPICS(FILL)
#undef FILL
}

const OpTable *CPU_PASTE(cpu_, table, CPU_ISA)(void)
{
    (void)pthread_once(&once, fill);
    return &table;
}
