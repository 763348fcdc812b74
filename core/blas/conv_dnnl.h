/*
 * conv_dnnl: the insides of conv.h, for core/blas/conv*.c only.
 *
 * Versions 2 and 3 of oneDNN describe memory and convolutions by different calls: conv_dnnl2.c and
 * conv_dnnl3.c, of which one is compiled. All else is the same in both.
 */
#ifndef ZT_CORE_BLAS_CONV_DNNL_H
#define ZT_CORE_BLAS_CONV_DNNL_H

#include "core/blas/conv.h"

#include <oneapi/dnnl/dnnl.h>

/* How numbers lie in memory: what the library takes, and what its owner destroys. */
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t ConvLayout;
typedef dnnl_memory_desc_t ConvOwnLayout;
#else
typedef const dnnl_memory_desc_t *ConvLayout;
typedef dnnl_memory_desc_t *ConvOwnLayout;
#endif

/* Rows, or weights in whatever order the library likes (dnnl_format_tag_any). */
dnnl_status_t conv_layout_by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag,
                                 ConvOwnLayout *out);
dnnl_status_t conv_layout_by_strides(int ndims, const dnnl_dims_t dims, const dnnl_dims_t strides,
                                     ConvOwnLayout *out);
dnnl_status_t conv_layout_copy(ConvLayout layout, ConvOwnLayout *out);
/* NULL is fine. */
void conv_layout_destroy(ConvOwnLayout layout);

/* A forward convolution without dilation; bias NULL: none. add: to what is there. The caller
 * destroys *out. */
typedef struct ConvProblem {
    ConvLayout src, weights, bias, dst;
    dnnl_dims_t strides, left, right;
    bool add;
} ConvProblem;

dnnl_status_t conv_describe(dnnl_engine_t engine, const ConvProblem *problem,
                            dnnl_primitive_desc_t *out);

/* ---- shared by conv.c and conv_weights.c ---------------------------------------------------- */

struct ConvWeights {
    ConvSize size;
    int taps;
    ConvOwnLayout layout; /* owned, as are the two below; of a tap */
    float *bias;          /* (out); NULL: only described */
    char *tap[CONV_TAPS];
    size_t tap_bytes;
};

#define CONV_TRY(expression, size, what)                                                        \
    do {                                                                                        \
        const dnnl_status_t conv_status_ = (expression);                                        \
        CHECK(conv_status_ == dnnl_success, ERR_DEVICE,                                         \
              "convolution (%lld to %lld channels, %d x %d): oneDNN refused %s with status %d", \
              (long long)(size).in, (long long)(size).out, (size).side, (size).side, what,      \
              (int)conv_status_);                                                               \
    } while (0)

/* What a program does with what is in y and with the bias. */
typedef enum ConvMode { CONV_WRITE_BIAS, CONV_ADD_BIAS, CONV_ADD, CONV_MODES } ConvMode;

/* The library's description of a row of `width` columns. weights: the order that they must have, or
 * NULL: the library chooses. The caller destroys it. */
Status conv_describe_row(dnnl_engine_t engine, ConvSize size, int64_t width, ConvMode mode,
                         ConvLayout weights, dnnl_primitive_desc_t *out);
Status conv_engine_create(dnnl_engine_t *out);
/* Lines of cache that nobody else shares; NULL when there is no memory. */
void *conv_alloc(size_t bytes);
/* The same weights in another order; only described when they are. */
Status conv_weights_reorder(const ConvWeights *weights, ConvLayout layout, ConvWeights **out);

#endif
