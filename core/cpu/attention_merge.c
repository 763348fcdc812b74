#include "core/cpu/cpu.h"

#include <math.h>

/* With e = exp(-|a - b|), at most 1 however large the scores are:
 * lse = max(a, b) + log(1 + e), and the two weigh 1 / (1 + e) and e / (1 + e). */
static void merge_row(float *restrict out, float *lse, const float *restrict part, float part_lse,
                      int64_t dim)
{
    const float a = *lse, b = part_lse;
    if (a == -INFINITY && b == -INFINITY) return; /* no key on either side */
    const float top = a > b ? a : b, low = a > b ? b : a;
    const float e = expf(low - top);
    const float large = 1.0f / (1.0f + e), small = e / (1.0f + e);
    const float mine = a > b ? large : small, theirs = a > b ? small : large;
    for (int64_t d = 0; d < dim; d++) out[d] = mine * out[d] + theirs * part[d];
    *lse = top + log1pf(e);
}

static Status attention_merge_kernel(const Device *dev, Tensor out, Tensor lse, Tensor part_out,
                                     Tensor part_lse)
{
    const int64_t tokens = out.shape[1], heads = out.shape[2], dim = out.shape[3];
    const int64_t rows = out.shape[0] * tokens;
#pragma omp parallel for schedule(static) num_threads(cpu_threads(dev, tensor_count(out)))
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++) {
            const int64_t at = (r * heads + h) * dim;
            const int64_t at_lse = (r / tokens * heads + h) * tokens + r % tokens;
            merge_row(tensor_f32(out) + at, tensor_f32(lse) + at_lse, tensor_f32(part_out) + at,
                      tensor_f32(part_lse)[at_lse], dim);
        }
    return OK;
}

void CPU_FILL(attention_merge)(OpTable *table)
{
    table->attention_merge = attention_merge_kernel;
}
