/* table: the tables of BF16 compute; beside the AVX-512 one, they replace products of matrices. */
#ifndef ZT_CORE_CPU_BF16_TABLE_H
#define ZT_CORE_CPU_BF16_TABLE_H

#include "core/op_table.h"

const OpTable *bf16_table_avx512_bf16(void);
const OpTable *bf16_table_amx(void);

#endif
