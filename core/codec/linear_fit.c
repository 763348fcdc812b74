/*
 * linear_fit: the principal components of 4x8x8 blocks from their streamed covariance.
 *
 * Pixels are integers, so the sums are too: products of centred bytes are added up exactly, in any
 * order, by any number of threads, and come out the same. Only the last step rounds.
 */
#include "core/codec/linear.h"

#include "core/codec/linear_block.h"
#include "core/codec/linear_file.h"

#include <lapacke.h>

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum {
    N = LINEAR_BLOCK,
    BATCH = 1024, /* blocks between two additions: 1024 * 128^2 = 2^24 fits an int32 sum */
    TILE = 4,   /* rows and columns of the covariance worked on together, while they are in cache */
    LANES = 64, /* a loop of fixed length, so that compilers vectorise it: the batch is padded */
};

struct LinearFit {
    int64_t count;  /* blocks in the sums */
    int64_t sum[N]; /* of (byte - 128) */
    int64_t *outer; /* owned; (N, N), upper triangle by tiles: of products */
    int16_t *batch; /* owned; (N, BATCH): bytes - 128 of blocks not yet added */
    int64_t batch_count;
};

Status linear_codec_fit_create(LinearFit **out)
{
    LinearFit *fit = calloc(1, sizeof *fit);
    if (fit) {
        fit->outer = calloc((size_t)N * N, sizeof *fit->outer);
        fit->batch = calloc((size_t)N * BATCH, sizeof *fit->batch);
    }
    if (!fit || !fit->outer || !fit->batch) {
        linear_codec_fit_destroy(fit);
        return status_fail(ERR_MEMORY, "linear codec: no memory for a covariance of %d x %d", N, N);
    }
    *out = fit;
    return OK;
}

void linear_codec_fit_destroy(LinearFit *fit)
{
    if (!fit) return;
    free(fit->outer);
    free(fit->batch);
    free(fit);
}

void linear_codec_fit_clear(LinearFit *fit)
{
    fit->count = 0;
    fit->batch_count = 0;
    memset(fit->sum, 0, sizeof fit->sum);
    memset(fit->outer, 0, (size_t)N * N * sizeof *fit->outer);
}

/* count: a multiple of LANES */
static int32_t dot(const int16_t *x, const int16_t *y, int64_t count)
{
    int32_t sum = 0;
    for (int64_t n = 0; n < count; n += LANES) {
        for (int k = 0; k < LANES; k++) sum += (int32_t)x[n + k] * (int32_t)y[n + k];
    }
    return sum;
}

/* outer[i + a][j + b] += dot of rows i + a and j + b of the batch */
static void add_tile(int64_t *outer, const int16_t *batch, int64_t count, int64_t i, int64_t j)
{
    for (int64_t a = i; a < i + TILE; a++) {
        for (int64_t b = j; b < j + TILE; b++) {
            outer[a * N + b] += dot(batch + a * BATCH, batch + b * BATCH, count);
        }
    }
}

static void add_batch(LinearFit *fit)
{
    const int64_t padded = (fit->batch_count + LANES - 1) / LANES * LANES;
    for (int64_t i = 0; i < N; i++) {
        int16_t *x = fit->batch + i * BATCH;
        for (int64_t n = 0; n < fit->batch_count; n++) fit->sum[i] += x[n];
        for (int64_t n = fit->batch_count; n < padded; n++) x[n] = 0;
    }
    for (int64_t i = 0; i < N; i += TILE) {
        for (int64_t j = i; j < N; j += TILE) {
            add_tile(fit->outer, fit->batch, padded, i, j);
        }
    }
    fit->count += fit->batch_count;
    fit->batch_count = 0;
}

Status linear_codec_fit_add(LinearFit *fit, Tensor frames)
{
    TRY(linear_check_frames(frames));
    const int64_t latent_frames = 1 + frames.shape[0] / LINEAR_FRAMES;
    for (int64_t t = 0; t < latent_frames; t++) {
        for (int64_t by = 0; by < frames.shape[1] / LINEAR_SIDE; by++) {
            for (int64_t bx = 0; bx < frames.shape[2] / LINEAR_SIDE; bx++) {
                uint8_t block[N];
                linear_block_read(frames, t, by, bx, block);
                int16_t *column = fit->batch + fit->batch_count;
                for (int64_t i = 0; i < N; i++) column[i * BATCH] = (int16_t)(block[i] - 128);
                if (++fit->batch_count == BATCH) add_batch(fit);
            }
        }
    }
    /* nothing stays behind in the batch, so that fits can be merged */
    add_batch(fit);
    return OK;
}

