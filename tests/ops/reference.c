#include "tests/ops/reference.h"

#include <math.h>
#include <stdlib.h>

#include "core/ops.h"
#include "tests/ops/cases.h"

int32_t reference_id(int64_t row, int64_t entries)
{
    return (int32_t)(row * 7 % (entries + 1)) - 1;
}

int32_t reference_length(int64_t sample, int64_t tokens)
{
    return sample == 1 ? 0 : (int32_t)(tokens - 2 * sample - 1);
}

/* ---- linear --------------------------------------------------------------------------------- */

static void linear(const int64_t *d, double *const *in, const double *b, double *y)
{
    const int64_t rows = d[0], inner = d[1], outer = d[2];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < outer; o++) {
            double sum = b ? b[o] : 0;
            for (int64_t i = 0; i < inner; i++) sum += in[0][r * inner + i] * in[1][o * inner + i];
            y[r * outer + o] = sum;
        }
}

void reference_linear(const int64_t *d, double *const *in, double *const *out)
{
    linear(d, in, in[2], out[0]);
}

void reference_linear_no_bias(const int64_t *d, double *const *in, double *const *out)
{
    linear(d, in, NULL, out[0]);
}

/* ---- norms ---------------------------------------------------------------------------------- */

/* out: y, mean, rstd at the row */
static void layernorm_row(const double *x, const double *scale, const double *shift, double offset,
                          int64_t width, double *y, double *mean, double *rstd)
{
    double m = 0, variance = 0;
    for (int64_t c = 0; c < width; c++) m += x[c] / (double)width;
    for (int64_t c = 0; c < width; c++) variance += (x[c] - m) * (x[c] - m) / (double)width;
    const double r = 1 / sqrt(variance + REFERENCE_EPS);
    for (int64_t c = 0; c < width; c++) y[c] = (x[c] - m) * r * (offset + scale[c]) + shift[c];
    *mean = m;
    *rstd = r;
}

void reference_layernorm_modulate(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t batch = d[0], tokens = d[1], width = d[2];
    for (int64_t r = 0; r < batch * tokens; r++)
        layernorm_row(in[0] + r * width, in[2] + r / tokens * width, in[1] + r / tokens * width, 1,
                      width, out[0] + r * width, out[1] + r, out[2] + r);
}

void reference_layernorm(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t rows = d[0], width = d[1];
    for (int64_t r = 0; r < rows; r++)
        layernorm_row(in[0] + r * width, in[1], in[2], 0, width, out[0] + r * width, out[1] + r,
                      out[2] + r);
}

void reference_rmsnorm(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t rows = d[0], width = d[1];
    for (int64_t r = 0; r < rows; r++) {
        const double *x = in[0] + r * width;
        double ss = REFERENCE_OTHER_SQUARES;
        for (int64_t c = 0; c < width; c++) ss += x[c] * x[c];
        for (int64_t c = 0; c < width; c++)
            out[0][r * width + c] =
                x[c] * in[1][c] / sqrt(ss / (double)(2 * width) + REFERENCE_EPS);
        out[1][r] = ss;
    }
}

/* ---- attention ------------------------------------------------------------------------------ */

void reference_rope(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t batch = d[0], tokens = d[1], heads = d[2], dim = d[3];
    for (int64_t i = 0; i < batch * tokens * heads; i++)
        for (int64_t p = 0; p < dim / 2; p++) {
            const double *angle = in[1] + i / heads % tokens * dim + 2 * p;
            const double a = in[0][i * dim + 2 * p], b = in[0][i * dim + 2 * p + 1];
            out[0][i * dim + 2 * p] = a * angle[0] - b * angle[1];
            out[0][i * dim + 2 * p + 1] = a * angle[1] + b * angle[0];
        }
}

