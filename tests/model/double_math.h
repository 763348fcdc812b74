/*
 * double_math: the few formulas that both halves of the double-precision model are made of.
 *
 * Plain loops over row-major arrays. x (rows, in), y (rows, out).
 */
#ifndef ZT_TESTS_MODEL_DOUBLE_MATH_H
#define ZT_TESTS_MODEL_DOUBLE_MATH_H

#include "tests/model/wan_double.h"

/* Zeroed; ends the program when there is no memory. */
double *dm_new(int64_t count);

/* The tensor whose name the format spells; ends the program when the lookup has none. */
const double *dm_param(const WanDouble *model, Component component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* y = x w^T + b; w (out, in); b (out) or NULL. */
void dm_linear(const double *x, const double *w, const double *b, int64_t rows, int64_t in,
               int64_t out, double *y);

/* y = x / sqrt(mean(x^2) + eps) * gain, over the whole row. */
void dm_rms_norm(const double *x, const double *gain, double eps, int64_t rows, int64_t width,
                 double *y);

double dm_gelu_tanh(double x);
double dm_silu(double x);

/* One attention: out = softmax(scale q k^T + bias) v for each head. */
typedef struct AttentionShape {
    int64_t queries, keys, heads, head_dim;
    double scale;
} AttentionShape;

/* q, out (queries, heads, head_dim); k, v (keys, heads, head_dim); bias (heads, queries, keys) or
 * NULL. */
void dm_attention(const AttentionShape *shape, const double *q, const double *k, const double *v,
                  const double *bias, double *out);

#endif
