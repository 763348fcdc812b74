#include "core/codec/wan_frame.h"

#include <string.h>

/* ---- ranks ----------------------------------------------------------------------------------- */

static int64_t first_of(int64_t all, int size, int rank)
{
    const int64_t each = all / size, more = all % size;
    return rank * each + (rank < more ? rank : more);
}

WanRows wan_rows(Group *group, int64_t all)
{
    const int rank = group->rank, size = group->size;
    WanRows r = { .group = group, .all = all, .above = -1, .below = -1 };
    r.first = first_of(all, size, rank);
    r.count = first_of(all, size, rank + 1) - r.first;
    if (r.count > 0 && r.first > 0) r.above = rank - 1;
    if (r.count > 0 && r.first + r.count < all) r.below = rank + 1;
    return r;
}

int64_t wan_rows_of(const WanRows *rows, int rank)
{
    const int size = rows->group->size;
    return first_of(rows->all, size, rank + 1) - first_of(rows->all, size, rank);
}

size_t wan_frame_bytes(int64_t rows, int64_t width, int64_t channels)
{
    return (size_t)((rows + 2) * width * channels) * sizeof(float);
}

Status wan_fill_halo(const WanRows *rows, WanFrame f)
{
    const int64_t count = wan_row_count(f);
    float *above = f.halo, *below = wan_row0(f) + f.rows * count;
    GroupRequest up = { 0 }, down = { 0 };
    if (f.rows == 0) return OK;
    if (rows->above >= 0)
        TRY(group_send(rows->group, tensor_of(wan_row0(f), F32, SHAPE(count)), rows->above, &up));
    if (rows->below >= 0)
        TRY(group_send(rows->group, tensor_of(below - count, F32, SHAPE(count)), rows->below,
                       &down));
    if (rows->above >= 0)
        TRY(group_receive(rows->group, tensor_of(above, F32, SHAPE(count)), rows->above));
    else
        memset(above, 0, (size_t)count * sizeof *above);
    if (rows->below >= 0)
        TRY(group_receive(rows->group, tensor_of(below, F32, SHAPE(count)), rows->below));
    else
        memset(below, 0, (size_t)count * sizeof *below);
    if (rows->above >= 0) TRY(group_wait(rows->group, &up));
    if (rows->below >= 0) TRY(group_wait(rows->group, &down));
    return OK;
}

/* ---- activations ----------------------------------------------------------------------------- */

void wan_copy(const Device *dev, WanFrame to, WanFrame from)
{
    const int64_t count = wan_row_count(from);
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t y = 0; y < from.rows; y++)
        memcpy(wan_row0(to) + y * count, wan_row0(from) + y * count, (size_t)count * sizeof(float));
}

Status wan_norm(const Device *dev, WanFrame to, WanFrame x, Tensor gamma, bool silu, Tensor ss)
{
    /* x / max(|x|, 1e-12) sqrt(c) is x / sqrt(ss / c + eps), but where |x| is near 1e-12 itself */
    const float eps = 1e-24f / (float)x.channels;
    const Tensor y = wan_pixels(to), in = wan_pixels(x);
    if (x.rows == 0) return OK;
    const Tensor sums = tensor_of(ss.data, F32, SHAPE(x.rows * x.width));
    TRY(op_sum_squares_rows(dev, sums, in, 1));
    TRY(op_rmsnorm(dev, y, in, sums, gamma, x.channels, eps));
    return silu ? op_silu(dev, y, y) : OK;
}

/* Channel c, row b and column g of its square are e = ((c time + a) side + b) side + g of the
 * expanded channels; output channel o is the mean of e in [o n, (o + 1) n). */
void wan_average_down(const Device *dev, WanFrame out, WanFrame x, WanShortcut s)
{
    const int64_t n = x.channels * s.time * s.side * s.side / out.channels;
    const float share = 1.0f / (float)n;
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t y = 0; y < out.rows; y++) {
        for (int64_t k = 0; k < out.width * s.side * s.side; k++) {
            const int64_t column = k / (s.side * s.side), b = k / s.side % s.side, g = k % s.side;
            float *to = wan_row0(out) + (y * out.width + column) * out.channels;
            const float *from =
                wan_row0(x) + ((y * s.side + b) * x.width + column * s.side + g) * x.channels;
            for (int64_t c = 0; c < x.channels; c++) {
                const int64_t e = ((c * s.time + s.a) * s.side + b) * s.side + g;
                to[e / n] += share * from[c];
            }
        }
    }
}