/* d: batch, q_tokens, k_tokens, heads, head_dim */
static void attention(const int64_t *d, double *const *in, double *const *out, bool bias,
                      bool masked)
{
    const int64_t batch = d[0], queries = d[1], keys = d[2], heads = d[3], dim = d[4];
    double *p = malloc((size_t)keys * sizeof *p);
    for (int64_t n = 0; n < batch * queries * heads; n++) {
        const int64_t h = n % heads, i = n / heads % queries, b = n / heads / queries;
        const int64_t visible = masked ? reference_length(b, keys) : keys;
        double top = -INFINITY, sum = 0;
        for (int64_t j = 0; j < visible; j++) {
            const double *k = in[1] + ((b * keys + j) * heads + h) * dim;
            double s = 0;
            for (int64_t c = 0; c < dim; c++) s += in[0][n * dim + c] * k[c];
            p[j] = REFERENCE_SCALE * s;
            if (bias) p[j] += in[3][h * (queries + keys - 1) + j - i + queries - 1];
            top = fmax(top, p[j]);
        }
        for (int64_t j = 0; j < visible; j++) sum += p[j] = exp(p[j] - top);
        out[1][(b * heads + h) * queries + i] = visible > 0 ? top + log(sum) : -INFINITY;
        for (int64_t c = 0; c < dim; c++) {
            double o = 0;
            for (int64_t j = 0; j < visible; j++)
                o += p[j] / sum * in[2][((b * keys + j) * heads + h) * dim + c];
            out[0][n * dim + c] = o;
        }
    }
    free(p);
}

void reference_attention(const int64_t *d, double *const *in, double *const *out)
{
    attention(d, in, out, false, false);
}

void reference_attention_bias(const int64_t *d, double *const *in, double *const *out)
{
    attention(d, in, out, true, false);
}

void reference_attention_masked(const int64_t *d, double *const *in, double *const *out)
{
    attention(d, in, out, true, true);
}

/* d: batch, tokens, heads, head_dim */
void reference_attention_merge(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t tokens = d[1], heads = d[2], dim = d[3];
    for (int64_t n = 0; n < d[0] * heads * tokens; n++) {
        const int64_t t = n % tokens, h = n / tokens % heads, b = n / tokens / heads;
        const double top = fmax(in[1][n], in[3][n]);
        const double sum = exp(in[1][n] - top) + exp(in[3][n] - top);
        out[1][n] = top + log(sum);
        for (int64_t c = 0; c < dim; c++) {
            const int64_t i = ((b * tokens + t) * heads + h) * dim + c;
            out[0][i] = (exp(in[1][n] - top) * in[0][i] + exp(in[3][n] - top) * in[2][i]) / sum;
        }
    }
}

/* ---- element by element --------------------------------------------------------------------- */

static double gelu(double x)
{
    return x / 2 * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
}

void reference_gelu(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1]; i++) out[0][i] = gelu(in[0][i]);
}

void reference_silu(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1]; i++) out[0][i] = in[0][i] / (1 + exp(-in[0][i]));
}

void reference_gelu_erf(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1]; i++)
        out[0][i] = in[0][i] / 2.0 * (1.0 + erf(in[0][i] / sqrt(2.0)));
}

void reference_gated_gelu(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1]; i++) out[0][i] = gelu(in[0][i]) * in[1][i];
}

void reference_gate_residual(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t tokens = d[1], width = d[2];
    for (int64_t i = 0; i < d[0] * tokens * width; i++)
        out[0][i] = in[0][i] + in[1][i] * in[2][i / width / tokens * width + i % width];
}

void reference_residual(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1] * d[2]; i++) out[0][i] = in[0][i] + in[1][i];
}

void reference_add_bias(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1]; i++) out[0][i] = in[0][i] + in[1][i % d[1]];
}

void reference_axpby(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0]; i++) out[0][i] = 2.5 * in[0][i] - 0.5 * in[1][i];
}

/* ---- conditioning --------------------------------------------------------------------------- */

static void modulation(const int64_t *d, double *const *in, double *m, bool shared)
{
    const int64_t parts = d[0], batch = d[1], width = d[2];
    for (int64_t p = 0; p < parts; p++)
        for (int64_t b = 0; b < batch; b++)
            for (int64_t c = 0; c < width; c++)
                m[(p * batch + b) * width + c] =
                    in[0][p * width + c] + in[1][(shared ? b : b * parts + p) * width + c];
}

