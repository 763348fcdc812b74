#include "tests/model/double_math.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

double *dm_new(int64_t count)
{
    double *array = calloc((size_t)(count > 0 ? count : 1), sizeof *array);

    if (!array) {
        fprintf(stderr, "wan_double: no memory for %lld doubles\n", (long long)count);
        abort();
    }
    return array;
}

const double *dm_param(const WanDouble *model, Component component, const char *format, ...)
{
    char name[128];
    va_list args;

    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);

    const double *values = model->lookup(model->context, component, name);
    if (!values) {
        fprintf(stderr, "wan_double: no parameter %s\n", name);
        abort();
    }
    return values;
}

void dm_linear(const double *x, const double *w, const double *b, int64_t rows, int64_t in,
               int64_t out, double *y)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t o = 0; o < out; o++) {
            double sum = b ? b[o] : 0.0;
            for (int64_t i = 0; i < in; i++) sum += x[r * in + i] * w[o * in + i];
            y[r * out + o] = sum;
        }
    }
}

void dm_rms_norm(const double *x, const double *gain, double eps, int64_t rows, int64_t width,
                 double *y)
{
    for (int64_t r = 0; r < rows; r++) {
        double squares = 0.0;
        for (int64_t i = 0; i < width; i++) squares += x[r * width + i] * x[r * width + i];

        const double factor = 1.0 / sqrt(squares / (double)width + eps);
        for (int64_t i = 0; i < width; i++) y[r * width + i] = x[r * width + i] * factor * gain[i];
    }
}

double dm_gelu_tanh(double x)
{
    const double sqrt_2_over_pi = 0.79788456080286535588;
    return 0.5 * x * (1.0 + tanh(sqrt_2_over_pi * (x + 0.044715 * x * x * x)));
}

double dm_silu(double x)
{
    return x / (1.0 + exp(-x));
}

/* weights of one query of one head over the keys, in place of its scores */
static void softmax(double *scores, int64_t count)
{
    double highest = scores[0];
    double total = 0.0;

    for (int64_t j = 1; j < count; j++) highest = fmax(highest, scores[j]);
    for (int64_t j = 0; j < count; j++) total += (scores[j] = exp(scores[j] - highest));
    for (int64_t j = 0; j < count; j++) scores[j] /= total;
}

void dm_attention(const AttentionShape *shape, const double *q, const double *k, const double *v,
                  const double *bias, double *out)
{
    const int64_t dim = shape->head_dim;
    const int64_t stride = shape->heads * dim; /* from one token to the next */
    double *scores = dm_new(shape->keys);

    for (int64_t h = 0; h < shape->heads; h++) {
        for (int64_t i = 0; i < shape->queries; i++) {
            const double *query = q + i * stride + h * dim;
            double *result = out + i * stride + h * dim;

            for (int64_t j = 0; j < shape->keys; j++) {
                const double *key = k + j * stride + h * dim;
                double dot = 0.0;
                for (int64_t e = 0; e < dim; e++) dot += query[e] * key[e];
                scores[j] = shape->scale * dot;
                if (bias) scores[j] += bias[(h * shape->queries + i) * shape->keys + j];
            }
            softmax(scores, shape->keys);
            for (int64_t e = 0; e < dim; e++) result[e] = 0.0;
            for (int64_t j = 0; j < shape->keys; j++) {
                const double *value = v + j * stride + h * dim;
                for (int64_t e = 0; e < dim; e++) result[e] += scores[j] * value[e];
            }
        }
    }
    free(scores);
}
