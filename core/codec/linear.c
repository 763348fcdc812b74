/* linear: projecting blocks on the basis and back (linear.h has the formulas). */
#include "core/codec/linear.h"

#include "core/codec/linear_block.h"

#include <math.h>
#include <stdlib.h>

enum {
    N = LINEAR_BLOCK,
    LANES = 16, /* a loop of fixed length, so that compilers vectorise it */
};

/* The basis as the sums run: LANES channels side by side, for one pixel value after the other. */
typedef struct Projection {
    const LinearCodec *codec;
    int64_t groups; /* of LANES channels; the last is padded with zeros */
    float *basis;   /* owned; (groups, N, LANES) */
} Projection;

static Status projection_create(const LinearCodec *codec, Projection *out)
{
    const int64_t groups = (codec->channels + LANES - 1) / LANES;
    float *basis = calloc((size_t)(groups * N * LANES), sizeof *basis);
    CHECK(basis, ERR_MEMORY, "linear codec: no memory for %lld channels",
          (long long)codec->channels);
    for (int64_t c = 0; c < codec->channels; c++) {
        float *group = basis + c / LANES * N * LANES + c % LANES;
        for (int64_t i = 0; i < N; i++) group[i * LANES] = codec->basis[c * N + i];
    }
    *out = (Projection){ .codec = codec, .groups = groups, .basis = basis };
    return OK;
}

/* z[c] = scale[c] dot(basis[c], block - mean), to z[c * stride] */
static void project_block(const Projection *p, const uint8_t *block, float *z, int64_t stride)
{
    const LinearCodec *codec = p->codec;
    float x[N];
    for (int64_t i = 0; i < N; i++) x[i] = (float)block[i] * (1 / 127.5f) - 1 - codec->mean[i];
    for (int64_t g = 0; g < p->groups; g++) {
        const float *group = p->basis + g * N * LANES;
        float sums[LANES] = { 0 };
        for (int64_t i = 0; i < N; i++) {
            for (int k = 0; k < LANES; k++) sums[k] += group[i * LANES + k] * x[i];
        }
        for (int64_t c = g * LANES; c < (g + 1) * LANES && c < codec->channels; c++) {
            z[c * stride] = sums[c % LANES] * codec->scale[c];
        }
    }
}

Status linear_codec_encode(const LinearCodec *codec, Tensor latent, Tensor frames)
{
    TRY(linear_check_frames(frames));
    const int64_t t_count = 1 + frames.shape[0] / LINEAR_FRAMES;
    const int64_t height = frames.shape[1] / LINEAR_SIDE, width = frames.shape[2] / LINEAR_SIDE;
    char what[96];
    CHECK(latent.dtype == F32 && latent.ndim == 4 && latent.shape[0] == codec->channels &&
              latent.shape[1] == t_count && latent.shape[2] == height && latent.shape[3] == width,
          ERR_FORMAT, "linear codec: latent is %s, want (%lld, %lld, %lld, %lld) F32",
          tensor_describe(latent, what), (long long)codec->channels, (long long)t_count,
          (long long)height, (long long)width);
    Projection projection = { 0 };
    TRY(projection_create(codec, &projection));

    const int64_t blocks = t_count * height * width;
    float *out = tensor_f32(latent);
    for (int64_t n = 0; n < blocks; n++) {
        uint8_t block[N];
        linear_block_read(frames, n / (height * width), n / width % height, n % width, block);
        project_block(&projection, block, out + n, blocks);
    }
    free(projection.basis);
    return OK;
}

int64_t linear_codec_frames(int64_t first, int64_t count)
{
    return first == 0 && count > 0 ? 1 + LINEAR_FRAMES * (count - 1) : LINEAR_FRAMES * count;
}

/* block = mean + sum over c of basis[c] z[c] / scale[c] */
static void expand_block(const LinearCodec *codec, const float *z, int64_t stride,
                         float *restrict block)
{
    memcpy(block, codec->mean, N * sizeof *block);
    for (int64_t c = 0; c < codec->channels; c++) {
        const float a = z[c * stride] / codec->scale[c];
        const float *restrict row = codec->basis + c * N;
        for (int64_t i = 0; i < N; i++) block[i] += a * row[i];
    }
}

static uint8_t to_byte(float x)
{
    const float scaled = (x + 1) * 127.5f;
    /* written so that NaN becomes 0 */
    if (!(scaled > 0)) return 0;
    return scaled >= 255 ? 255 : (uint8_t)(scaled + 0.5f);
}

/* Frame 0 of the block becomes the average of its four. */
static void average_first_frame(float *block)
{
    const int64_t size = N / LINEAR_FRAMES;
    for (int64_t i = 0; i < size; i++) {
        block[i] = 0.25f * (block[i] + block[size + i] + block[2 * size + i] + block[3 * size + i]);
    }
}

/* Writes `count` frames of the block at pixel frame `frame` of frames. */
static void write_block(Tensor frames, int64_t frame, int64_t count, int64_t by, int64_t bx,
                        const float *block)
{
    uint8_t *pixels = frames.data;
    for (int64_t f = 0; f < count; f++) {
        for (int64_t y = 0; y < LINEAR_SIDE; y++, block += LINEAR_ROW) {
            uint8_t *row = pixels + linear_block_offset(frames, frame + f, by, bx, y);
            for (int64_t i = 0; i < LINEAR_ROW; i++) row[i] = to_byte(block[i]);
        }
    }
}

Status linear_codec_decode(const LinearCodec *codec, Tensor frames, Tensor latent, int64_t first,
                           int64_t count)
{
    char what[96], want[96];
    CHECK(latent.dtype == F32 && latent.ndim == 4 && latent.shape[0] == codec->channels, ERR_FORMAT,
          "linear codec: latent is %s, want (%lld, frames, height, width) F32",
          tensor_describe(latent, want), (long long)codec->channels);
    CHECK(first >= 0 && count >= 1 && first + count <= latent.shape[1], ERR_FORMAT,
          "linear codec: latent frames %lld to %lld of %lld", (long long)first,
          (long long)(first + count), (long long)latent.shape[1]);
    const int64_t height = latent.shape[2], width = latent.shape[3];
    const Tensor like = tensor_of(
        NULL, U8,
        SHAPE(linear_codec_frames(first, count), height * LINEAR_SIDE, width * LINEAR_SIDE, 3));
    CHECK(frames.dtype == U8 && frames.ndim == 4 &&
              memcmp(frames.shape, like.shape, sizeof like.shape) == 0,
          ERR_FORMAT, "linear codec: frames are %s, want %s", tensor_describe(frames, what),
          tensor_describe(like, want));

    const int64_t area = height * width, stride = latent.shape[1] * area;
    const float *z = tensor_f32(latent);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < count * area; n++) {
        const int64_t t = first + n / area, by = n / width % height, bx = n % width;
        float block[N];
        expand_block(codec, z + t * area + n % area, stride, block);
        if (t == 0) {
            average_first_frame(block);
            write_block(frames, 0, 1, by, bx, block);
        } else {
            write_block(frames, linear_codec_frames(first, t - first), LINEAR_FRAMES, by, bx,
                        block);
        }
    }
    return OK;
}
