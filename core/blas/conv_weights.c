#include "core/blas/conv_dnnl.h"

#include <stdlib.h>
#include <string.h>

/* The order that the library wants depends on the width a little, and hardly ever from here on. */
enum { USUAL_WIDTH = 64, LINE = 64 };

void *conv_alloc(size_t bytes)
{
    const size_t reserved = (bytes + LINE - 1) / LINE * LINE;
    return aligned_alloc(LINE, reserved > 0 ? reserved : LINE);
}

Status conv_engine_create(dnnl_engine_t *out)
{
    const dnnl_status_t status = dnnl_engine_create(out, dnnl_cpu, 0);
    CHECK(status == dnnl_success, ERR_DEVICE, "convolution: oneDNN has no engine (status %d)",
          (int)status);
    return OK;
}

static Status fill_attributes(dnnl_primitive_attr_t attributes, ConvSize size, ConvMode mode)
{
    dnnl_post_ops_t after;
    CONV_TRY(dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user), size,
             "room of the caller's");
    if (mode == CONV_WRITE_BIAS) return OK;
    CONV_TRY(dnnl_post_ops_create(&after), size, "a sum");
    dnnl_status_t status = dnnl_post_ops_append_sum(after, 1.0f);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(attributes, after);
    dnnl_post_ops_destroy(after);
    CONV_TRY(status, size, "a sum");
    return OK;
}

Status conv_describe_row(dnnl_engine_t engine, ConvSize size, int64_t width, ConvMode mode,
                         const dnnl_memory_desc_t *weights, dnnl_primitive_desc_t *out)
{
    const dnnl_dims_t src_dims = { 1, size.in, size.side, width };
    const dnnl_dims_t dst_dims = { 1, size.out, 1, width / size.stride };
    const dnnl_dims_t w_dims = { size.out, size.in, size.side, size.side };
    const dnnl_dims_t bias_dims = { size.out };
    const dnnl_dims_t strides = { size.stride, size.stride }, dilation = { 0, 0 };
    const dnnl_dims_t left = { 0, size.side == 3 && size.stride == 1 ? 1 : 0 };
    const dnnl_dims_t right = { 0, size.side == 3 ? 1 : 0 };
    dnnl_memory_desc_t src, dst, w, bias;
    dnnl_convolution_desc_t conv;
    dnnl_primitive_attr_t attributes;

    CONV_TRY(dnnl_memory_desc_init_by_tag(&src, 4, src_dims, dnnl_f32, dnnl_nhwc), size, "rows");
    CONV_TRY(dnnl_memory_desc_init_by_tag(&dst, 4, dst_dims, dnnl_f32, dnnl_nhwc), size, "rows");
    CONV_TRY(dnnl_memory_desc_init_by_tag(&w, 4, w_dims, dnnl_f32, dnnl_format_tag_any), size,
             "weights");
    CONV_TRY(dnnl_memory_desc_init_by_tag(&bias, 1, bias_dims, dnnl_f32, dnnl_x), size, "a bias");
    CONV_TRY(dnnl_dilated_convolution_forward_desc_init(
                 &conv, dnnl_forward_inference, dnnl_convolution_direct, &src,
                 weights ? weights : &w, mode == CONV_ADD ? NULL : &bias, &dst, strides, dilation,
                 left, right),
             size, "the shape");
    CONV_TRY(dnnl_primitive_attr_create(&attributes), size, "attributes");
    Status s = fill_attributes(attributes, size, mode);
    if (s == OK && dnnl_primitive_desc_create(out, &conv, attributes, engine, NULL) != dnnl_success)
        s = status_fail(ERR_DEVICE,
                        "convolution (%lld to %lld channels, %d x %d, %lld columns): oneDNN has "
                        "none for this machine",
                        (long long)size.in, (long long)size.out, size.side, size.side,
                        (long long)width);
    dnnl_primitive_attr_destroy(attributes);
    return s;
}

/* to (in its layout) = from (in its layout) */
static dnnl_status_t reorder(dnnl_engine_t engine, const dnnl_memory_desc_t *from, const void *src,
                             const dnnl_memory_desc_t *to, void *dst)
{
    dnnl_primitive_desc_t description = NULL;
    dnnl_primitive_t primitive = NULL;
    dnnl_memory_t in = NULL, out = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&description, from, engine, to, engine, NULL);
    if (status == dnnl_success) status = dnnl_primitive_create(&primitive, description);
    /* it only reads */
    if (status == dnnl_success) status = dnnl_memory_create(&in, from, engine, (void *)(size_t)src);
    if (status == dnnl_success) status = dnnl_memory_create(&out, to, engine, dst);
    if (status == dnnl_success)
        status = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    const dnnl_exec_arg_t args[] = { { DNNL_ARG_FROM, in }, { DNNL_ARG_TO, out } };
    if (status == dnnl_success) status = dnnl_primitive_execute(primitive, stream, 2, args);
    if (status == dnnl_success) status = dnnl_stream_wait(stream);
    if (stream) dnnl_stream_destroy(stream);
    if (out) dnnl_memory_destroy(out);
    if (in) dnnl_memory_destroy(in);
    if (primitive) dnnl_primitive_destroy(primitive);
    if (description) dnnl_primitive_desc_destroy(description);
    return status;
}