void linear_codec_fit_merge(LinearFit *fit, const LinearFit *other)
{
    assert(fit->batch_count == 0 && other->batch_count == 0);
    fit->count += other->count;
    for (int64_t i = 0; i < N; i++) fit->sum[i] += other->sum[i];
    for (int64_t i = 0; i < (int64_t)N * N; i++) fit->outer[i] += other->outer[i];
}

/* covariance (N, N), upper triangle, of pixels in [-1, 1]: byte / 127.5 - 1 */
static void fit_covariance(const LinearFit *fit, double *covariance)
{
    const double count = (double)fit->count;
    for (int64_t i = 0; i < N; i++) {
        const double mean_i = (double)fit->sum[i] / count;
        for (int64_t j = i; j < N; j++) {
            const double mean_j = (double)fit->sum[j] / count;
            const double moment = (double)fit->outer[i * N + j] / count;
            covariance[i * N + j] = (moment - mean_i * mean_j) / (127.5 * 127.5);
        }
    }
}

/* Basis row c = the eigenvector of the c-th largest eigenvalue; its largest entry is positive,
 * because an eigenvector's sign is whatever the library happened to leave. */
static void take_basis(LinearCodec *codec, const double *vectors)
{
    for (int64_t c = 0; c < codec->channels; c++) {
        const int64_t column = N - 1 - c; /* eigenvalues ascend */
        double largest = 0;
        for (int64_t i = 0; i < N; i++) {
            const double v = vectors[i * N + column];
            if (fabs(v) > fabs(largest)) largest = v;
        }
        for (int64_t i = 0; i < N; i++) {
            const double v = vectors[i * N + column];
            codec->basis[c * N + i] = (float)(largest < 0 ? -v : v);
        }
    }
}

/* scale[c] = g / sqrt(std[c]), so the variance of channel c is g^2 std[c]: g = 1 / sqrt(mean std).
 * A channel without variance in these videos may have some in others: what rounding to bytes leaves
 * (a step of 2 / 255, uniform) is the least deviation counted with. */
static void take_scale(LinearCodec *codec, const double *variances)
{
    const double least = 2.0 / 255 / sqrt(12);
    double mean_std = 0;
    for (int64_t c = 0; c < codec->channels; c++) {
        mean_std += fmax(sqrt(fmax(variances[N - 1 - c], 0)), least) / (double)codec->channels;
    }
    for (int64_t c = 0; c < codec->channels; c++) {
        const double std = fmax(sqrt(fmax(variances[N - 1 - c], 0)), least);
        codec->scale[c] = (float)(1 / sqrt(std * mean_std));
    }
}

Status linear_codec_fit_finish(const LinearFit *fit, int64_t channels, LinearCodec *out)
{
    CHECK(channels >= 1 && channels <= N, ERR_CONFIG, "linear codec: channels %lld, want 1 to %d",
          (long long)channels, N);
    CHECK(fit->count >= 2, ERR_FORMAT, "linear codec: %lld blocks are too few to fit to",
          (long long)fit->count);

    Status s = OK;
    LinearCodec codec = { 0 };
    double *covariance = calloc((size_t)N * N, sizeof *covariance);
    double *variances = calloc((size_t)N, sizeof *variances);
    CHECK_TO(done, s, covariance && variances, ERR_MEMORY, "linear codec: no memory to fit");
    TRY_TO(done, s, linear_codec_alloc(&codec, channels));

    fit_covariance(fit, covariance);
    const lapack_int info = LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'U', N, covariance, N, variances);
    CHECK_TO(done, s, info == 0, ERR_DEVICE, "linear codec: LAPACK dsyevd failed with info %d",
             (int)info);
    for (int64_t i = 0; i < N; i++) {
        const double mean = (double)fit->sum[i] / (double)fit->count + 128;
        codec.mean[i] = (float)(mean / 127.5 - 1);
    }
    take_basis(&codec, covariance);
    take_scale(&codec, variances);
    TRY_TO(done, s, linear_codec_digest(&codec, codec.digest));
    *out = codec;
    codec = (LinearCodec){ 0 };
done:
    linear_codec_destroy(&codec);
    free(variances);
    free(covariance);
    return s;
}
