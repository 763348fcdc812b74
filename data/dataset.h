/*
 * dataset: a folder of HDF5 shards and a dataset.json, open for reading.
 *
 *   DIR/dataset.json         what there is: shards, buckets, counts, digests; written last
 *   DIR/shard-00000.h5 ...
 *     /                      attributes: format, version, codec, codec_digest, fps, latent geometry
 *     /codec/{basis,mean,scale}   the linear codec, F32: it travels with its latents
 *     /buckets/shape         (buckets, 5) I64: latent T, H, W, tokens, patch
 *     /buckets/T_H_W/latents (clips, tokens, patch) bf16 bits in U16
 *     /index/...             one row a clip; strings are bytes and offsets
 *     /captions/{bytes,offsets}   UTF-8
 *     /text/rows             (rows, width) bf16 bits in U16: captions as a frozen encoder gives
 * them, each of its true length; clips of one video share theirs
 *     /text/ranges           (captions, 2) I64: first row, rows
 *     /text/sha256           (captions, 32) of these rows' bytes
 *     /text/null             (rows, width) of the empty caption
 *     /buckets/T_H_W/condition   (clips, tokens, patch) bf16 bits in U16: latents of the clip's
 *                            first frame, or first and last, with grey for the others
 *     /condition/sha256      (clips, 32) of these
 *     /condition/image       (clips, rows, width) bf16 bits in U16: the same frames' image tokens
 *     /condition/image_sha256    (clips, 32) of these
 *
 * Opening reads and checks everything but the latents: the index of every shard is merged in
 * memory, and its digest must be the one in dataset.json. Latents are checked clip by clip as they
 * are read, against the SHA-256 of their bytes, so that a flipped bit is named and not learnt from.
 * A rank that reads only its tokens of a clip cannot know that: it has the checksum of 32 bits
 * (fletcher32) that every chunk of the latents carries. It finds a flipped byte of any chunk it
 * reads; that a chunk is whole but another clip's is for whole reads to find, and for
 * dataset_verify.
 *
 * Version 1 has no /text; a dataset with it is of version 2, and one with conditions of version 3,
 * with or without /text, so that who does not know of them says so.
 */
#ifndef ZT_DATA_DATASET_H
#define ZT_DATA_DATASET_H

#include "core/base/digest.h"
#include "core/base/status.h"
#include "core/base/tensor.h"
#include "core/codec/condition.h"
#include "core/parallel/tokens.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    DATASET_VERSION = 1,
    DATASET_VERSION_TEXT = 2,      /* with embeddings of captions */
    DATASET_VERSION_CONDITION = 3, /* with conditions of image-to-video models */
    DATASET_CLIP_NAME = 5120,
    DATASET_NULL_CAPTION = -1, /* in place of a wording */
};

/* What holds for every clip. The writer is told it, the reader tells it. */
typedef struct DatasetInfo {
    const char *codec;        /* "linear" */
    const char *codec_digest; /* 64 hex digits; linear: SHA-256 of basis, mean, scale */
    Tensor basis;             /* (channels, 768) F32; none for a codec that lives elsewhere */
    Tensor mean;              /* (768) F32 */
    Tensor scale;             /* (channels) F32 */
    int64_t channels;         /* of a latent */
    int64_t patch[3];         /* latent frames, rows, columns of a token: 1, 2, 2 */
    int64_t stride[3];        /* pixel frames, rows, columns of a latent: 4, 8, 8 */
    double fps;               /* of every clip */
    /* embeddings of captions; text_width 0: there are none */
    const char *text_encoder; /* "umt5" */
    const char *text_digest;  /* 64 hex digits: which one (core/text/text_encoder.h) */
    int64_t text_rows;        /* most rows of a caption */
    int64_t text_width;       /* values of a row */
    Tensor text_null;         /* (rows, text_width) BF16: of the empty caption */
    /* conditions of image-to-video models; image_width 0: without image tokens */
    ConditionKind condition;  /* whose latents each clip has, if any */
    const char *image_digest; /* 64 hex digits: which image encoder (core/image/clip_vision.h) */
    int64_t image_rows;       /* of a clip: of its first frame, and its last where it is known */
    int64_t image_width;      /* values of a row */
} DatasetInfo;

