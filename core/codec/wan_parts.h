/* wan_parts: the insides of a WanCoder, for core/codec/wan_coder.c and wan_run.c only. */
#ifndef ZT_CORE_CODEC_WAN_PARTS_H
#define ZT_CORE_CODEC_WAN_PARTS_H

#include "core/codec/wan_coder.h"
#include "core/codec/wan_frame.h"

enum {
    WAN_PAST = 2,  /* frames that a convolution over time keeps */
    WAN_WORK = 3,  /* frames under way in a layer */
    WAN_INPUTS = 2 /* convolutions over time in a layer */
};

/* A buffer that all histories of one size share: the newest frame is written there, the convolution
 * runs, then the buffer joins the history and the oldest one takes its place. */
typedef struct WanSpare {
    int64_t rows, width, channels;
    float *buffer;
} WanSpare;

typedef struct WanHistory {
    float *past[WAN_PAST]; /* oldest first */
    int count;             /* of them that are real; the others are zeros */
    WanSpare *spare;       /* view */
} WanHistory;

/* A layer at work. */
typedef struct WanNode {
    const WanLayer *layer;
    const Tensor *norms;
    const ConvWeights *weights[WAN_CONVS];
    const ConvKernel *kernels[WAN_CONVS];
    WanHistory history[WAN_INPUTS];
    WanFrame held;        /* FORK: what JOIN adds, or what it adds is made of */
    int64_t seen;         /* frames of this clip */
    int a;                /* FORK: the frame in time that JOIN meets next */
    struct WanNode *fork; /* JOIN's */
} WanNode;

struct WanCoder {
    const Device *dev;
    const WanVae *vae;
    const WanNet *net;
    bool decodes;
    WanRows rows;
    int64_t latent_width;
    ConvKernels *kernels; /* owned, as is the arena */
    Arena arena;
    WanNode nodes[WAN_LAYERS];
    WanSpare spares[2 * WAN_LAYERS];
    int spare_count;
    float *work[WAN_WORK];
    Tensor ss;           /* (pixels): sums of squares of a norm */
    Tensor keys, values; /* (all ranks' latent pixels, channels) of the attention */
    Tensor lse;
    Tensor means;    /* (h, w, z_dim): a latent frame of all ranks, encoding */
    int64_t *counts; /* (group size) room for a gather */
    int64_t next;    /* frame that is to come in */
    /* where frames that come out go */
    Tensor out;
    int64_t done;
};

/* A frame through the layers from `first` on; what comes out of the last goes to wan_emit, none or
 * several times. x lies in one of the work buffers. Collective. */
Status wan_run(WanCoder *coder, int first, WanFrame x);
/* Takes a frame that left the last layer. */
Status wan_emit(WanCoder *coder, WanFrame x);
/* The ranks' rows of `t`, (rows, any) each in its place, to all; row_values: of one latent row. */
Status wan_gather(WanCoder *coder, Tensor t, int64_t row_values);

#endif
