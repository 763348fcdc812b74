#include "core/cpu/bf16/table.h"

#include <pthread.h>

#include "core/cpu/bf16/panel.h"
#include "core/cpu/table.h"

static OpTable table;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Matrices in BF16, all else as it is. */
static void fill(void)
{
    table = *cpu_table_avx512();
    BF16_FILL(gemm)(&table);
    BF16_FILL(attention)(&table);
    BF16_FILL(attention_backward)(&table);
}

const OpTable *CPU_PASTE(bf16_, table, BF16_ISA)(void)
{
    (void)pthread_once(&once, fill);
    return &table;
}
