/* ingest_options: the command line of `zoetrope ingest`. */
#ifndef ZT_DATA_INGEST_OPTIONS_H
#define ZT_DATA_INGEST_OPTIONS_H

#include "core/base/options.h"
#include "core/base/status.h"
#include "core/codec/condition.h"

#include <stdbool.h>

typedef struct IngestOptions {
    const char *source, *out;
    OptionInts frames; /* each 4k + 1 */
    OptionSizes sizes; /* sides multiples of codec_side, which ingest checks */
    double fps;
    int64_t stride;    /* frames between starts of clips; 0: a clip's length */
    int64_t channels;  /* 0: the default */
    const char *codec; /* dataset or codec folder to take the codec from; NULL: fit one */
    const char *vae;   /* folder of a Wan VAE that makes the latents; NULL: a linear codec does */
    double seconds;    /* of one video, from its start; 0: all */
    int64_t max_clips; /* of one video; 0: all */
    int64_t shard_mib; /* latents in a shard */
    int64_t workers;   /* 0: one a core */
    bool strict;
    const char *text_encoder; /* model directory whose umT5 encodes the captions; NULL: none does */
    const char *text_dtype;   /* "f32", "bf16": its weights in memory */
    bool text_stream;         /* one of its layers in memory */
    ConditionKind condition;  /* whose latents, and image tokens, are stored beside each clip's */
    const char *condition_name;
    const char *image_encoder; /* model directory whose CLIP makes the tokens; NULL: none does */
} IngestOptions;

/* ERR_USAGE names option and value. On --help sets *helped. */
Status ingest_options_parse(int argc, char **argv, IngestOptions *out, bool *helped);

#endif
