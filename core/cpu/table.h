/* table: the CPU kernels of each instruction set, as a table that is filled at the first call. */
#ifndef ZT_CORE_CPU_TABLE_H
#define ZT_CORE_CPU_TABLE_H

#include "core/op_table.h"

const OpTable *cpu_table_x86_64(void);
const OpTable *cpu_table_avx2(void);
const OpTable *cpu_table_avx512(void);

#endif
