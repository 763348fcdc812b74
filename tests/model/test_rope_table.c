/* The rotation angles of Wan's own head size against the published frequencies. */
#include "core/model/rope_table.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { HEAD_DIM = 128, PAIRS = HEAD_DIM / 2 };

/* of 64 pairs 22 turn with the frame, 21 with the row, 21 with the column */
static void angles_of_a_head_of_128(void **state)
{
    const struct {
        int pair, axis;
        double frequency; /* 10000^(-2j/44) on the frame axis, 10000^(-2j/42) on the others */
    } published[] = {
        { 0, 0, 1.0 },  { 1, 0, 0.6579332 },  { 21, 0, 1.519911e-4 },
        { 22, 1, 1.0 }, { 23, 1, 0.6449467 }, { 42, 1, 1.550516e-4 },
        { 43, 2, 1.0 }, { 44, 2, 0.6449467 }, { 63, 2, 1.550516e-4 },
    };
    const int64_t grid[3] = { 3, 4, 5 };
    const int64_t tokens = grid[0] * grid[1] * grid[2];
    float *values = calloc((size_t)(tokens * HEAD_DIM), sizeof *values);

    (void)state;
    rope_table_fill(tensor_of(values, F32, SHAPE(tokens, PAIRS, 2)), grid[1], grid[2], 0);
    for (int64_t token = 0; token < tokens; token++) {
        const int64_t position[3] = { token / 20, token / 5 % 4, token % 5 };
        for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
            const float *pair = values + token * HEAD_DIM + 2 * published[i].pair;
            const double angle = (double)position[published[i].axis] * published[i].frequency;
            /* seven published digits, positions up to 4, and one rounding to float */
            assert_true(fabs((double)pair[0] - cos(angle)) < 4 * 1e-7 + 6e-8);
            assert_true(fabs((double)pair[1] - sin(angle)) < 4 * 1e-7 + 6e-8);
        }
    }
    free(values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(angles_of_a_head_of_128),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
