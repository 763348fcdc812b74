#include "core/model/rope_table.h"

#include <math.h>

/* Pairs of one axis at one position: frequency 10000^(-2j/D) with the axis' own D. */
static float *fill_axis(float *out, int64_t position, int64_t dims)
{
    for (int64_t j = 0; j < dims / 2; j++) {
        const double angle = (double)position * pow(10000.0, -2.0 * (double)j / (double)dims);
        *out++ = (float)cos(angle);
        *out++ = (float)sin(angle);
    }
    return out;
}

void rope_table_fill(Tensor table, int64_t h, int64_t w, int64_t first)
{
    const int64_t head_dim = 2 * table.shape[1];
    const int64_t side = 2 * (head_dim / 6), time = head_dim - 2 * side;
    float *out = tensor_f32(table);
    for (int64_t token = first; token < first + table.shape[0]; token++) {
        out = fill_axis(out, token / (h * w), time);
        out = fill_axis(out, token / w % h, side);
        out = fill_axis(out, token % w, side);
    }
}
