/*
 * ops: the contract of every operation of the model, written once.
 *
 * Formula, shapes, dtypes, and whether the output is written (=) or accumulated (+=). Activation
 * gradients are written, parameter gradients accumulate. Tensors are contiguous; F32 unless said.
 * "rows" stands for any leading dimensions. A tensor_none() argument is absent where allowed.
 * op_* checks shapes and calls the device's table; `core/cpu/` is the specification and the fast
 * CPU path. Not collective: an op knows one device. Sums run in a fixed order: the same call on the
 * same machine gives the same bits. Scratch, where needed, comes from the caller's arena.
 *
 * A row of an op's output has the same bits whichever rows, samples or heads share the call, and at
 * any address; for the linear ops that is so on an exact device (core/device.h).
 */
#ifndef ZT_CORE_OPS_H
#define ZT_CORE_OPS_H

#include "core/base/arena.h"
#include "core/base/rng.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/device.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- linear --------------------------------------------------------------------------------- */

/* Weights w are F32, or BF16 on a device that is not exact: the products are those of the F32
 * values that they stand for. Gradients of weights are F32. */

/* y (rows, out) = x (rows, in) w^T + b;  w (out, in); b (out) or none */
Status op_linear(const Device *dev, Tensor y, Tensor x, Tensor w, Tensor b);
/* dx (rows, in) = dy (rows, out) w, or += when accumulate */
Status op_linear_backward_input(const Device *dev, Tensor dx, Tensor dy, Tensor w, bool accumulate);
/* dw (out, in) += dy^T x;  db (out) += column sums of dy, or none */
Status op_linear_backward_weight(const Device *dev, Tensor dw, Tensor db, Tensor x, Tensor dy);
/* On an exact device every number of the three is one chain of fused multiply-adds in the order of
 * the summed index, from the bias, from 0, or from what is added to: dw of some rows and then of
 * the rest has the bits of one call. */

enum {
    LINEAR_PAIRS = 3,  /* most products of one sum: q, k, v */
    LINEAR_PARTS = 16, /* most chunks of a sum that ranks share */
};

/* Sums that tensor ranks share. The summed index, as much of it as this rank has, is `parts` equal
 * chunks; on an exact device each is a chain from 0, and chunks add by the tree of core/group.h,
 * ((0 + 1) + (2 + 3)) + ..., so that ranks with half of the chunks each, reduced by their group,
 * end with the bits of one rank with all. Otherwise parts are ignored.
 * y (rows, out) = x (rows, in) w^T;  w (out, in); in is a multiple of parts */
Status op_linear_cut(const Device *dev, Tensor y, Tensor x, Tensor w, int parts);

typedef struct LinearPair {
    Tensor dy, w; /* (rows, out), (out, in); out is a multiple of parts, another in every pair */
} LinearPair;

/* dx (rows, in) = sum over count pairs of dy w, or += the whole sum when accumulate. A chunk's
 * chain runs through the pair's chunks in order: chunk 0 of pair 0, of pair 1, ... */
Status op_linear_cut_backward_input(const Device *dev, Tensor dx, const LinearPair *pairs,
                                    int count, int parts, bool accumulate);

/* ---- norms ---------------------------------------------------------------------------------- */

/* LayerNorm without parameters, then modulation (spec 4.5a, c and 4.6):
 * y = (x - mean) rstd (1 + scale) + shift;
 * x, y (batch, tokens, width); shift, scale (batch, width); mean, rstd (batch, tokens) are kept for
 * the backward; variance is biased, eps inside the root. */
Status op_layernorm_modulate(const Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x,
                             Tensor shift, Tensor scale, float eps);
/* dx =, or += when accumulate; dshift, dscale (batch, width) = sums over tokens */
Status op_layernorm_modulate_backward(const Device *dev, Tensor dx, Tensor dshift, Tensor dscale,
                                      Tensor dy, Tensor x, Tensor mean, Tensor rstd, Tensor scale,
                                      bool accumulate);

/* y = (x - mean) rstd w + b;  w, b (width); mean, rstd (rows) */
Status op_layernorm(const Device *dev, Tensor y, Tensor mean, Tensor rstd, Tensor x, Tensor w,
                    Tensor b, float eps);
/* dx =, or += when accumulate; dw, db += */
Status op_layernorm_backward(const Device *dev, Tensor dx, Tensor dw, Tensor db, Tensor dy,
                             Tensor x, Tensor mean, Tensor rstd, Tensor w, bool accumulate);

/* RMSNorm whose width is cut over ranks, in two halves with an all-reduce between (spec 15):
 * ss (rows) = sum over this rank's width of x^2. The width is `parts` equal chunks, at most
 * LINEAR_PARTS, that add by the same tree as above, on every device. */
