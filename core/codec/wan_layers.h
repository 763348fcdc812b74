/*
 * wan_layers: a Wan VAE as two lists of layers, and the parameters that they have (spec 7, 8).
 *
 * The lists are the network: what runs it and what reads its weights both walk along them. A frame
 * goes through a list by itself, as all is causal in time; two kinds of layer know that time is
 * halved or doubled. 2.2 differs by shortcuts around its levels (FORK, JOIN) and by sizes.
 */
#ifndef ZT_CORE_CODEC_WAN_LAYERS_H
#define ZT_CORE_CODEC_WAN_LAYERS_H

#include "core/base/tensor.h"
#include "core/codec/wan_config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum WanKind {
    WAN_POINT,     /* 1x1x1 */
    WAN_CAUSAL,    /* 3x3x3 over this frame and the two before */
    WAN_RES,       /* norm, SiLU, causal; again; plus the input or its 1x1x1 convolution */
    WAN_ATTENTION, /* within the frame, one head, plus the input */
    WAN_DOWN,      /* 3x3 with stride 2 */
    WAN_DOWN_TIME, /* (3,1,1) over frames 2k - 2, 2k - 1, 2k; frame 0 passes by */
    WAN_UP_TIME,   /* causal (3,1,1) to two frames; frame 0 passes by and is no history */
    WAN_UP,        /* each pixel twice in both directions, then 3x3 */
    WAN_HEAD,      /* norm, SiLU, causal */
    WAN_FORK,      /* keeps what JOIN adds: downwards AvgDown, upwards DupUp */
    WAN_JOIN,
} WanKind;

typedef struct WanLayer {
    WanKind kind;
    int64_t in, out;          /* channels */
    int level;                /* rows of the input are 2^level times the latent's */
    bool up, resampled, time; /* FORK, JOIN: the level's way, and what it changes */
    char prefix[48];          /* of its tensors' names: "encoder.mid_block.attentions.0." */
} WanLayer;

enum { WAN_LAYERS = 224 };

typedef struct WanLayers {
    WanLayer items[WAN_LAYERS];
    int count;
} WanLayers;

void wan_encoder_layers(const WanConfig *config, WanLayers *out);
void wan_decoder_layers(const WanConfig *config, WanLayers *out);

/* ---- parameters ----------------------------------------------------------------------------- */

enum { WAN_CONVS = 4, WAN_NORMS = 2 }; /* most of a layer */

/* What a layer has: a row a convolution or a norm. */
typedef struct WanPart {
    WanKind kind;
    const char *name; /* after the layer's prefix, before ".weight" and ".bias" */
    bool norm;
    int slot;  /* of the layer's convolutions or norms; the first of `split` */
    int split; /* convolutions that share the tensor, its rows in equal parts */
    bool wide; /* takes the layer's output channels, not its input's */
    int taps;  /* frames */
    int side, stride;
    bool doubled;
    int dims; /* of the stored tensor */
} WanPart;

/* Part `index` of a layer; NULL beyond the last. */
const WanPart *wan_part(const WanLayer *layer, int index);
/* Channels in and out of each of the part's convolutions. */
int64_t wan_part_in(const WanPart *part, const WanLayer *layer);
int64_t wan_part_out(const WanPart *part, const WanLayer *layer);

typedef struct WanParam {
    char name[96]; /* "decoder.conv_in.weight" */
    Shape shape;
} WanParam;

enum { WAN_PART_PARAMS = 2 };

/* The part's tensors in the file: one of a norm, weight and bias of a convolution. */
int wan_part_params(const WanPart *part, const WanLayer *layer, WanParam out[WAN_PART_PARAMS]);

#ifdef __cplusplus
}
#endif
#endif
