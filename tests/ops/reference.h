/*
 * reference: every op's forward in double, the plainest way.
 *
 * All have one signature: sizes d[], inputs in[], outputs out[], in the order that the table of
 * cases gives their letters. No blocking, no tricks: what the kernels and their gradients are held
 * against.
 */
#ifndef ZT_TESTS_OPS_REFERENCE_H
#define ZT_TESTS_OPS_REFERENCE_H

#include <stdint.h>

typedef void Reference(const int64_t *d, double *const *in, double *const *out);

/* What a case's call and its reference must agree on. */
#define REFERENCE_EPS 1e-3
#define REFERENCE_SCALE 0.37
#define REFERENCE_OTHER_SQUARES 1.5 /* rms norm: sum of squares that another rank holds */
int32_t reference_id(int64_t row, int64_t entries);       /* -1 .. entries - 1 */
int32_t reference_length(int64_t sample, int64_t tokens); /* 0 .. tokens */

Reference reference_linear;             /* x ni, w oi, b o -> y no */
Reference reference_linear_no_bias;     /* x ni, w oi -> y no */
Reference reference_layernorm_modulate; /* x btw, shift bw, scale bw -> y btw, mean bt, rstd bt */
Reference reference_layernorm;          /* x nw, w w, b w -> y nw, mean n, rstd n */
Reference reference_rmsnorm;            /* x nw, w w -> y nw, ss n */
Reference reference_rope;               /* x bthd, table td -> y bthd */
Reference reference_attention;          /* q bqhd, k bkhd, v bkhd -> out bqhd, lse bhq */
Reference reference_attention_bias;     /* ..., rel_bias hr, r = q + k - 1 */
Reference reference_attention_masked;   /* ..., lengths from reference_length */
Reference reference_attention_merge;    /* out btha, lse bht, part btha, part_lse bht -> out, lse */
Reference reference_gelu;               /* x nw -> y nw */
Reference reference_silu;               /* x nw -> y nw */
Reference reference_gelu_erf;           /* x nw -> y nw */
Reference reference_gated_gelu;         /* a nw, b nw -> y nw */
Reference reference_gate_residual;      /* x btw, y btw, gate bw -> out btw */
Reference reference_residual;           /* x btw, y btw -> out btw */
Reference reference_add_bias;           /* y nw, b w -> y nw */
Reference reference_axpby;              /* x n, y n -> y n: a = 2.5, b = -0.5 */
Reference reference_modulation;         /* table pw, e bpw -> m pbw */
Reference reference_modulation_shared;  /* table pw, e bw -> m pbw */
Reference reference_timestep_embedding; /* t b (in thousands) -> emb bw */
Reference reference_embedding;          /* table ew -> y nw */
Reference reference_zero_tail;          /* x btw -> y btw */
Reference reference_transpose;          /* x nw -> y wn */
Reference reference_patch_order;        /* x nw -> y nw, w = 4 channels: head to patch order */
Reference reference_head_order;         /* and back */
Reference reference_flow_mix;           /* x bn, noise bn, t b -> x_t bn, target bn */
Reference reference_squared_error;      /* v bn, target bn -> sum 1, sums b */
Reference reference_square_norm;        /* x n -> sum 1 */
Reference reference_adamw; /* p n, m n, v n, ema n, g n -> p n, m n, v n, ema n or none */

#endif