void reference_modulation(const int64_t *d, double *const *in, double *const *out)
{
    modulation(d, in, out[0], false);
}

void reference_modulation_shared(const int64_t *d, double *const *in, double *const *out)
{
    modulation(d, in, out[0], true);
}

void reference_timestep_embedding(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t half = d[1] / 2;
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t i = 0; i < half; i++) {
            /* the kernel's t is the F32 nearest to this product */
            const double t = (double)(float)(1000 * fabs(in[0][b]));
            const double angle = t * pow(10000, -(double)i / (double)half);
            out[0][b * 2 * half + i] = cos(angle);
            out[0][b * 2 * half + half + i] = sin(angle);
        }
}

void reference_embedding(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t rows = d[0], entries = d[1], width = d[2];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++) {
            const int64_t id = reference_id(r, entries);
            out[0][r * width + c] = id < 0 ? 0 : in[0][id * width + c];
        }
}

void reference_zero_tail(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t tokens = d[1], width = d[2];
    for (int64_t i = 0; i < d[0] * tokens * width; i++) {
        const int64_t token = i / width % tokens, sample = i / width / tokens;
        out[0][i] = token >= reference_length(sample, tokens) ? 0 : in[0][i];
    }
}

void reference_transpose(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1]; i++) out[0][i % d[1] * d[0] + i / d[1]] = in[0][i];
}

/* ---- flow and loss -------------------------------------------------------------------------- */

void reference_patch_order(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t rows = d[0], channels = d[1] / 4;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t s = 0; s < 4; s++)
                out[0][(r * channels + c) * 4 + s] = in[0][(r * 4 + s) * channels + c];
}

void reference_head_order(const int64_t *d, double *const *in, double *const *out)
{
    const int64_t rows = d[0], channels = d[1] / 4;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t s = 0; s < 4; s++)
                out[0][(r * 4 + s) * channels + c] = in[0][(r * channels + c) * 4 + s];
}

void reference_flow_mix(const int64_t *d, double *const *in, double *const *out)
{
    for (int64_t i = 0; i < d[0] * d[1]; i++) {
        const double t = in[2][i / d[1]];
        out[0][i] = (1 - t) * in[0][i] + t * in[1][i];
        out[1][i] = in[1][i] - in[0][i];
    }
}

void reference_squared_error(const int64_t *d, double *const *in, double *const *out)
{
    out[0][0] = 0;
    for (int64_t b = 0; b < d[0]; b++) {
        double sum = 0;
        for (int64_t i = b * d[1]; i < (b + 1) * d[1]; i++)
            sum += (in[0][i] - in[1][i]) * (in[0][i] - in[1][i]);
        out[1][b] = sum;
        out[0][0] += sum;
    }
}

void reference_square_norm(const int64_t *d, double *const *in, double *const *out)
{
    out[0][0] = 0;
    for (int64_t i = 0; i < d[0]; i++) out[0][0] += in[0][i] * in[0][i];
}

/* ---- optimizer ------------------------------------------------------------------------------ */

void reference_adamw(const int64_t *d, double *const *in, double *const *out)
{
    const AdamwStep s = CASE_ADAMW_STEP;
    const double b1 = (double)s.beta1, b2 = (double)s.beta2;
    for (int64_t i = 0; i < d[0]; i++) {
        const double g = in[4][i] * (double)s.grad_scale;
        const double m = b1 * in[1][i] + (1 - b1) * g;
        const double v = b2 * fabs(in[2][i]) + (1 - b2) * g * g;
        const double update =
            m / (double)s.correction1 / (sqrt(v / (double)s.correction2) + (double)s.eps);
        const double p = in[0][i] - (double)s.lr * (update + (double)s.weight_decay * in[0][i]);
        out[0][i] = p;
        out[1][i] = m;
        out[2][i] = v;
        if (out[3]) out[3][i] = in[3][i] + (1 - (double)s.ema_decay) * (p - in[3][i]);
    }
}