Status op_sum_squares_rows(const Device *dev, Tensor ss, Tensor x, int parts);
/* y = x w / sqrt(ss / full_width + eps);  w (width) */
Status op_rmsnorm(const Device *dev, Tensor y, Tensor x, Tensor ss, Tensor w, int64_t full_width,
                  float eps);
/* dot (rows) = sum over this rank's width of dy w x; parts as for the squares */
Status op_rmsnorm_dot(const Device *dev, Tensor dot, Tensor dy, Tensor x, Tensor w, int parts);
/* with r = 1 / sqrt(ss / full_width + eps):
 * dx = r w dy - x r^3 dot / full_width (or += when accumulate; dx may be dy when not);
 * dw += sum over rows of dy x r, or none */
Status op_rmsnorm_backward(const Device *dev, Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor ss,
                           Tensor dot, Tensor w, int64_t full_width, float eps, bool accumulate);

/* ---- attention ------------------------------------------------------------------------------ */

/* x (batch, tokens, heads, head_dim) rotated in place by interleaved pairs (spec 4.8):
 * (a, b) -> (a cos - b sin, a sin + b cos);  table (tokens, head_dim / 2, 2) of (cos, sin).
 * sign -1 rotates back: the backward. */
Status op_rope(const Device *dev, Tensor x, Tensor table, int sign);

typedef struct AttentionOptions {
    float scale;        /* above 0 */
    Tensor rel_bias;    /* (heads, q_tokens + k_tokens - 1) or none: bias of key j for query i is
                           rel_bias[h][j - i + q_tokens - 1] (spec 9, after bucketing) */
    Tensor key_lengths; /* (batch) I32 or none: keys at and after the length are masked */
} AttentionOptions;

/* out = softmax(scale q k^T + bias) v, per head; never materialises q_tokens x k_tokens.
 * q, out (batch, q_tokens, heads, head_dim); k, v (batch, k_tokens, heads, head_dim);
 * lse (batch, heads, q_tokens): log of the softmax' denominator, kept for the backward. */
Status op_attention(const Device *dev, Tensor out, Tensor lse, Tensor q, Tensor k, Tensor v,
                    const AttentionOptions *options, Arena *scratch);
/* dq, dk, dv =;  drel_bias (as rel_bias) += or none */
Status op_attention_backward(const Device *dev, Tensor dq, Tensor dk, Tensor dv, Tensor drel_bias,
                             Tensor dout, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse,
                             const AttentionOptions *options, Arena *scratch);
/* Two attentions of the same queries over different keys become that over all, in place: with
 * w = exp(lse - m), w' = exp(part_lse - m), m = max(lse, part_lse):
 * out = (w out + w' part_out) / (w + w');  lse = m + log(w + w');  -inf: no keys, out is finite.
 * out, part_out (batch, tokens, heads, head_dim); lse, part_lse (batch, heads, tokens). Partial
 * results are F32 whatever the model computes in: errors of BF16 would multiply in the backward. */
Status op_attention_merge(const Device *dev, Tensor out, Tensor lse, Tensor part_out,
                          Tensor part_lse);
/* Bytes of scratch that either direction needs for these shapes. */
size_t op_attention_scratch(const Device *dev, int64_t batch, int64_t heads, int64_t q_tokens,
                            int64_t k_tokens, int64_t head_dim);

/* ---- element by element --------------------------------------------------------------------- */

/* tanh form (spec 17, 7): y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) */
Status op_gelu(const Device *dev, Tensor y, Tensor x);
Status op_gelu_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x); /* dx may be dy */
/* exact form (spec 17, 7): y = x/2 (1 + erf(x / sqrt 2)) */
Status op_gelu_erf(const Device *dev, Tensor y, Tensor x);
Status op_gelu_erf_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x); /* dx may be dy */
/* y = x / (1 + exp(-x)) */
Status op_silu(const Device *dev, Tensor y, Tensor x);
Status op_silu_backward(const Device *dev, Tensor dx, Tensor dy, Tensor x, bool accumulate);
/* y = gelu(a) b (spec 9: wi_0 is a, wi_1 is b) */
Status op_gated_gelu(const Device *dev, Tensor y, Tensor a, Tensor b);
Status op_gated_gelu_backward(const Device *dev, Tensor da, Tensor db, Tensor dy, Tensor a,
                              Tensor b);

/* out = x + y gate;  x, y, out (batch, tokens, width); gate (batch, width) or none: out = x + y.
 * out may be x. */
