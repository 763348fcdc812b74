/*
 * op_table: one function pointer an op, what a backend fills in.
 *
 * The list is written once: it gives the struct, the check for empty slots, and the assignments of
 * a backend. Kernels have the op's own signature and may trust the shapes, which op_* checked.
 */
#ifndef ZT_CORE_OP_TABLE_H
#define ZT_CORE_OP_TABLE_H

#include "core/ops.h"

#ifdef __cplusplus
extern "C" {
#endif

// clang-format off
#define OP_LIST(OP)                                                                                \
    OP(linear, Tensor y, Tensor x, Tensor w, Tensor b)                                             \
    OP(linear_backward_input, Tensor dx, Tensor dy, Tensor w, bool accumulate)                     \
    OP(linear_backward_weight, Tensor dw, Tensor db, Tensor x, Tensor dy)                          \
    OP(linear_cut, Tensor y, Tensor x, Tensor w, int parts)                                        \
    OP(linear_cut_backward_input, Tensor dx, const LinearPair *pairs, int count, int parts,        \
       bool accumulate)                                                                            \
    OP(layernorm_modulate, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor shift,             \
       Tensor scale, float eps)                                                                    \
    OP(layernorm_modulate_backward, Tensor dx, Tensor dshift, Tensor dscale, Tensor dy, Tensor x,  \
       Tensor mean, Tensor rstd, Tensor scale, bool accumulate)                                    \
    OP(layernorm, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w, Tensor b, float eps)     \
    OP(layernorm_backward, Tensor dx, Tensor dw, Tensor db, Tensor dy, Tensor x, Tensor mean,      \
       Tensor rstd, Tensor w, bool accumulate)                                                     \
    OP(sum_squares_rows, Tensor ss, Tensor x, int parts)                                           \
    OP(rmsnorm, Tensor y, Tensor x, Tensor ss, Tensor w, int64_t full_width, float eps)            \
    OP(rmsnorm_dot, Tensor dot, Tensor dy, Tensor x, Tensor w, int parts)                          \
    OP(rmsnorm_backward, Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor ss, Tensor dot,         \
       Tensor w, int64_t full_width, float eps, bool accumulate)                                   \
    OP(rope, Tensor x, Tensor table, int sign)                                                     \
    OP(attention, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,                            \
       const AttentionOptions *options, Arena *scratch)                                            \
    OP(attention_backward, Tensor dq, Tensor dk, Tensor dv, Tensor drel_bias, Tensor dout,         \
       Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, const AttentionOptions *options,      \
       Arena *scratch)                                                                             \
    OP(attention_merge, Tensor out, Tensor lse, Tensor part_out, Tensor part_lse)                  \
    OP(gelu, Tensor y, Tensor x)                                                                   \
    OP(gelu_backward, Tensor dx, Tensor dy, Tensor x)                                              \
    OP(gelu_erf, Tensor y, Tensor x)                                                               \
    OP(gelu_erf_backward, Tensor dx, Tensor dy, Tensor x)                                          \
    OP(silu, Tensor y, Tensor x)                                                                   \
    OP(silu_backward, Tensor dx, Tensor dy, Tensor x, bool accumulate)                             \
    OP(gated_gelu, Tensor y, Tensor a, Tensor b)                                                   \
    OP(gated_gelu_backward, Tensor da, Tensor db, Tensor dy, Tensor a, Tensor b)                   \
    OP(gate_residual, Tensor out, Tensor x, Tensor y, Tensor gate)                                 \
    OP(gate_residual_backward, Tensor dy, Tensor dgate, Tensor dout, Tensor y, Tensor gate)        \
    OP(axpby, Tensor y, float a, Tensor x, float b)                                                \
    OP(add_bias, Tensor y, Tensor b)                                                               \
    OP(take_tree_sum, Tensor y, Tensor rows, int64_t first)                                        \
    OP(place_columns, Tensor y, Tensor x, int64_t first)                                           \
    OP(fill, Tensor y, float value)                                                                \
    OP(convert, Tensor dst, Tensor src)                                                            \
    OP(modulation, Tensor m, Tensor table, Tensor e)                                               \
    OP(modulation_backward, Tensor dtable, Tensor de, Tensor dm)                                   \
    OP(timestep_embedding, Tensor emb, Tensor t)                                                   \
    OP(embedding, Tensor y, Tensor table, Tensor ids)                                              \
    OP(embedding_backward, Tensor dtable, Tensor dy, Tensor ids)                                   \
    OP(transpose, Tensor y, Tensor x)                                                              \
    OP(zero_tail, Tensor x, Tensor lengths)                                                        \
    OP(patch_order, Tensor y, Tensor x, int64_t channels, bool to_patch)                           \
    OP(flow_mix, Tensor x_t, Tensor target, Tensor x, Tensor noise, Tensor t)                      \
    OP(normal, Tensor out, Rng rng, uint64_t first)                                                \
    OP(squared_error, Tensor sums, Tensor v, Tensor target)                                        \
    OP(squared_error_backward, Tensor dv, Tensor v, Tensor target, float scale)                    \
    OP(adamw, Tensor p, Tensor m, Tensor v, Tensor ema, Tensor g, const AdamwStep *step)           \
    OP(square_norm, Tensor sum, Tensor x)
// clang-format on

#define OP_SLOT(name, ...) Status (*name)(const Device *dev, __VA_ARGS__);

struct Gemm; /* core/blas/gemm.h */

struct OpTable {
    OP_LIST(OP_SLOT)
    /* what the linear ops share */
    Status (*gemm)(const Device *dev, const struct Gemm *gemm);
    size_t (*attention_scratch)(const Device *dev, int64_t q_tokens, int64_t k_tokens,
                                int64_t head_dim);
};

#ifdef __cplusplus
}
#endif
#endif
