#include "core/blas/conv_dnnl.h"

#if DNNL_VERSION_MAJOR < 3

#include <stdlib.h>

/* Hands a layout over when the library took it. */
static dnnl_status_t keep(const dnnl_memory_desc_t *layout, dnnl_status_t status,
                          ConvOwnLayout *out)
{
    if (status != dnnl_success) return status;
    ConvOwnLayout made = malloc(sizeof *made);
    if (!made) return dnnl_out_of_memory;
    *made = *layout;
    *out = made;
    return dnnl_success;
}

dnnl_status_t conv_layout_by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag,
                                 ConvOwnLayout *out)
{
    dnnl_memory_desc_t layout;
    return keep(&layout, dnnl_memory_desc_init_by_tag(&layout, ndims, dims, dnnl_f32, tag), out);
}

dnnl_status_t conv_layout_by_strides(int ndims, const dnnl_dims_t dims, const dnnl_dims_t strides,
                                     ConvOwnLayout *out)
{
    dnnl_memory_desc_t layout;
    return keep(&layout, dnnl_memory_desc_init_by_strides(&layout, ndims, dims, dnnl_f32, strides),
                out);
}

dnnl_status_t conv_layout_copy(ConvLayout layout, ConvOwnLayout *out)
{
    return keep(layout, dnnl_success, out);
}

void conv_layout_destroy(ConvOwnLayout layout)
{
    free(layout);
}

static dnnl_status_t add_to_dst(dnnl_primitive_attr_t attributes)
{
    dnnl_post_ops_t after;
    dnnl_status_t status = dnnl_post_ops_create(&after);
    if (status != dnnl_success) return status;
    status = dnnl_post_ops_append_sum(after, 1.0f);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(attributes, after);
    dnnl_post_ops_destroy(after);
    return status;
}

dnnl_status_t conv_describe(dnnl_engine_t engine, const ConvProblem *p, dnnl_primitive_desc_t *out)
{
    const dnnl_dims_t dilation = { 0, 0 };
    dnnl_convolution_desc_t conv;
    dnnl_primitive_attr_t attributes;
    dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(
        &conv, dnnl_forward_inference, dnnl_convolution_direct, p->src, p->weights, p->bias, p->dst,
        p->strides, dilation, p->left, p->right);
    if (status != dnnl_success) return status;
    status = dnnl_primitive_attr_create(&attributes);
    if (status != dnnl_success) return status;
    status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && p->add) status = add_to_dst(attributes);
    if (status == dnnl_success)
        status = dnnl_primitive_desc_create(out, &conv, attributes, engine, NULL);
    dnnl_primitive_attr_destroy(attributes);
    return status;
}

#endif
