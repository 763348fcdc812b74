/*
 * rope_table: the rotation angles of a token grid (spec 4.8), computed in double.
 */
#ifndef ZT_CORE_MODEL_ROPE_TABLE_H
#define ZT_CORE_MODEL_ROPE_TABLE_H

#include "core/base/tensor.h"

/* table (count, head_dim / 2, 2) F32 of (cos, sin) of the tokens [first, first + count) of a grid
 * of t * h * w, on the host. A head's pairs are shared out to frame, row and column: 2 (head_dim /
 * 6) values each for row and column, the rest for the frame. */
void rope_table_fill(Tensor table, int64_t h, int64_t w, int64_t first);

#endif
