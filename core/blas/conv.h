/*
 * conv: f32 convolutions of images whose channels lie innermost, by oneDNN; its owner beside gemm.
 *
 * A row of output is one call of the library on one thread, and rows go to the threads. So the bits
 * of a row depend neither on how many threads there are nor on which rows share the call. (Rows of
 * 30 pixels run at the rate of whole images.) A kernel over time is the sum of its taps, each a
 * convolution of one frame: frames need not be neighbours in memory, and one of zeros is left out.
 *
 *   y[r][x][o] = bias[o] + sum over tap, ky, kx, i of
 *                w[o][i][tap][ky][kx] frame[tap][stride r + ky - above][stride x + kx - above][i]
 *
 * above is 1 for a side of 3, else 0; with stride 2 it is 0. Columns outside the image are zero;
 * rows outside are the caller's: he has them before and after the frame (a halo).
 */
#ifndef ZT_CORE_BLAS_CONV_H
#define ZT_CORE_BLAS_CONV_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CONV_TAPS = 3 };

typedef struct ConvSize {
    int64_t in, out; /* channels */
    int side;        /* of the kernel: 1 or 3 */
    int stride;      /* 1 or 2 */
    bool doubled;    /* the frame has half the rows and columns, each pixel stands for 2 x 2 */
} ConvSize;

/* ---- weights -------------------------------------------------------------------------------- */

/* Weights in the library's own order. Constant once made: any number of runs may share them. */
typedef struct ConvWeights ConvWeights;

/* Copies. w (out, in, taps, side, side); bias (out). ERR_MEMORY, ERR_DEVICE. */
Status conv_weights_create(ConvSize size, int taps, const float *w, const float *bias,
                           ConvWeights **out);
/* A plan's: of these sizes and in that order, but no values. */
Status conv_weights_describe(ConvSize size, int taps, ConvWeights **out);
void conv_weights_destroy(ConvWeights *weights);
size_t conv_weights_bytes(const ConvWeights *weights);

/* ---- running -------------------------------------------------------------------------------- */

/* The library's programs for some sizes, made once each, and room for each thread. One user at a
 * time. */
typedef struct ConvKernels ConvKernels;
typedef struct ConvKernel ConvKernel;

/* counting: a plan's, whose room and copies are counted and not reserved; it cannot run. */
Status conv_kernels_create(int threads, bool counting, ConvKernels **out);
void conv_kernels_destroy(ConvKernels *kernels);
/* The program for frames of `width` columns (of the frame as the kernel sees it: twice as many when
 * doubled); a view. *weights becomes what this width needs, copied into `kernels` in the rare case
 * that the library wants another order. ERR_MEMORY, ERR_DEVICE. */
Status conv_kernels_add(ConvKernels *kernels, int64_t width, const ConvWeights **weights,
                        const ConvKernel **out);
/* Bytes of the threads' room and of copied weights. */
size_t conv_kernels_bytes(const ConvKernels *kernels);

typedef struct ConvRun {
    float *y; /* (rows, width / stride, out) */
    int64_t rows;
    bool accumulate;               /* y += rather than = */
    const float *frame[CONV_TAPS]; /* row 0 of each tap's frame; NULL: zeros; never all of them */
} ConvRun;

/* ERR_DEVICE when the library refuses. */
Status conv_run(const ConvKernel *kernel, const ConvWeights *weights, const ConvRun *run);

#endif
