/* conv_dnnl: the insides of conv.h, for core/blas/conv*.c only. C API of oneDNN 2. */
#ifndef ZT_CORE_BLAS_CONV_DNNL_H
#define ZT_CORE_BLAS_CONV_DNNL_H

#include "core/blas/conv.h"

#include <oneapi/dnnl/dnnl.h>

struct ConvWeights {
    ConvSize size;
    int taps;
    dnnl_memory_desc_t layout; /* of a tap */
    size_t tap_bytes;          /* as reserved */
    float *bias;               /* owned, as are the taps; (out) */
    char *tap[CONV_TAPS];
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
                         const dnnl_memory_desc_t *weights, dnnl_primitive_desc_t *out);
Status conv_engine_create(dnnl_engine_t *out);
/* Lines of cache that nobody else shares; NULL when there is no memory. */
void *conv_alloc(size_t bytes);

/* The same weights in another order. */
Status conv_weights_reorder(const ConvWeights *weights, const dnnl_memory_desc_t *layout,
                            ConvWeights **out);

#endif
