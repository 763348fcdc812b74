#include "tests/ops/cases.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How each op is called on a row's tensors. In-place ops copy first; where the contract lets an
 * output be an input, the call makes use of it. */
#define CALL(name) static Status name(const Device *dev, const Call *c)

static void copy(Tensor to, Tensor from)
{
    memcpy(to.data, from.data, tensor_bytes(from));
}

/* ---- linear --------------------------------------------------------------------------------- */

CALL(linear)
{
    return op_linear(dev, c->out[0], c->in[0], c->in[1], c->in[2]);
}

CALL(linear_backward)
{
    TRY(op_linear_backward_input(dev, c->din[0], c->dout, c->in[1], false));
    return op_linear_backward_weight(dev, c->din[1], c->din[2], c->in[0], c->dout);
}

CALL(linear_no_bias)
{
    return op_linear(dev, c->out[0], c->in[0], c->in[1], tensor_none());
}

CALL(linear_no_bias_backward)
{
    TRY(op_linear_backward_input(dev, c->din[0], c->dout, c->in[1], true));
    return op_linear_backward_weight(dev, c->din[1], tensor_none(), c->in[0], c->dout);
}

/* ---- norms ---------------------------------------------------------------------------------- */

static const float eps = (float)REFERENCE_EPS;

CALL(layernorm_modulate)
{
    return op_layernorm_modulate(dev, c->out[0], c->out[1], c->out[2], c->in[0], c->in[1], c->in[2],
                                 eps);
}

static Status layernorm_modulate_backward_to(const Device *dev, const Call *c, bool accumulate)
{
    return op_layernorm_modulate_backward(dev, c->din[0], c->din[1], c->din[2], c->dout, c->in[0],
                                          c->out[1], c->out[2], c->in[2], accumulate);
}

CALL(layernorm_modulate_backward)
{
    return layernorm_modulate_backward_to(dev, c, false);
}

CALL(layernorm_modulate_backward_add)
{
    return layernorm_modulate_backward_to(dev, c, true);
}

CALL(layernorm)
{
    return op_layernorm(dev, c->out[0], c->out[1], c->out[2], c->in[0], c->in[1], c->in[2], eps);
}

static Status layernorm_backward_to(const Device *dev, const Call *c, bool accumulate)
{
    return op_layernorm_backward(dev, c->din[0], c->din[1], c->din[2], c->dout, c->in[0], c->out[1],
                                 c->out[2], c->in[1], accumulate);
}

CALL(layernorm_backward)
{
    return layernorm_backward_to(dev, c, false);
}

CALL(layernorm_backward_add)
{
    return layernorm_backward_to(dev, c, true);
}

/* Half of the width is another rank's: its squares arrive by the all-reduce, and no gradient. */
CALL(rmsnorm)
{
    TRY(op_sum_squares_rows(dev, c->out[1], c->in[0], 1));
    for (int64_t r = 0; r < c->d[0]; r++)
        tensor_f32(c->out[1])[r] += (float)REFERENCE_OTHER_SQUARES;
    return op_rmsnorm(dev, c->out[0], c->in[0], c->out[1], c->in[1], 2 * c->d[1], eps);
}

static Status rmsnorm_backward_to(const Device *dev, const Call *c, bool accumulate)
{
    const size_t mark = arena_mark(c->scratch);
    Tensor dot;
    TRY(tensor_alloc(c->scratch, F32, SHAPE(c->d[0]), "dot", &dot));
    TRY(op_rmsnorm_dot(dev, dot, c->dout, c->in[0], c->in[1], 1));
    TRY(op_rmsnorm_backward(dev, c->din[0], c->din[1], c->dout, c->in[0], c->out[1], dot, c->in[1],
                            2 * c->d[1], eps, accumulate));
    arena_release(c->scratch, mark);
    return OK;
}

CALL(rmsnorm_backward)
{
    return rmsnorm_backward_to(dev, c, false);
}

CALL(rmsnorm_backward_add)
{
    return rmsnorm_backward_to(dev, c, true);
}

/* ---- attention ------------------------------------------------------------------------------ */

CALL(rope)
{
    copy(c->out[0], c->in[0]);
    return op_rope(dev, c->out[0], c->in[1], 1);
}

CALL(rope_backward)
{
    copy(c->din[0], c->dout);
    return op_rope(dev, c->din[0], c->in[1], -1);
}

/* Lengths for as many samples as any case has. */
enum { MOST_SAMPLES = 8 };

