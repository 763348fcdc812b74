#include "core/blas/conv_dnnl.h"

#if DNNL_VERSION_MAJOR >= 3

dnnl_status_t conv_layout_by_tag(int ndims, const dnnl_dims_t dims, dnnl_format_tag_t tag,
                                 ConvOwnLayout *out)
{
    return dnnl_memory_desc_create_with_tag(out, ndims, dims, dnnl_f32, tag);
}

dnnl_status_t conv_layout_by_strides(int ndims, const dnnl_dims_t dims, const dnnl_dims_t strides,
                                     ConvOwnLayout *out)
{
    return dnnl_memory_desc_create_with_strides(out, ndims, dims, dnnl_f32, strides);
}

dnnl_status_t conv_layout_copy(ConvLayout layout, ConvOwnLayout *out)
{
    return dnnl_memory_desc_clone(out, layout);
}

void conv_layout_destroy(ConvOwnLayout layout)
{
    if (layout) dnnl_memory_desc_destroy(layout);
}

static dnnl_status_t add_to_dst(dnnl_primitive_attr_t attributes)
{
    dnnl_post_ops_t after;
    dnnl_status_t status = dnnl_post_ops_create(&after);
    if (status != dnnl_success) return status;
    status = dnnl_post_ops_append_sum(after, 1.0f, 0, dnnl_data_type_undef);
    if (status == dnnl_success) status = dnnl_primitive_attr_set_post_ops(attributes, after);
    dnnl_post_ops_destroy(after);
    return status;
}

dnnl_status_t conv_describe(dnnl_engine_t engine, const ConvProblem *p, dnnl_primitive_desc_t *out)
{
    const dnnl_dims_t dilation = { 0, 0 };
    dnnl_primitive_attr_t attributes;
    dnnl_status_t status = dnnl_primitive_attr_create(&attributes);
    if (status != dnnl_success) return status;
    status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    if (status == dnnl_success && p->add) status = add_to_dst(attributes);
    if (status == dnnl_success)
        status = dnnl_convolution_forward_primitive_desc_create(
            out, engine, dnnl_forward_inference, dnnl_convolution_direct, p->src, p->weights,
            p->bias, p->dst, p->strides, dilation, p->left, p->right, attributes);
    dnnl_primitive_attr_destroy(attributes);
    return status;
}

#endif