/* Room for all, in the order `layout`. */
static Status weights_alloc(ConvSize size, int taps, const dnnl_memory_desc_t *layout,
                            ConvWeights **out)
{
    ConvWeights *w = calloc(1, sizeof *w);
    CHECK(w, ERR_MEMORY, "no memory for the weights of a convolution");
    *w = (ConvWeights){ .size = size, .taps = taps, .layout = *layout };
    w->tap_bytes = dnnl_memory_desc_get_size(layout);
    bool whole = (w->bias = conv_alloc((size_t)size.out * sizeof(float))) != NULL;
    for (int t = 0; t < taps; t++) whole = (w->tap[t] = conv_alloc(w->tap_bytes)) && whole;
    if (!whole) {
        const size_t bytes = conv_weights_bytes(w);
        conv_weights_destroy(w);
        return status_fail(ERR_MEMORY, "no memory for %zu bytes of weights of a convolution",
                           bytes);
    }
    *out = w;
    return OK;
}

static Status fill_taps(dnnl_engine_t engine, ConvWeights *to, const dnnl_memory_desc_t *from,
                        const void *const *taps)
{
    for (int t = 0; t < to->taps; t++)
        CONV_TRY(reorder(engine, from, taps[t], &to->layout, to->tap[t]), to->size, "its weights");
    return OK;
}

/* One tap of (out, in, taps, side, side) as it lies there. */
static Status describe_tap(ConvSize size, int taps, dnnl_memory_desc_t *out)
{
    const int64_t area = (int64_t)size.side * size.side;
    const dnnl_dims_t dims = { size.out, size.in, size.side, size.side };
    const dnnl_dims_t strides = { size.in * taps * area, taps * area, size.side, 1 };
    CONV_TRY(dnnl_memory_desc_init_by_strides(out, 4, dims, dnnl_f32, strides), size, "weights");
    return OK;
}

static Status create_in(dnnl_engine_t engine, ConvSize size, int taps, const float *w,
                        const float *bias, ConvWeights **out)
{
    dnnl_primitive_desc_t row;
    dnnl_memory_desc_t from, layout;
    const void *at[CONV_TAPS] = { NULL };
    ConvWeights *made;

    TRY(describe_tap(size, taps, &from));
    TRY(conv_describe_row(engine, size, USUAL_WIDTH, CONV_WRITE_BIAS, NULL, &row));
    layout = *dnnl_primitive_desc_query_md(row, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_destroy(row);
    TRY(weights_alloc(size, taps, &layout, &made));
    memcpy(made->bias, bias, (size_t)size.out * sizeof(float));
    for (int t = 0; t < taps; t++) at[t] = w + (int64_t)t * size.side * size.side;
    const Status s = fill_taps(engine, made, &from, at);
    if (s == OK)
        *out = made;
    else
        conv_weights_destroy(made);
    return s;
}

Status conv_weights_create(ConvSize size, int taps, const float *w, const float *bias,
                           ConvWeights **out)
{
    dnnl_engine_t engine;
    TRY(conv_engine_create(&engine));
    const Status s = create_in(engine, size, taps, w, bias, out);
    dnnl_engine_destroy(engine);
    return s;
}

Status conv_weights_reorder(const ConvWeights *weights, const dnnl_memory_desc_t *layout,
                            ConvWeights **out)
{
    const void *at[CONV_TAPS] = { weights->tap[0], weights->tap[1], weights->tap[2] };
    dnnl_engine_t engine;
    ConvWeights *made;

    TRY(weights_alloc(weights->size, weights->taps, layout, &made));
    memcpy(made->bias, weights->bias, (size_t)weights->size.out * sizeof(float));
    Status s = conv_engine_create(&engine);
    if (s == OK) {
        s = fill_taps(engine, made, &weights->layout, at);
        dnnl_engine_destroy(engine);
    }
    if (s == OK)
        *out = made;
    else
        conv_weights_destroy(made);
    return s;
}

void conv_weights_destroy(ConvWeights *weights)
{
    if (!weights) return;
    for (int t = 0; t < CONV_TAPS; t++) free(weights->tap[t]);
    free(weights->bias);
    free(weights);
}

size_t conv_weights_bytes(const ConvWeights *weights)
{
    return (size_t)weights->taps * weights->tap_bytes + (size_t)weights->size.out * sizeof(float);
}
