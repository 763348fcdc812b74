#include "core/op_check.h"

#include <stdbool.h>

/* A tensor matches (rows, width) when a cut of its dimensions gives these two products: so
 * (batch, tokens, width) is rows, and a convolution's kernel is a matrix. */
static bool shape_splits(Tensor t, int64_t rows, int64_t width)
{
    if (tensor_count(t) != rows * width) return false;
    int64_t leading = 1;
    if (rows == 1) return true;
    for (int i = 0; i < t.ndim; i++) {
        leading *= t.shape[i];
        if (leading == rows) return true;
    }
    return false;
}

Status op_check_matrix(const char *op, const char *name, Tensor t, DType dtype, int64_t rows,
                       int64_t width)
{
    char shape[96];
    CHECK(t.dtype == dtype && shape_splits(t, rows, width), ERR_DEVICE,
          "%s: %s is %s, expected (%lld, %lld) %s", op, name, tensor_describe(t, shape),
          (long long)rows, (long long)width, dtype_name(dtype));
    CHECK(t.data || tensor_count(t) == 0, ERR_DEVICE, "%s: %s is absent", op, name);
    return OK;
}

Status op_check_dims(const char *op, const char *name, Tensor t, int ndim)
{
    char shape[96];
    CHECK(t.ndim == ndim, ERR_DEVICE, "%s: %s is %s, expected %d dimensions", op, name,
          tensor_describe(t, shape), ndim);
    return OK;
}

Status op_check_count(const char *op, const char *name, int64_t value, int64_t expected)
{
    CHECK(value == expected, ERR_DEVICE, "%s: %s is %lld, expected %lld", op, name,
          (long long)value, (long long)expected);
    return OK;
}
