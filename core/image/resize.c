#include "core/image/resize.h"

#include <math.h>
#include <stdbool.h>

enum { BITS = 22 };              /* of a weight's fraction */
static const double REACH = 2.0; /* of the kernel, at its own scale */

/* Where each output value comes from: `taps` weights from input `first` on. */
typedef struct Taps {
    int64_t most;        /* weights of one output, room */
    Tensor first, count; /* (outputs) I32 */
    Tensor weights;      /* (outputs, most) I32 */
} Taps;

/* Keys' cubic convolution with a = -1/2. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    return 0.0;
}

static double shrink(int64_t out, int64_t in)
{
    const double scale = (double)in / (double)out;
    return scale > 1.0 ? scale : 1.0;
}

static Status taps_alloc(Arena *arena, int64_t out, int64_t in, Taps *taps)
{
    taps->most = 2 * (int64_t)ceil(REACH * shrink(out, in)) + 1;
    TRY(tensor_alloc(arena, I32, SHAPE(out), "resize.first", &taps->first));
    TRY(tensor_alloc(arena, I32, SHAPE(out), "resize.count", &taps->count));
    return tensor_alloc(arena, I32, SHAPE(out, taps->most), "resize.weights", &taps->weights);
}

/* Weights of output i, as real numbers that sum to 1, then rounded away from zero. */
static void fill_output(const Taps *taps, int64_t i, int64_t out, int64_t in, double *real)
{
    const double scale = (double)in / (double)out, wide = shrink(out, in);
    const double center = ((double)i + 0.5) * scale, reach = REACH * wide;
    int64_t first = (int64_t)(center - reach + 0.5), end = (int64_t)(center + reach + 0.5);
    double sum = 0.0;
    if (first < 0) first = 0;
    if (end > in) end = in;
    for (int64_t k = 0; k < end - first; k++) {
        real[k] = cubic(((double)(k + first) - center + 0.5) * (1.0 / wide));
        sum += real[k];
    }
    ((int32_t *)taps->first.data)[i] = (int32_t)first;
    ((int32_t *)taps->count.data)[i] = (int32_t)(end - first);
    int32_t *weights = (int32_t *)taps->weights.data + i * taps->most;
    for (int64_t k = 0; k < end - first; k++) {
        const double w = (sum != 0.0 ? real[k] / sum : real[k]) * (double)(1 << BITS);
        weights[k] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
}

static Status taps_fill(const Taps *taps, int64_t out, int64_t in, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    void *real;
    TRY(arena_alloc(scratch, (size_t)taps->most * sizeof(double), "resize.real", &real));
    for (int64_t i = 0; i < out; i++) fill_output(taps, i, out, in, real);
    arena_release(scratch, mark);
    return OK;
}

static uint8_t clamp_byte(int64_t v)
{
    v >>= BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* to[i] = sum of weights times from, both `step` apart: a line of one channel. */
static void apply(const Taps *taps, uint8_t *to, const uint8_t *from, int64_t outputs,
                  int64_t to_step, int64_t from_step)
{
    for (int64_t i = 0; i < outputs; i++) {
        const int32_t *w = (const int32_t *)taps->weights.data + i * taps->most;
        const int64_t first = ((const int32_t *)taps->first.data)[i];
        const int64_t count = ((const int32_t *)taps->count.data)[i];
        int64_t sum = 1 << (BITS - 1); /* rounds */
        for (int64_t k = 0; k < count; k++) sum += (int64_t)w[k] * from[(first + k) * from_step];
        to[i * to_step] = clamp_byte(sum);
    }
}

/* Rows of `in` become out_width wide. */
static void resize_rows(const Taps *taps, Tensor out, Tensor in)
{
    const int64_t channels = in.shape[2];
    for (int64_t y = 0; y < in.shape[0]; y++)
        for (int64_t c = 0; c < channels; c++)
            apply(taps, (uint8_t *)out.data + y * out.shape[1] * channels + c,
                  (const uint8_t *)in.data + y * in.shape[1] * channels + c, out.shape[1], channels,
                  channels);
}

static void resize_columns(const Taps *taps, Tensor out, Tensor in)
{
    const int64_t stride = in.shape[1] * in.shape[2];
    for (int64_t i = 0; i < stride; i++)
        apply(taps, (uint8_t *)out.data + i, (const uint8_t *)in.data + i, out.shape[0], stride,
              stride);
}

/* Two passes, and the picture between them. */
typedef struct Passes {
    bool columns_first;
    Tensor middle; /* (in_height, out_width, channels), or (out_height, in_width, channels) */
    Taps across, down;
} Passes;

static bool shrinks_most_in_height(const int64_t out[2], const int64_t in[2])
{
    const double down = (double)in[0] / (double)out[0], across = (double)in[1] / (double)out[1];
    return down > 1.0 && down > across;
}

static Status passes_alloc(Arena *arena, const int64_t out[2], const int64_t in[2],
                           int64_t channels, Passes *passes)
{
    passes->columns_first = shrinks_most_in_height(out, in);
    const Shape between =
        passes->columns_first ? SHAPE(out[0], in[1], channels) : SHAPE(in[0], out[1], channels);
    TRY(tensor_alloc(arena, U8, between, "resize.middle", &passes->middle));
    TRY(taps_alloc(arena, out[1], in[1], &passes->across));
    return taps_alloc(arena, out[0], in[0], &passes->down);
}

Status image_resize(Tensor out, Tensor in, Arena *scratch)
{
    const size_t mark = arena_mark(scratch);
    Passes p;
    TRY(passes_alloc(scratch, out.shape, in.shape, in.shape[2], &p));
    TRY(taps_fill(&p.across, out.shape[1], in.shape[1], scratch));
    TRY(taps_fill(&p.down, out.shape[0], in.shape[0], scratch));
    if (p.columns_first) {
        resize_columns(&p.down, p.middle, in);
        resize_rows(&p.across, out, p.middle);
    } else {
        resize_rows(&p.across, p.middle, in);
        resize_columns(&p.down, out, p.middle);
    }
    arena_release(scratch, mark);
    return OK;
}

Status image_resize_scratch(Arena *count, int64_t out_height, int64_t out_width, int64_t in_height,
                            int64_t in_width, int64_t channels)
{
    const size_t mark = arena_mark(count);
    const int64_t out[2] = { out_height, out_width }, in[2] = { in_height, in_width };
    Passes p;
    void *real;
    TRY(passes_alloc(count, out, in, channels, &p));
    const int64_t most = p.across.most > p.down.most ? p.across.most : p.down.most;
    TRY(arena_alloc(count, (size_t)most * sizeof(double), "resize.real", &real));
    arena_release(count, mark);
    return OK;
}
