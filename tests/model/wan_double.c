/* The transformer of wan_double, one sample at a time. */
#include "tests/model/wan_double.h"

#include "tests/model/double_math.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What one sample's blocks read besides the tokens. */
typedef struct Sample {
    const WanDouble *model;
    const DitConfig *c;
    int64_t width, tokens, text_rows;
    int64_t grid[3];
    double *e;       /* (width): the time embedding, for the head */
    double *e0;      /* (6, width): its projection, for every block */
    double *context; /* (text_rows, width) */
} Sample;

/* y = x W^T + b with the layer's "<name>.weight" and "<name>.bias" */
static void linear(const Sample *s, const char *name, const double *x, int64_t rows, int64_t in,
                   int64_t out, double *y)
{
    const double *w = dm_param(s->model, COMPONENT_TRANSFORMER, "%s.weight", name);
    const double *b = dm_param(s->model, COMPONENT_TRANSFORMER, "%s.bias", name);
    dm_linear(x, w, b, rows, in, out, y);
}

/* the same for layer `leaf` of block `block` */
static void block_linear(const Sample *s, int64_t block, const char *leaf, const double *x,
                         int64_t rows, int64_t in, int64_t out, double *y)
{
    char name[96];

    snprintf(name, sizeof name, "blocks.%d.%s", (int)block, leaf);
    linear(s, name, x, rows, in, out, y);
}

/* y = normalised x * scale + shift, each (width) */
static void layer_norm(const Sample *s, const double *x, const double *scale, const double *shift,
                       double *y)
{
    const int64_t n = s->width;

    for (int64_t r = 0; r < s->tokens; r++) {
        const double *row = x + r * n;
        double mean = 0.0;
        double variance = 0.0;

        for (int64_t i = 0; i < n; i++) mean += row[i];
        mean /= (double)n;
        for (int64_t i = 0; i < n; i++) variance += (row[i] - mean) * (row[i] - mean);
        variance /= (double)n;
        for (int64_t i = 0; i < n; i++)
            y[r * n + i] = (row[i] - mean) / sqrt(variance + s->c->eps) * scale[i] + shift[i];
    }
}

/* the same with modulation: * (1 + scale) + shift */
static void modulated_norm(const Sample *s, const double *x, const double *scale,
                           const double *shift, double *y)
{
    double *one_plus = dm_new(s->width);

    for (int64_t i = 0; i < s->width; i++) one_plus[i] = 1.0 + scale[i];
    layer_norm(s, x, one_plus, shift, y);
    free(one_plus);
}

static void embed_time(const Sample *s, double timestep)
{
    const int64_t half = s->c->freq_dim / 2;
    double *waves = dm_new(2 * half);
    double *hidden = dm_new(s->width);

    for (int64_t i = 0; i < half; i++) {
        const double angle = timestep * pow(10000.0, -(double)i / (double)half);
        waves[i] = cos(angle);
        waves[half + i] = sin(angle);
    }
    linear(s, "condition_embedder.time_embedder.linear_1", waves, 1, 2 * half, s->width, hidden);
    for (int64_t i = 0; i < s->width; i++) hidden[i] = dm_silu(hidden[i]);
    linear(s, "condition_embedder.time_embedder.linear_2", hidden, 1, s->width, s->width, s->e);
    for (int64_t i = 0; i < s->width; i++) hidden[i] = dm_silu(s->e[i]);
    linear(s, "condition_embedder.time_proj", hidden, 1, s->width, 6 * s->width, s->e0);
    free(waves);
    free(hidden);
}

/* text (text_rows, text_dim): its zero rows go through the projection like any other */
static void embed_text(const Sample *s, const double *text)
{
    const int64_t rows = s->text_rows;
    double *hidden = dm_new(rows * s->width);

    linear(s, "condition_embedder.text_embedder.linear_1", text, rows, s->c->text_dim, s->width,
           hidden);
    for (int64_t i = 0; i < rows * s->width; i++) hidden[i] = dm_gelu_tanh(hidden[i]);
    linear(s, "condition_embedder.text_embedder.linear_2", hidden, rows, s->width, s->width,
           s->context);
    free(hidden);
}

