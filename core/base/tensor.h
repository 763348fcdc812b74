/*
 * tensor: a typed, shaped view of memory that somebody else owns.
 *
 * Always contiguous, row-major, outermost dimension first. A tensor whose data is NULL stands for
 * "absent" where an argument is optional, and for "counted, not allocated" during planning.
 */
#ifndef ZT_CORE_BASE_TENSOR_H
#define ZT_CORE_BASE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { MAX_DIMS = 5 };

typedef enum DType { F32, BF16, F16, F64, I32, I64, U8, DTYPE_COUNT } DType;

typedef struct Tensor {
    void *data; /* view */
    DType dtype;
    int ndim;
    int64_t shape[MAX_DIMS]; /* entries from ndim on are 1 */
} Tensor;

typedef struct Shape {
    int ndim;
    int64_t dims[MAX_DIMS];
} Shape;

/* SHAPE(batch, tokens, width) */
#define SHAPE(...) \
    ((Shape){ (int)(sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), { __VA_ARGS__ } })

size_t dtype_bytes(DType dtype);
const char *dtype_name(DType dtype); /* "F32": the safetensors spelling */

Tensor tensor_of(void *data, DType dtype, Shape shape);
Tensor tensor_none(void);
int64_t tensor_count(Tensor t); /* elements */
size_t tensor_bytes(Tensor t);
int64_t tensor_rows(Tensor t);  /* elements / last dimension */
int64_t tensor_width(Tensor t); /* last dimension */
/* The same elements with another shape; the counts must agree. */
Tensor tensor_reshape(Tensor t, Shape shape);
/* t[first .. first + count) along the outermost dimension. */
Tensor tensor_slice(Tensor t, int64_t first, int64_t count);
/* t[index]: one dimension fewer. */
Tensor tensor_at(Tensor t, int64_t index);
/* "(8, 80, 256) F32" into out. */
const char *tensor_describe(Tensor t, char out[96]);
float *tensor_f32(Tensor t); /* asserts the dtype */

#ifdef __cplusplus
}
#endif
#endif