static Tensor lengths_of(int32_t lengths[MOST_SAMPLES], int64_t batch, int64_t tokens)
{
    for (int64_t b = 0; b < batch; b++) lengths[b] = reference_length(b, tokens);
    return tensor_of(lengths, I32, SHAPE(batch));
}

static Status attention_forward(const Device *dev, const Call *c, bool bias, bool masked)
{
    int32_t lengths[MOST_SAMPLES];
    const AttentionOptions options = {
        .scale = (float)REFERENCE_SCALE,
        .rel_bias = bias ? c->in[3] : tensor_none(),
        .key_lengths = masked ? lengths_of(lengths, c->d[0], c->d[2]) : tensor_none(),
    };
    return op_attention(dev, c->out[0], c->out[1], c->in[0], c->in[1], c->in[2], &options,
                        c->scratch);
}

static Status attention_backward_to(const Device *dev, const Call *c, bool bias, bool masked)
{
    int32_t lengths[MOST_SAMPLES];
    const AttentionOptions options = {
        .scale = (float)REFERENCE_SCALE,
        .rel_bias = bias ? c->in[3] : tensor_none(),
        .key_lengths = masked ? lengths_of(lengths, c->d[0], c->d[2]) : tensor_none(),
    };
    return op_attention_backward(dev, c->din[0], c->din[1], c->din[2],
                                 bias && !masked ? c->din[3] : tensor_none(), c->dout, c->in[0],
                                 c->in[1], c->in[2], c->out[0], c->out[1], &options, c->scratch);
}

CALL(attention)
{
    return attention_forward(dev, c, false, false);
}

CALL(attention_backward)
{
    return attention_backward_to(dev, c, false, false);
}

CALL(attention_bias)
{
    return attention_forward(dev, c, true, false);
}

CALL(attention_bias_backward)
{
    return attention_backward_to(dev, c, true, false);
}

CALL(attention_masked)
{
    return attention_forward(dev, c, true, true);
}

CALL(attention_masked_backward)
{
    return attention_backward_to(dev, c, true, true);
}

CALL(attention_merge)
{
    copy(c->out[0], c->in[0]);
    copy(c->out[1], c->in[1]);
    return op_attention_merge(dev, c->out[0], c->out[1], c->in[2], c->in[3]);
}

/* ---- element by element --------------------------------------------------------------------- */

CALL(gelu)
{
    return op_gelu(dev, c->out[0], c->in[0]);
}

CALL(gelu_backward)
{
    copy(c->din[0], c->dout); /* dx may be dy */
    return op_gelu_backward(dev, c->din[0], c->din[0], c->in[0]);
}

CALL(silu)
{
    return op_silu(dev, c->out[0], c->in[0]);
}

CALL(silu_backward)
{
    return op_silu_backward(dev, c->din[0], c->dout, c->in[0], false);
}

CALL(silu_backward_add)
{
    return op_silu_backward(dev, c->din[0], c->dout, c->in[0], true);
}

CALL(gelu_erf)
{
    return op_gelu_erf(dev, c->out[0], c->in[0]);
}

CALL(gelu_erf_backward)
{
    copy(c->din[0], c->dout);
    return op_gelu_erf_backward(dev, c->din[0], c->din[0], c->in[0]);
}

CALL(gated_gelu)
{
    return op_gated_gelu(dev, c->out[0], c->in[0], c->in[1]);
}

CALL(gated_gelu_backward)
{
    return op_gated_gelu_backward(dev, c->din[0], c->din[1], c->dout, c->in[0], c->in[1]);
}

CALL(gate_residual)
{
    copy(c->out[0], c->in[0]); /* out may be x */
    return op_gate_residual(dev, c->out[0], c->out[0], c->in[1], c->in[2]);
}

CALL(gate_residual_backward)
{
    copy(c->din[0], c->dout);
    return op_gate_residual_backward(dev, c->din[1], c->din[2], c->dout, c->in[1], c->in[2]);
}

CALL(residual)
{
    return op_gate_residual(dev, c->out[0], c->in[0], c->in[1], tensor_none());
}

CALL(add_bias)
{
    copy(c->out[0], c->in[0]);
    return op_add_bias(dev, c->out[0], c->in[1]);
}

CALL(axpby)
{
    copy(c->out[0], c->in[1]);
    return op_axpby(dev, c->out[0], 2.5f, c->in[0], -0.5f);
}

/* ---- conditioning --------------------------------------------------------------------------- */

