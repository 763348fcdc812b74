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

/* The four layouts of a row; zeros where one could not be made. */
typedef struct RowLayouts {
    ConvOwnLayout src, weights, bias, dst;
} RowLayouts;

static dnnl_status_t make_layouts(ConvSize size, int64_t width, RowLayouts *out)
{
    const dnnl_dims_t src = { 1, size.in, size.side, width };
    const dnnl_dims_t dst = { 1, size.out, 1, width / size.stride };
    const dnnl_dims_t weights = { size.out, size.in, size.side, size.side };
    const dnnl_dims_t bias = { size.out };
    dnnl_status_t status = conv_layout_by_tag(4, src, dnnl_nhwc, &out->src);
    if (status == dnnl_success) status = conv_layout_by_tag(4, dst, dnnl_nhwc, &out->dst);
    if (status == dnnl_success)
        status = conv_layout_by_tag(4, weights, dnnl_format_tag_any, &out->weights);
    if (status == dnnl_success) status = conv_layout_by_tag(1, bias, dnnl_x, &out->bias);
    return status;
}

static void destroy_layouts(RowLayouts *layouts)
{
    conv_layout_destroy(layouts->src);
    conv_layout_destroy(layouts->weights);
    conv_layout_destroy(layouts->bias);
    conv_layout_destroy(layouts->dst);
}

Status conv_describe_row(dnnl_engine_t engine, ConvSize size, int64_t width, ConvMode mode,
                         ConvLayout weights, dnnl_primitive_desc_t *out)
{
    RowLayouts layouts = { 0 };
    dnnl_status_t status = make_layouts(size, width, &layouts);
    /* columns outside are zero; rows outside are given */
    const ConvProblem problem = {
        .src = layouts.src,
        .weights = weights ? weights : layouts.weights,
        .bias = mode == CONV_ADD ? NULL : layouts.bias,
        .dst = layouts.dst,
        .strides = { size.stride, size.stride },
        .left = { 0, size.side == 3 && size.stride == 1 ? 1 : 0 },
        .right = { 0, size.side == 3 ? 1 : 0 },
        .add = mode != CONV_WRITE_BIAS,
    };
    if (status == dnnl_success) status = conv_describe(engine, &problem, out);
    destroy_layouts(&layouts);
    CONV_TRY(status, size, "the shape");
    return OK;
}

/* to (in its layout) = from (in its layout) */
static dnnl_status_t reorder(dnnl_engine_t engine, ConvLayout from, const void *src, ConvLayout to,
                             void *dst)
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

/* In the order `layout`, without room. */
static Status describe(ConvSize size, int taps, ConvLayout layout, ConvWeights **out)
{
    ConvWeights *w = calloc(1, sizeof *w);
    CHECK(w, ERR_MEMORY, "no memory for the weights of a convolution");
    *w = (ConvWeights){ .size = size, .taps = taps };
    w->tap_bytes = dnnl_memory_desc_get_size(layout);
    if (conv_layout_copy(layout, &w->layout) != dnnl_success) {
        free(w);
        return status_fail(ERR_MEMORY, "no memory for the weights of a convolution");
    }
    *out = w;
    return OK;
}

/* Room for all. */
static Status reserve(ConvWeights *w)
{
    bool whole = (w->bias = conv_alloc((size_t)w->size.out * sizeof(float))) != NULL;
    for (int t = 0; t < w->taps; t++) whole = (w->tap[t] = conv_alloc(w->tap_bytes)) && whole;
    CHECK(whole, ERR_MEMORY, "no memory for %zu bytes of weights of a convolution",
          conv_weights_bytes(w));
    return OK;
}

static Status fill_taps(dnnl_engine_t engine, ConvWeights *to, ConvLayout from,
                        const void *const *taps)
{
    for (int t = 0; t < to->taps; t++)
        CONV_TRY(reorder(engine, from, taps[t], to->layout, to->tap[t]), to->size, "its weights");
    return OK;
}

/* One tap of (out, in, taps, side, side) as it lies there. */
static Status describe_tap(ConvSize size, int taps, ConvOwnLayout *out)
{
    const int64_t area = (int64_t)size.side * size.side;
    const dnnl_dims_t dims = { size.out, size.in, size.side, size.side };
    const dnnl_dims_t strides = { size.in * taps * area, taps * area, size.side, 1 };
    CONV_TRY(conv_layout_by_strides(4, dims, strides, out), size, "weights");
    return OK;
}

/* In the order that rows of the usual width want. */
static Status describe_usual(dnnl_engine_t engine, ConvSize size, int taps, ConvWeights **out)
{
    dnnl_primitive_desc_t row;
    TRY(conv_describe_row(engine, size, USUAL_WIDTH, CONV_WRITE_BIAS, NULL, &row));
    const Status s =
        describe(size, taps, dnnl_primitive_desc_query_md(row, dnnl_query_weights_md, 0), out);
    dnnl_primitive_desc_destroy(row);
    return s;
}

Status conv_weights_describe(ConvSize size, int taps, ConvWeights **out)
{
    dnnl_engine_t engine;
    TRY(conv_engine_create(&engine));
    const Status s = describe_usual(engine, size, taps, out);
    dnnl_engine_destroy(engine);
    return s;
}

static Status create_in(dnnl_engine_t engine, ConvSize size, int taps, const float *w,
                        const float *bias, ConvWeights **out)
{
    ConvOwnLayout from = NULL;
    const void *at[CONV_TAPS] = { NULL };
    ConvWeights *made;

    TRY(describe_usual(engine, size, taps, &made));
    for (int t = 0; t < taps; t++) at[t] = w + (int64_t)t * size.side * size.side;
    Status s = reserve(made);
    if (s == OK) memcpy(made->bias, bias, (size_t)size.out * sizeof(float));
    if (s == OK) s = describe_tap(size, taps, &from);
    if (s == OK) s = fill_taps(engine, made, from, at);
    conv_layout_destroy(from);
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

Status conv_weights_reorder(const ConvWeights *weights, ConvLayout layout, ConvWeights **out)
{
    const void *at[CONV_TAPS] = { weights->tap[0], weights->tap[1], weights->tap[2] };
    const bool described = weights->bias == NULL;
    dnnl_engine_t engine;
    ConvWeights *made;

    TRY(describe(weights->size, weights->taps, layout, &made));
    Status s = described ? OK : reserve(made);
    if (s == OK && !described) s = conv_engine_create(&engine);
    if (s == OK && !described) {
        memcpy(made->bias, weights->bias, (size_t)weights->size.out * sizeof(float));
        s = fill_taps(engine, made, weights->layout, at);
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
    conv_layout_destroy(weights->layout);
    free(weights);
}

size_t conv_weights_bytes(const ConvWeights *weights)
{
    return (size_t)weights->taps * weights->tap_bytes + (size_t)weights->size.out * sizeof(float);
}
