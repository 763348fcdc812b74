/*
 * text_weights: what a rank holds of a public umT5 encoder, read from text_encoder/ of a model
 * directory.
 *
 * Ranks share every layer by whole heads and rows of d_ff: q, k, v, wi_0 and wi_1 by output rows,
 * o and wo by input columns, the position bias by heads. The table of embeddings, 256,384 rows of
 * umT5-XXL, stays in the file: a prompt needs some hundred of its rows. All layers are in memory,
 * or one, read again for each use (stream). Files hold F32, BF16 or F16; memory holds what is asked
 * for, norms and biases always F32. The set must hold the model's tensors and no others but the
 * embedding's second name (spec 9). Not collective.
 */
#ifndef ZT_CORE_TEXT_TEXT_WEIGHTS_H
#define ZT_CORE_TEXT_TEXT_WEIGHTS_H

#include "core/base/file.h"
#include "core/device.h"
#include "core/formats/safetensors_set.h"
#include "core/model/model_config.h"
#include "core/model/weights.h"

#include <stdbool.h>

typedef struct TextWeightsOptions {
    int rank, size; /* which share of how many: divides heads and d_ff */
    DType dtype;    /* F32 or BF16: of the linear layers in memory */
    bool stream;    /* one layer in memory instead of all */
} TextWeightsOptions;

typedef struct TextWeights {
    const Device *dev;
    TextWeightsOptions options;
    TextConfig config;        /* whole */
    ParamList params;         /* owned: the canonical list of the encoder's tensors */
    SafetensorsSet set;       /* owned */
    Arena arena;              /* owned: layers and final norm */
    TextBlockWeights *layers; /* owned; one when streaming */
    Tensor final_norm;        /* (d_model) F32 */
} TextWeights;

/* The share's own sizes: num_heads and d_ff of one rank. ERR_CONFIG when `size` does not divide. */
Status text_weights_share(const TextConfig *config, int size, TextConfig *share);
/* Opens and checks everything; reads all layers unless they are streamed, with a progress line.
 * ERR_FORMAT names file and tensor: missing, too many, another shape, not finite. ERR_CONFIG,
 * ERR_MEMORY, ERR_IO. */
Status text_weights_open(const Device *dev, const char *model_dir, const TextConfig *config,
                         const TextWeightsOptions *options, TextWeights *out);
/* A plan's, on a counting device: what would be reserved, of no files. */
Status text_weights_plan(const Device *dev, const TextConfig *config,
                         const TextWeightsOptions *options, TextWeights *out);
/* *w: layer's tensors by TEXT_Q and so on, until the next call. Reads them when streaming. */
Status text_weights_layer(TextWeights *weights, int64_t layer, const Tensor **w);
/* x (count, d_model) F32 = the rows of the embedding; ids below vocab_size. Reads the file. */
Status text_weights_embed(const TextWeights *weights, const int32_t *ids, int64_t count, Tensor x);
/* Adds to the stream what the encoder is known by: its sizes, and the first 1,024 values of each
 * tensor, as F32: the same whichever dtype and files they are stored in, and quick to read. */
Status text_weights_digest(const TextWeights *weights, DigestStream *stream);
void text_weights_close(TextWeights *weights);

#endif
