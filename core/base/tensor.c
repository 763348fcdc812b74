#include "core/base/tensor.h"

#include <assert.h>
#include <stdio.h>

size_t dtype_bytes(DType dtype)
{
    static const size_t bytes[DTYPE_COUNT] = { 4, 2, 2, 8, 4, 8, 1 };
    assert(dtype < DTYPE_COUNT);
    return bytes[dtype];
}

const char *dtype_name(DType dtype)
{
    static const char *const names[DTYPE_COUNT] = {
        "F32", "BF16", "F16", "F64", "I32", "I64", "U8"
    };
    assert(dtype < DTYPE_COUNT);
    return names[dtype];
}

Tensor tensor_of(void *data, DType dtype, Shape shape)
{
    assert(shape.ndim >= 0 && shape.ndim <= MAX_DIMS);
    Tensor t = { .data = data, .dtype = dtype, .ndim = shape.ndim };
    for (int i = 0; i < MAX_DIMS; i++) t.shape[i] = i < shape.ndim ? shape.dims[i] : 1;
    return t;
}

Tensor tensor_none(void)
{
    return tensor_of(NULL, F32, (Shape){ 1, { 0 } });
}

int64_t tensor_count(Tensor t)
{
    int64_t n = 1;
    for (int i = 0; i < t.ndim; i++) n *= t.shape[i];
    return n;
}

size_t tensor_bytes(Tensor t)
{
    return (size_t)tensor_count(t) * dtype_bytes(t.dtype);
}

int64_t tensor_width(Tensor t)
{
    return t.ndim > 0 ? t.shape[t.ndim - 1] : 1;
}

int64_t tensor_rows(Tensor t)
{
    int64_t n = 1;
    for (int i = 0; i + 1 < t.ndim; i++) n *= t.shape[i];
    return n;
}

Tensor tensor_reshape(Tensor t, Shape shape)
{
    const Tensor r = tensor_of(t.data, t.dtype, shape);
    assert(tensor_count(r) == tensor_count(t));
    return r;
}

Tensor tensor_slice(Tensor t, int64_t first, int64_t count)
{
    assert(t.ndim > 0 && first >= 0 && count >= 0 && first + count <= t.shape[0]);
    Tensor r = t;
    const size_t row = t.shape[0] > 0 ? tensor_bytes(t) / (size_t)t.shape[0] : 0;
    if (t.data) r.data = (char *)t.data + (size_t)first * row;
    r.shape[0] = count;
    return r;
}

Tensor tensor_at(Tensor t, int64_t index)
{
    const Tensor s = tensor_slice(t, index, 1);
    Tensor r = s;
    r.ndim = s.ndim - 1;
    for (int i = 0; i < MAX_DIMS; i++) r.shape[i] = i < r.ndim ? s.shape[i + 1] : 1;
    return r;
}

const char *tensor_describe(Tensor t, char out[96])
{
    /* five dimensions of 20 digits do not fit 96 letters: the description is cut, not the memory */
    char text[160];
    int n = snprintf(text, sizeof text, "(");
    for (int i = 0; i < t.ndim; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%lld", i ? ", " : "",
                      (long long)t.shape[i]);
    (void)snprintf(text + n, sizeof text - (size_t)n, ") %s", dtype_name(t.dtype));
    (void)snprintf(out, 96, "%.95s", text);
    return out;
}

float *tensor_f32(Tensor t)
{
    assert(t.dtype == F32);
    return (float *)t.data;
}