Status op_gate_residual(const Device *dev, Tensor out, Tensor x, Tensor y, Tensor gate);
/* dy = dout gate;  dgate (batch, width) = sum over tokens of dout y.  (dx is dout itself.) */
Status op_gate_residual_backward(const Device *dev, Tensor dy, Tensor dgate, Tensor dout, Tensor y,
                                 Tensor gate);
/* y = a x + b y, any shape, equal counts */
Status op_axpby(const Device *dev, Tensor y, float a, Tensor x, float b);
/* y (count) = ((r0 + r1) + (r2 + r3)) + ... of the columns [first, first + count) of rows (n,
 * width); these columns are zero afterwards. n is a power of two. */
Status op_take_tree_sum(const Device *dev, Tensor y, Tensor rows, int64_t first);
/* y (rows, width) += b (width) */
Status op_add_bias(const Device *dev, Tensor y, Tensor b);
Status op_fill(const Device *dev, Tensor y, float value);
/* Columns [first, first + n) of y (rows, width) = x (rows, n). */
Status op_place_columns(const Device *dev, Tensor y, Tensor x, int64_t first);
/* dst = src with dtype conversion among F32, BF16, F16 (round to nearest even) */
Status op_convert(const Device *dev, Tensor dst, Tensor src);

/* ---- conditioning --------------------------------------------------------------------------- */

/* m (parts, batch, width) = table (parts, width) + e (batch, parts or 1, width) */
Status op_modulation(const Device *dev, Tensor m, Tensor table, Tensor e);
/* dtable += sums over batch, or none;  de (as e) += (summed over parts when e has 1) */
Status op_modulation_backward(const Device *dev, Tensor dtable, Tensor de, Tensor dm);
/* emb (batch, dim): cos(t f_i) for i < dim/2, then sin; f_i = 10000^(-i / (dim/2)) (spec 4.2);
 * t (batch) in [0, 1000) */
Status op_timestep_embedding(const Device *dev, Tensor emb, Tensor t);
/* y (rows, width) = table[ids];  ids (rows) I32; an id below 0 gives zeros */
Status op_embedding(const Device *dev, Tensor y, Tensor table, Tensor ids);
Status op_embedding_backward(const Device *dev, Tensor dtable, Tensor dy, Tensor ids); /* += */
/* y (cols, rows) = x (rows, cols) transposed */
Status op_transpose(const Device *dev, Tensor y, Tensor x);
/* x (batch, tokens, width): rows at and after lengths (batch) I32 become zero, in place */
Status op_zero_tail(const Device *dev, Tensor x, Tensor lengths);

/* ---- flow and loss -------------------------------------------------------------------------- */

/* The head's column order is (ph, pw, c), c fastest; the latents' patch order is (c, ph, pw)
 * (spec 17, 2). y, x (rows, channels * 4). to_patch: head order -> patch order; else back. */
Status op_patch_order(const Device *dev, Tensor y, Tensor x, int64_t channels, bool to_patch);
/* x_t = (1 - t) x + t noise;  target = noise - x (spec 13);
 * all (batch, ...); t (batch) in [0,1] */
Status op_flow_mix(const Device *dev, Tensor x_t, Tensor target, Tensor x, Tensor noise, Tensor t);
/* out[i] = normal element first + i of rng */
Status op_normal(const Device *dev, Tensor out, Rng rng, uint64_t first);
/* sums (batch) F64 = sum over a sample of (v - target)^2 */
Status op_squared_error(const Device *dev, Tensor sums, Tensor v, Tensor target);
/* dv = 2 scale (v - target) */
Status op_squared_error_backward(const Device *dev, Tensor dv, Tensor v, Tensor target,
                                 float scale);

/* ---- optimizer ------------------------------------------------------------------------------ */

typedef struct AdamwStep {
    float lr, beta1, beta2, eps, weight_decay; /* weight_decay 0 for vectors */
    float correction1, correction2;            /* 1 - beta^step */
    float grad_scale;                          /* clipping */
    float ema_decay;
} AdamwStep;

/* Decoupled weight decay (Loshchilov & Hutter 2019), all flat and of one length; ema may be none:
 * g' = g grad_scale; m = b1 m + (1-b1) g'; v = b2 v + (1-b2) g'^2
 * p -= lr ((m/c1) / (sqrt(v/c2) + eps) + weight_decay p);  ema += (1 - ema_decay)(p - ema) */
Status op_adamw(const Device *dev, Tensor p, Tensor m, Tensor v, Tensor ema, Tensor g,
                const AdamwStep *step);
/* sum (1) F64 = sum of x^2, blocks of 65,536 elements each summed in order */
Status op_square_norm(const Device *dev, Tensor sum, Tensor x);

#ifdef __cplusplus
}
#endif
#endif