/* Output channel o, row b and column g of its square are e, as above; it shows channel e / n. */
void wan_repeat_up(const Device *dev, WanFrame out, WanFrame x, WanShortcut s)
{
    const int64_t n = out.channels * s.time * s.side * s.side / x.channels;
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t y = 0; y < out.rows; y++) {
        for (int64_t column = 0; column < out.width; column++) {
            const int64_t b = y % s.side, g = column % s.side;
            float *to = wan_row0(out) + (y * out.width + column) * out.channels;
            const float *from = wan_row0(x) + (y / s.side * x.width + column / s.side) * x.channels;
            for (int64_t o = 0; o < out.channels; o++)
                to[o] += from[(((o * s.time + s.a) * s.side + b) * s.side + g) / n];
        }
    }
}

/* ---- pixels and latents ---------------------------------------------------------------------- */

static float clamp(float x)
{
    /* written so that NaN becomes -1 */
    return x > -1 ? x < 1 ? x : 1 : -1;
}

static uint8_t to_byte(float x)
{
    return (uint8_t)((clamp(x) + 1) * 127.5f + 0.5f);
}

/* Where in a pixel's channels the picture's row, column and colour are. */
static int64_t channel_of(int64_t patch, int64_t row, int64_t column, int64_t colour)
{
    return (colour * patch + column % patch) * patch + row % patch;
}

void wan_take_picture(const Device *dev, const WanConfig *config, WanFrame f, Tensor picture,
                      int64_t first_row)
{
    const int64_t p = config->patch_size, width = picture.shape[1];
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t y = 0; y < f.rows * p; y++) {
        const int64_t at = (first_row + y) * width * 3;
        for (int64_t x = 0; x < width; x++) {
            float *to = wan_row0(f) + (y / p * f.width + x / p) * f.channels;
            for (int64_t c = 0; c < 3; c++) {
                const int64_t i = at + x * 3 + c;
                to[channel_of(p, y, x, c)] =
                    picture.dtype == U8 ? (float)((const uint8_t *)picture.data)[i] / 127.5f - 1
                                        : ((const float *)picture.data)[i];
            }
        }
    }
}

void wan_give_picture(const Device *dev, const WanConfig *config, Tensor picture, int64_t first_row,
                      WanFrame f)
{
    const int64_t p = config->patch_size, width = picture.shape[1];
#pragma omp parallel for schedule(static) num_threads(dev->threads)
    for (int64_t y = 0; y < f.rows * p; y++) {
        const int64_t at = (first_row + y) * width * 3;
        for (int64_t x = 0; x < width; x++) {
            const float *from = wan_row0(f) + (y / p * f.width + x / p) * f.channels;
            for (int64_t c = 0; c < 3; c++) {
                const float value = from[channel_of(p, y, x, c)];
                if (picture.dtype == U8)
                    ((uint8_t *)picture.data)[at + x * 3 + c] = to_byte(value);
                else
                    ((float *)picture.data)[at + x * 3 + c] = clamp(value);
            }
        }
    }
}

void wan_take_latent(const WanConfig *config, WanFrame f, Tensor latent, int64_t t,
                     int64_t first_row)
{
    const int64_t frames = latent.shape[1], rows = latent.shape[2], width = latent.shape[3];
    for (int64_t c = 0; c < f.channels; c++) {
        const float *from = tensor_f32(latent) + ((c * frames + t) * rows + first_row) * width;
        float *to = wan_row0(f) + c;
        for (int64_t i = 0; i < f.rows * f.width; i++)
            to[i * f.channels] = from[i] * config->std[c] + config->mean[c];
    }
}

void wan_give_means(const WanConfig *config, float *out, WanFrame f)
{
    for (int64_t i = 0; i < f.rows * f.width; i++)
        for (int64_t c = 0; c < config->z_dim; c++)
            out[i * config->z_dim + c] =
                (wan_row0(f)[i * f.channels + c] - config->mean[c]) / config->std[c];
}
