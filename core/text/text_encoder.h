/*
 * text_encoder: prompts to embeddings by a public umT5 encoder (spec 9), opened, used and freed
 * before the transformer is loaded.
 *
 *   prompt -> cleaned (core/text/prompt_clean.h) -> ids (core/text/sentencepiece.h)
 *          -> rows of the encoder, of the prompt's true length, end mark included
 *          -> zeros up to max_length rows, which is what the transformer attends to
 *
 * Rows of padding are never computed: their keys would be masked and their outputs replaced by
 * zeros. The rows of all prompts of a call lie one after the other, so that each weight is read
 * once for all of them; only attention knows where one ends. The ranks of a group share every layer
 * (core/text/text_weights.h) and all hold the same rows in the end.
 */
#ifndef ZT_CORE_TEXT_TEXT_ENCODER_H
#define ZT_CORE_TEXT_TEXT_ENCODER_H

#include "core/base/digest.h"
#include "core/base/tensor.h"
#include "core/device.h"
#include "core/group.h"
#include "core/model/model_config.h"

#include <stdbool.h>

typedef struct TextEncoderOptions {
    DType dtype;        /* F32 or BF16: the linear layers' weights in memory */
    int64_t max_length; /* rows a prompt is cut or filled to; 0: as the model's folder says, 512 */
    bool stream;        /* one layer in memory, read from the file for every call */
    bool progress;      /* a line that shows how far text_encoder_run is */
} TextEncoderOptions;

typedef struct TextEncoder TextEncoder;

/* model_dir: a diffusers pipeline with tokenizer/spiece.model and text_encoder/. Not collective:
 * each rank of `group` reads its own share, and the caller agrees on the result. ERR_FORMAT,
 * ERR_IO, ERR_CONFIG (a group that the encoder cannot be shared by), ERR_MEMORY. */
Status text_encoder_open(const Device *dev, Group *group, const char *model_dir,
                         const TextEncoderOptions *options, TextEncoder **out);
/* A plan's, on a counting device and of a configuration alone: as text_encoder_prepare would leave
 * it with so many prompts of the most rows. For text_encoder_bytes only. */
Status text_encoder_plan(const Device *dev, Group *group, const TextConfig *config,
                         const TextEncoderOptions *options, int64_t prompts, TextEncoder **out);
void text_encoder_close(TextEncoder *encoder);
/* Bytes of weights and activations. */
size_t text_encoder_bytes(const TextEncoder *encoder);

/* What the encoder and its tokenizer are known by, whatever files and dtype they are stored in:
 * datasets keep it beside embeddings. Not collective; reads some of every tensor. */
Status text_encoder_digest(const TextEncoder *encoder, Digest *out);
/* num_layers and d_model of the encoder; max_length as opened. */
const TextConfig *text_encoder_config(const TextEncoder *encoder);

/*
 * The two halves of encoding. Not collective, and may fail alone: cleans and cuts the prompts (the
 * same on every rank), reads their embeddings. `what` names prompt i in errors as "WHAT i", or as
 * WHAT when there is one. ERR_USAGE, ERR_IO, ERR_FORMAT, ERR_MEMORY.
 */
Status text_encoder_prepare(TextEncoder *encoder, const char *what, const char *const *prompts,
                            int64_t count);
/* Collective over the group. *rows (sum of lengths, d_model) F32, a view until the next prepare.
 * After a failure on one rank alone (streaming: a file that cannot be read any more) the others
 * wait: the caller ends the job. */
Status text_encoder_run(TextEncoder *encoder, Tensor *rows);
/* Rows that one prompt has. Not collective; errors as text_encoder_prepare's. */
Status text_encoder_count(const TextEncoder *encoder, const char *what, const char *prompt,
                          int64_t *rows);
/* Where the rows of each prompt begin, (count + 1); a view until the next prepare. */
const int64_t *text_encoder_offsets(const TextEncoder *encoder);

/* out (count, max_length, d_model) F32 = `rows` after text_encoder_run, zeros behind each. */
void text_encoder_fill(const TextEncoder *encoder, Tensor rows, Tensor out);

#endif