/* turns the pairs of every head by frame, then row, then column */
static void rotate(const Sample *s, double *x)
{
    const int64_t dim = s->c->attention_head_dim;
    const int64_t side = 2 * (dim / 6);
    const int64_t axis_dims[3] = { dim - 2 * side, side, side };

    for (int64_t token = 0; token < s->tokens; token++) {
        const int64_t position[3] = { token / (s->grid[1] * s->grid[2]),
                                      token / s->grid[2] % s->grid[1], token % s->grid[2] };
        for (int64_t h = 0; h < s->c->num_attention_heads; h++) {
            double *pair = x + token * s->width + h * dim;
            for (int axis = 0; axis < 3; axis++) {
                for (int64_t j = 0; j < axis_dims[axis] / 2; j++, pair += 2) {
                    const double power = -2.0 * (double)j / (double)axis_dims[axis];
                    const double angle = (double)position[axis] * pow(10000.0, power);
                    const double x0 = pair[0];
                    const double x1 = pair[1];
                    pair[0] = x0 * cos(angle) - x1 * sin(angle);
                    pair[1] = x0 * sin(angle) + x1 * cos(angle);
                }
            }
        }
    }
}

/* y (tokens, width) = to_out(attention) of "attn1" (keys are the tokens, turned) or "attn2" */
static void attention(const Sample *s, int64_t block, const char *kind, const double *x,
                      const double *source, int64_t keys, bool turn, double *y)
{
    const int64_t n = s->width;
    char leaf[48];
    double *q = dm_new(s->tokens * n);
    double *k = dm_new(keys * n);
    double *v = dm_new(keys * n);
    double *heads = dm_new(s->tokens * n);

    snprintf(leaf, sizeof leaf, "%s.to_q", kind);
    block_linear(s, block, leaf, x, s->tokens, n, n, q);
    snprintf(leaf, sizeof leaf, "%s.to_k", kind);
    block_linear(s, block, leaf, source, keys, n, n, k);
    snprintf(leaf, sizeof leaf, "%s.to_v", kind);
    block_linear(s, block, leaf, source, keys, n, n, v);

    /* over the full width, all heads together, before they are split */
    dm_rms_norm(
        q,
        dm_param(s->model, COMPONENT_TRANSFORMER, "blocks.%d.%s.norm_q.weight", (int)block, kind),
        s->c->eps, s->tokens, n, q);
    dm_rms_norm(
        k,
        dm_param(s->model, COMPONENT_TRANSFORMER, "blocks.%d.%s.norm_k.weight", (int)block, kind),
        s->c->eps, keys, n, k);
    if (turn) {
        rotate(s, q);
        rotate(s, k);
    }

    const AttentionShape shape = { s->tokens, keys, s->c->num_attention_heads,
                                   s->c->attention_head_dim,
                                   1.0 / sqrt((double)s->c->attention_head_dim) };
    dm_attention(&shape, q, k, v, NULL, heads);
    snprintf(leaf, sizeof leaf, "%s.to_out.0", kind);
    block_linear(s, block, leaf, heads, s->tokens, n, n, y);
    free(q);
    free(k);
    free(v);
    free(heads);
}

static void feed_forward(const Sample *s, int64_t block, const double *x, double *y)
{
    double *hidden = dm_new(s->tokens * s->c->ffn_dim);

    block_linear(s, block, "ffn.net.0.proj", x, s->tokens, s->width, s->c->ffn_dim, hidden);
    for (int64_t i = 0; i < s->tokens * s->c->ffn_dim; i++) hidden[i] = dm_gelu_tanh(hidden[i]);
    block_linear(s, block, "ffn.net.2", hidden, s->tokens, s->c->ffn_dim, s->width, y);
    free(hidden);
}

/* x (tokens, width) in place */
static void run_block(const Sample *s, int64_t block, double *x)
{
    const int64_t n = s->width;
    const double *table =
        dm_param(s->model, COMPONENT_TRANSFORMER, "blocks.%d.scale_shift_table", (int)block);
    double *m = dm_new(6 * n); /* shift, scale, gate; shift, scale, gate */
    double *normed = dm_new(s->tokens * n);
    double *y = dm_new(s->tokens * n);

    for (int64_t i = 0; i < 6 * n; i++) m[i] = table[i] + s->e0[i];

    modulated_norm(s, x, m + n, m, normed);
    attention(s, block, "attn1", normed, normed, s->tokens, true, y);
    for (int64_t i = 0; i < s->tokens * n; i++) x[i] += y[i] * m[2 * n + i % n];

    layer_norm(
        s, x, dm_param(s->model, COMPONENT_TRANSFORMER, "blocks.%d.norm2.weight", (int)block),
        dm_param(s->model, COMPONENT_TRANSFORMER, "blocks.%d.norm2.bias", (int)block), normed);
    attention(s, block, "attn2", normed, s->context, s->text_rows, false, y);
    for (int64_t i = 0; i < s->tokens * n; i++) x[i] += y[i];

    modulated_norm(s, x, m + 4 * n, m + 3 * n, normed);
    feed_forward(s, block, normed, y);
    for (int64_t i = 0; i < s->tokens * n; i++) x[i] += y[i] * m[5 * n + i % n];

    free(m);
    free(normed);
    free(y);
}