/* e (batch, width) is (batch, 1, width) */
static Tensor with_parts(Tensor e)
{
    return e.ndim == 3 ? e : tensor_reshape(e, SHAPE(e.shape[0], 1, e.shape[1]));
}

CALL(modulation)
{
    return op_modulation(dev, c->out[0], c->in[0], with_parts(c->in[1]));
}

CALL(modulation_backward)
{
    return op_modulation_backward(dev, c->din[0], with_parts(c->din[1]), c->dout);
}

CALL(timestep_embedding)
{
    const size_t mark = arena_mark(c->scratch);
    Tensor t;
    TRY(tensor_alloc(c->scratch, F32, SHAPE(c->d[0]), "t", &t));
    for (int64_t b = 0; b < c->d[0]; b++)
        tensor_f32(t)[b] = (float)(1000 * fabs((double)tensor_f32(c->in[0])[b]));
    TRY(op_timestep_embedding(dev, c->out[0], t));
    arena_release(c->scratch, mark);
    return OK;
}

static Status make_ids(const Call *c, Tensor *ids)
{
    TRY(tensor_alloc(c->scratch, I32, SHAPE(c->d[0]), "ids", ids));
    for (int64_t r = 0; r < c->d[0]; r++) ((int32_t *)ids->data)[r] = reference_id(r, c->d[1]);
    return OK;
}

CALL(embedding)
{
    const size_t mark = arena_mark(c->scratch);
    Tensor ids;
    TRY(make_ids(c, &ids));
    TRY(op_embedding(dev, c->out[0], c->in[0], ids));
    arena_release(c->scratch, mark);
    return OK;
}

CALL(embedding_backward)
{
    const size_t mark = arena_mark(c->scratch);
    Tensor ids;
    TRY(make_ids(c, &ids));
    TRY(op_embedding_backward(dev, c->din[0], c->dout, ids));
    arena_release(c->scratch, mark);
    return OK;
}

CALL(zero_tail)
{
    int32_t lengths[MOST_SAMPLES];
    copy(c->out[0], c->in[0]);
    return op_zero_tail(dev, c->out[0], lengths_of(lengths, c->d[0], c->d[1]));
}

CALL(zero_tail_backward)
{
    int32_t lengths[MOST_SAMPLES];
    copy(c->din[0], c->dout);
    return op_zero_tail(dev, c->din[0], lengths_of(lengths, c->d[0], c->d[1]));
}

CALL(transpose)
{
    return op_transpose(dev, c->out[0], c->in[0]);
}

/* ---- flow, loss, optimizer ------------------------------------------------------------------ */

CALL(patch_order)
{
    return op_patch_order(dev, c->out[0], c->in[0], c->d[1] / 4, true);
}

CALL(patch_order_backward)
{
    return op_patch_order(dev, c->din[0], c->dout, c->d[1] / 4, false);
}

CALL(head_order)
{
    return op_patch_order(dev, c->out[0], c->in[0], c->d[1] / 4, false);
}

CALL(flow_mix)
{
    return op_flow_mix(dev, c->out[0], c->out[1], c->in[0], c->in[1], c->in[2]);
}

CALL(squared_error)
{
    double sums[MOST_SAMPLES];
    TRY(op_squared_error(dev, tensor_of(sums, F64, SHAPE(c->d[0])), c->in[0], c->in[1]));
    double total = 0;
    for (int64_t b = 0; b < c->d[0]; b++) {
        total += sums[b];
        tensor_f32(c->out[1])[b] = (float)sums[b];
    }
    tensor_f32(c->out[0])[0] = (float)total;
    return OK;
}

CALL(squared_error_backward)
{
    return op_squared_error_backward(dev, c->din[0], c->in[0], c->in[1], tensor_f32(c->dout)[0]);
}

CALL(square_norm)
{
    double sum;
    TRY(op_square_norm(dev, tensor_of(&sum, F64, SHAPE(1)), c->in[0]));
    tensor_f32(c->out[0])[0] = (float)sum;
    return OK;
}

static Status adamw_step(const Device *dev, const Call *c, bool with_ema)
{
    static const AdamwStep step = CASE_ADAMW_STEP;
    for (int i = 0; i < (with_ema ? 4 : 3); i++) copy(c->out[i], c->in[i]);
    /* the second moment is a mean of squares */
    for (int64_t i = 0; i < c->d[0]; i++)
        tensor_f32(c->out[2])[i] = fabsf(tensor_f32(c->out[2])[i]);
    return op_adamw(dev, c->out[0], c->out[1], c->out[2], with_ema ? c->out[3] : tensor_none(),
                    c->in[4], &step);
}

