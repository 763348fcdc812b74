/*
 * wan_names: every tensor of a Wan model by its two names, diffusers' (and transformers') and the
 * original repository's (spec 3, 7, 8, 9).
 *
 * The mapping is one to one, a rename: no tensor is cut, joined or turned. The lists are made from
 * patterns for a model of any size; which part of a model a set of tensors is, in which of the two
 * ways it is named, and all of its sizes are found from the tensors themselves.
 */
#ifndef ZT_CORE_FORMATS_WAN_NAMES_H
#define ZT_CORE_FORMATS_WAN_NAMES_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum WanPart {
    WAN_PART_DIT,
    WAN_PART_VAE_21,
    WAN_PART_VAE_22,
    WAN_PART_UMT5,
    WAN_PARTS
} WanPart;

typedef enum WanStyle { WAN_DIFFUSERS, WAN_ORIGINAL, WAN_STYLES } WanStyle;

/* Sizes that decide shapes; of the transformer, then of umT5. */
typedef enum WanDim {
    WAN_NONE,
    WAN_WIDTH,
    WAN_FFN,
    WAN_IN,
    WAN_OUT, /* out_channels times the patch */
    WAN_PATCH_T,
    WAN_PATCH_H,
    WAN_PATCH_W,
    WAN_FREQ,
    WAN_TEXT,
    WAN_IMAGE,
    WAN_ADDED,     /* width of the image tokens where attention reads them */
    WAN_POSITIONS, /* image tokens with a position of their own: two images (FLF2V) */
    WAN_MODEL,
    WAN_INNER,
    WAN_FF,
    WAN_VOCAB,
    WAN_BUCKETS,
    WAN_HEADS,
    WAN_DIMS
} WanDim;

enum { WAN_NAME_BYTES = 112, WAN_SHAPE_MAX = 5, WAN_LAYERS_MAX = 1024 };

typedef struct WanSizes {
    int64_t layers;          /* blocks of the transformer or of umT5 */
    int64_t levels, resnets; /* of a VAE: resolutions, and resnets of each in its decoder */
    bool image, positions;   /* the transformer reads image tokens; they have positions */
    int64_t dims[WAN_DIMS];  /* 0: unknown, as all of a VAE's are */
} WanSizes;

typedef struct WanTensor {
    char name[WAN_STYLES][WAN_NAME_BYTES];
    const int *dims; /* static; WAN_SHAPE_MAX codes, see wan_names.c; NULL: of any shape (VAE) */
    bool bias;       /* has the first of those dimensions only */
    bool optional;   /* not every VAE has it */
} WanTensor;

typedef struct WanNames {
    WanPart part;
    WanSizes sizes;
    WanTensor *items;             /* owned */
    int64_t *by_name[WAN_STYLES]; /* owned; places in `items`, sorted */
    int64_t count;
} WanNames;

/* What a file holds: for wan_names_find_out. */
typedef struct WanFound {
    const char *name; /* view */
    int ndim;
    const int64_t *shape; /* view */
} WanFound;

/* "Wan transformer", "Wan 2.1 VAE", "Wan 2.2 VAE", "umT5 encoder"; "diffusers", "original". */
const char *wan_part_name(WanPart part);
const char *wan_style_name(WanStyle style);

/* The list for layers, levels, resnets, image and positions of `sizes`. ERR_MEMORY. */
Status wan_names_list(WanPart part, const WanSizes *sizes, WanNames *out);
void wan_names_destroy(WanNames *names);
/* NULL when there is none of that name. */
const WanTensor *wan_names_find(const WanNames *names, WanStyle style, const char *name);
/* The tensor's shape; its number of dimensions, 0 when it may have any. */
int wan_tensor_shape(const WanNames *names, const WanTensor *tensor, int64_t shape[WAN_SHAPE_MAX]);

/*
 * The list that the tensors (sorted by name, bytewise) fill, and their style, after checking that
 * none is missing, none is unknown and all shapes agree. Tensors that public files have too many of
 * (wan_name_is_surplus) must be left out before. `what` names the source in errors: ERR_FORMAT.
 */
Status wan_names_find_out(const WanFound *tensors, int64_t count, const char *what, WanStyle *style,
                          WanNames *out);
/* Whether they are a part of a Wan model at all, whole or not. */
bool wan_names_are_known(const WanFound *tensors, int64_t count);
/* A legacy tensor that no model uses, "*.norm_added_q.*" (spec 1). */
bool wan_name_is_surplus(const char *name);

#ifdef __cplusplus
}
#endif
#endif