/* the head's columns are (pixel of the patch, channel); a latent's are (channel, pixel) */
static void run_head(const Sample *s, const double *x, double *velocity)
{
    const int64_t n = s->width;
    const int64_t channels = s->c->out_channels;
    const int64_t pixels = s->c->patch_size[0] * s->c->patch_size[1] * s->c->patch_size[2];
    const int64_t columns = channels * pixels;
    const double *table = dm_param(s->model, COMPONENT_TRANSFORMER, "scale_shift_table");
    double *m = dm_new(2 * n); /* shift, scale */
    double *normed = dm_new(s->tokens * n);
    double *y = dm_new(s->tokens * columns);

    for (int64_t i = 0; i < 2 * n; i++) m[i] = table[i] + s->e[i % n];
    modulated_norm(s, x, m + n, m, normed);
    linear(s, "proj_out", normed, s->tokens, n, columns, y);
    for (int64_t token = 0; token < s->tokens; token++) {
        for (int64_t pixel = 0; pixel < pixels; pixel++) {
            for (int64_t channel = 0; channel < channels; channel++)
                velocity[token * columns + channel * pixels + pixel] =
                    y[token * columns + pixel * channels + channel];
        }
    }
    free(m);
    free(normed);
    free(y);
}

/* latent (tokens, patch), text (text_rows, text_dim) -> velocity */
static void run_sample(const Sample *s, const double *latent, double timestep, const double *text,
                       double *velocity)
{
    double *x = dm_new(s->tokens * s->width);

    embed_time(s, timestep);
    embed_text(s, text);
    linear(s, "patch_embedding", latent, s->tokens, dit_patch_in(s->c), s->width, x);
    for (int64_t block = 0; block < s->c->num_layers; block++) run_block(s, block, x);
    run_head(s, x, velocity);
    free(x);
}

void wan_double_forward(const WanDouble *model, const WanInput *input, double *velocity)
{
    const DitConfig *c = &model->config->dit;
    const int64_t tokens = input->grid[0] * input->grid[1] * input->grid[2];
    const int64_t text_rows = model->config->text.max_length;
    const int64_t patch = dit_patch_in(c);
    const int64_t out_patch = patch / c->in_channels * c->out_channels;
    double *encoded = dm_new(text_rows * c->text_dim);
    Sample s = { .model = model,
                 .c = c,
                 .width = dit_width(c),
                 .tokens = tokens,
                 .text_rows = text_rows,
                 .grid = { input->grid[0], input->grid[1], input->grid[2] } };

    s.e = dm_new(s.width);
    s.e0 = dm_new(6 * s.width);
    s.context = dm_new(text_rows * s.width);
    for (int64_t b = 0; b < input->batch; b++) {
        const double *text = encoded;
        if (input->text)
            text = input->text + b * text_rows * c->text_dim;
        else
            wan_double_encode(model, input->ids + b * text_rows, input->lengths[b], encoded);
        run_sample(&s, input->latent + b * tokens * patch, input->timesteps[b], text,
                   velocity + b * tokens * out_patch);
    }
    free(s.e);
    free(s.e0);
    free(s.context);
    free(encoded);
}

double wan_double_loss(const WanDouble *model, const WanInput *input, const double *clean,
                       const double *noise, const double *t)
{
    const int64_t tokens = input->grid[0] * input->grid[1] * input->grid[2];
    const int64_t sample = tokens * dit_patch_in(&model->config->dit);
    const int64_t count = input->batch * sample;
    double *latent = dm_new(count);
    double *timesteps = dm_new(input->batch);
    double *velocity = dm_new(count);
    double sum = 0.0;

    for (int64_t b = 0; b < input->batch; b++) timesteps[b] = 1000.0 * t[b];
    for (int64_t i = 0; i < count; i++) {
        const double at = t[i / sample];
        latent[i] = (1.0 - at) * clean[i] + at * noise[i];
    }

    WanInput noisy = *input;
    noisy.latent = latent;
    noisy.timesteps = timesteps;
    wan_double_forward(model, &noisy, velocity);
    for (int64_t i = 0; i < count; i++) {
        const double error = velocity[i] - (noise[i] - clean[i]);
        sum += error * error;
    }
    free(latent);
    free(timesteps);
    free(velocity);
    return sum / (double)count;
}