/* One latent size. tokens = T/patch[0] * H/patch[1] * W/patch[2], patch = channels * patch[0..2] */
typedef struct DatasetBucket {
    int64_t t, h, w; /* latent frames, rows, columns */
    int64_t tokens, patch;
    int64_t clips;
} DatasetBucket;

/* All of a dataset's, or those that a plan assumes. A view. */
typedef struct BucketList {
    const DatasetBucket *items;
    int64_t count;
} BucketList;

typedef struct DatasetClip {
    int64_t bucket;        /* in dataset_bucket */
    int64_t shard, row;    /* where its latents are */
    int64_t frames;        /* pixel frames */
    double fps, start_s;   /* of the clip; where in the source it begins */
    int64_t crop[4];       /* x, y, width, height in pixels of the source, before resizing */
    int64_t caption_count; /* at least 1 */
    const char *source;    /* view: the video, as the list gave it */
    Digest sha256;         /* of the latents' bf16 bytes */
} DatasetClip;

typedef struct Dataset Dataset;

/* Not collective. ERR_IO: cannot be read. ERR_FORMAT: one line that names file and object. */
Status dataset_open(const char *dir, Dataset **out);
void dataset_close(Dataset *ds);

const char *dataset_dir(const Dataset *ds);
/* Views that live as long as the dataset. */
const DatasetInfo *dataset_info(const Dataset *ds);
/* SHA-256 over the index, captions and codec of every shard, 64 hex digits: two datasets with the
 * same digest hold the same clips in the same order. */
const char *dataset_digest(const Dataset *ds);

int64_t dataset_shards(const Dataset *ds);
int64_t dataset_buckets(const Dataset *ds);
const DatasetBucket *dataset_bucket(const Dataset *ds, int64_t bucket);
BucketList dataset_bucket_list(const Dataset *ds);
int64_t dataset_clips(const Dataset *ds);
int64_t dataset_captions(const Dataset *ds);
DatasetClip dataset_clip(const Dataset *ds, int64_t clip);
/* Wording `which` of [0, caption_count): UTF-8 without NUL. View. */
const char *dataset_caption(const Dataset *ds, int64_t clip, int64_t which);

/* "DIR/shard-00000.h5: clip 3, from a.mp4 at 1.50 s" into out: the clip, as errors name it. */
void dataset_clip_name(const Dataset *ds, int64_t clip, char out[DATASET_CLIP_NAME]);

/* All tokens of a clip. */
TokenRange dataset_clip_tokens(const Dataset *ds, int64_t clip);
/* dst (tokens.count, patch) F32 = these tokens of the clip's latents, in data order
 * (core/codec/patch.h); count 0 reads nothing. ERR_FORMAT names shard, clip and source when the
 * bytes are not those that were written: by SHA-256 for the whole clip, by the chunks' checksums
 * for a part of it. Any thread. */
Status dataset_read_latents(Dataset *ds, int64_t clip, TokenRange tokens, Tensor dst);

/* Rows of a caption's embedding; which: a wording, or DATASET_NULL_CAPTION. 0: there are none. */
int64_t dataset_text_rows(const Dataset *ds, int64_t clip, int64_t which);
/* dst (rows, text_width) F32 = the caption's embedding, zeros behind its own rows, which must fit.
 * ERR_FORMAT names shard, clip and source when the bytes are not those that were written (SHA-256).
 * Any thread. */
Status dataset_read_text(Dataset *ds, int64_t clip, int64_t which, Tensor dst);

/* As dataset_read_latents, of the clip's condition. ERR_USAGE where there is none. */
Status dataset_read_condition(Dataset *ds, int64_t clip, TokenRange tokens, Tensor dst);
/* dst (image_rows, image_width) F32 = the clip's image tokens. ERR_USAGE where there are none,
 * ERR_FORMAT when they are not those that were written (SHA-256). Any thread. */
Status dataset_read_image(Dataset *ds, int64_t clip, Tensor dst);

/* Reads everything there is: every shard's SHA-256, every clip's; no shard may be there that
 * dataset.json does not list. First fault is the error. */
Status dataset_verify(Dataset *ds);
/* A rank's share of it: every size-th clip and shard from `rank` on. */
Status dataset_verify_share(Dataset *ds, int rank, int size);

#ifdef __cplusplus
}
#endif
#endif