CALL(adamw)
{
    return adamw_step(dev, c, true);
}

CALL(adamw_no_ema)
{
    return adamw_step(dev, c, false);
}

/* ---- the table ------------------------------------------------------------------------------ */

// clang-format off
#define ROW(name, letters, small, large, in, out, reference, forward, backward, gradients)         \
    { #name, letters, UNPACK small, UNPACK large, UNPACK in, UNPACK out, reference, forward,       \
      backward, gradients }
#define UNPACK(...) { __VA_ARGS__ }

const Case op_cases[] = {
    ROW(linear, "nio", (7, 13, 19), (133, 71, 259), ("ni", "oi", "o"), ("no"),
        reference_linear, linear, linear_backward, "=++"),
    ROW(linear_no_bias, "nio", (5, 3, 17), (301, 130, 67), ("ni", "oi"), ("no"),
        reference_linear_no_bias, linear_no_bias, linear_no_bias_backward, "++"),
    /* many tiles; one row and a long sum, which the library would cut by thread count */
    ROW(linear_tiles, "nio", (1, 5, 3), (330, 65, 530), ("ni", "oi", "o"), ("no"),
        reference_linear, linear, linear_backward, "=++"),
    ROW(linear_long, "nio", (2, 1, 2), (1, 35, 3001), ("ni", "oi", "o"), ("no"),
        reference_linear, linear, linear_backward, "=++"),
    ROW(layernorm_modulate, "btw", (2, 3, 37), (3, 67, 133), ("btw", "bw", "bw"), ("btw", "bt", "bt"),
        reference_layernorm_modulate, layernorm_modulate, layernorm_modulate_backward, "==="),
    ROW(layernorm_modulate_add, "btw", (2, 5, 19), (2, 131, 67), ("btw", "bw", "bw"), ("btw", "bt", "bt"),
        reference_layernorm_modulate, layernorm_modulate, layernorm_modulate_backward_add, "+=="),
    ROW(layernorm, "nw", (5, 37), (201, 133), ("nw", "w", "w"), ("nw", "n", "n"),
        reference_layernorm, layernorm, layernorm_backward, "=++"),
    ROW(layernorm_add, "nw", (5, 3), (131, 200), ("nw", "w", "w"), ("nw", "n", "n"),
        reference_layernorm, layernorm, layernorm_backward_add, "+++"),
    ROW(rmsnorm, "nw", (5, 37), (201, 133), ("nw", "w"), ("nw", "n"),
        reference_rmsnorm, rmsnorm, rmsnorm_backward, "=+"),
    ROW(rmsnorm_add, "nw", (7, 5), (131, 200), ("nw", "w"), ("nw", "n"),
        reference_rmsnorm, rmsnorm, rmsnorm_backward_add, "++"),
    ROW(rope, "bthd", (2, 3, 3, 22), (2, 67, 5, 38), ("bthd", "td"), ("bthd"),
        reference_rope, rope, rope_backward, "=."),
    ROW(attention, "bqkhd", (2, 5, 7, 2, 3), (2, 131, 301, 2, 20), ("bqhd", "bkhd", "bkhd"), ("bqhd", "bhq"),
        reference_attention, attention, attention_backward, "==="),
    ROW(attention_wide, "bqkhd", (1, 3, 2, 2, 37), (1, 67, 520, 3, 64), ("bqhd", "bkhd", "bkhd"), ("bqhd", "bhq"),
        reference_attention, attention, attention_backward, "==="),
    ROW(attention_bias, "bqkhd", (3, 6, 5, 2, 5), (8, 70, 200, 1, 9), ("bqhd", "bkhd", "bkhd", "hr"), ("bqhd", "bhq"),
        reference_attention_bias, attention_bias, attention_bias_backward, "===+"),
    ROW(attention_masked, "bqkhd", (3, 5, 9, 2, 4), (3, 65, 290, 2, 33), ("bqhd", "bkhd", "bkhd", "hr"), ("bqhd", "bhq"),
        reference_attention_masked, attention_masked, attention_masked_backward, "===."),
    ROW(attention_merge, "btha", (2, 3, 2, 5), (2, 131, 3, 65), ("btha", "bht", "btha", "bht"), ("btha", "bht"),
        reference_attention_merge, attention_merge, NULL, "...."),
    ROW(gelu, "nw", (3, 37), (91, 333), ("nw"), ("nw"), reference_gelu, gelu, gelu_backward, "="),
    ROW(silu, "nw", (3, 37), (91, 333), ("nw"), ("nw"), reference_silu, silu, silu_backward, "="),
    ROW(silu_add, "nw", (3, 37), (91, 333), ("nw"), ("nw"), reference_silu, silu, silu_backward_add, "+"),
    ROW(gelu_erf, "nw", (3, 37), (91, 333), ("nw"), ("nw"), reference_gelu_erf, gelu_erf,
        gelu_erf_backward, "="),
    ROW(gated_gelu, "nw", (3, 37), (91, 333), ("nw", "nw"), ("nw"),
        reference_gated_gelu, gated_gelu, gated_gelu_backward, "=="),
    ROW(gate_residual, "btw", (2, 5, 19), (2, 131, 100), ("btw", "btw", "bw"), ("btw"),
        reference_gate_residual, gate_residual, gate_residual_backward, "==="),
    ROW(residual, "btw", (2, 5, 19), (2, 131, 100), ("btw", "btw"), ("btw"),
        reference_residual, residual, NULL, ".."),
    ROW(add_bias, "nw", (5, 37), (201, 133), ("nw", "w"), ("nw"), reference_add_bias, add_bias, NULL, ".."),
    ROW(axpby, "n", (37), (33333), ("n", "n"), ("n"), reference_axpby, axpby, NULL, ".."),
    ROW(modulation, "pbw", (6, 3, 19), (6, 5, 1001), ("pw", "bpw"), ("pbw"),
        reference_modulation, modulation, modulation_backward, "++"),
    ROW(modulation_shared, "pbw", (2, 3, 19), (6, 5, 1001), ("pw", "bw"), ("pbw"),
        reference_modulation_shared, modulation, modulation_backward, "++"),
    ROW(timestep_embedding, "bw", (3, 10), (7, 256), ("b"), ("bw"),
        reference_timestep_embedding, timestep_embedding, NULL, "."),
    ROW(embedding, "new", (9, 4, 19), (300, 31, 131), ("ew"), ("nw"),
        reference_embedding, embedding, embedding_backward, "+"),
    ROW(zero_tail, "btw", (3, 7, 5), (3, 67, 133), ("btw"), ("btw"),
        reference_zero_tail, zero_tail, zero_tail_backward, "="),
    ROW(transpose, "nw", (3, 7), (32, 129), ("nw"), ("wn"), reference_transpose, transpose, NULL, "."),
    ROW(patch_order, "nw", (3, 20), (301, 192), ("nw"), ("nw"),
        reference_patch_order, patch_order, patch_order_backward, "="),
    ROW(head_order, "nw", (3, 20), (301, 192), ("nw"), ("nw"),
        reference_head_order, head_order, NULL, "."),
    ROW(flow_mix, "bn", (3, 37), (3, 33333), ("bn", "bn", "b"), ("bn", "bn"),
        reference_flow_mix, flow_mix, NULL, "..."),
    ROW(squared_error, "bn", (3, 37), (2, 140001), ("bn", "bn"), ("1", "b"),
        reference_squared_error, squared_error, squared_error_backward, "=."),
    ROW(square_norm, "n", (37), (140001), ("n"), ("1"), reference_square_norm, square_norm, NULL, "."),
    ROW(adamw, "n", (37), (33333), ("n", "n", "n", "n", "n"), ("n", "n", "n", "n"),
        reference_adamw, adamw, NULL, "....."),
    ROW(adamw_no_ema, "n", (37), (33333), ("n", "n", "n", "n", "n"), ("n", "n", "n"),
        reference_adamw, adamw_no_ema, NULL, "....."),
};
// clang-format on

const int64_t op_case_count = sizeof op_cases / sizeof op_cases[0];

static int64_t size_of(const Case *c, const int64_t *sizes, char letter)
{
    if (letter >= '0' && letter <= '9') return letter - '0';
    if (letter == 'r') return size_of(c, sizes, 'q') + size_of(c, sizes, 'k') - 1;
    const char *at = strchr(c->letters, letter);
    if (!at) abort(); /* a slip in the table */
    return sizes[at - c->letters];
}

Shape case_shape(const Case *c, const int64_t *sizes, const char *letters)
{
    Shape shape = { .ndim = (int)strlen(letters) };
    for (int i = 0; i < shape.ndim; i++) shape.dims[i] = size_of(c, sizes, letters[i]);
    return shape;
}
