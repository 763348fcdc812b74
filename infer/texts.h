/*
 * texts: prompts as rows of embeddings, made by a model directory's frozen text encoder before the
 * transformer is loaded, so that the two are never in memory together.
 *
 * Only rows of text are kept, some 30 of a prompt; what the transformer reads, 512 rows filled with
 * zeros, is cut from them when it is needed.
 */
#ifndef ZT_INFER_TEXTS_H
#define ZT_INFER_TEXTS_H

#include "comm/comm.h"
#include "core/base/tensor.h"
#include "core/device.h"
#include "core/text/text_encoder.h"

typedef struct Texts {
    int64_t count, width;
    int64_t *first; /* owned; (count + 1): rows of each text */
    float *rows;    /* owned; (first[count], width) */
} Texts;

/* Texts 0 .. count - 1. The encoder is shared by as many of the ranks as can share its heads.
 * dtype: of its weights in memory; width: of the rows that the transformer reads. ERR_FORMAT where
 * the encoder makes others. Collective; the same answer on every rank. */
Status texts_encode(Comm *comm, const Device *dev, const char *model_dir, DType dtype,
                    int64_t width, const char *const *texts, int64_t count, Texts *out);
void texts_destroy(Texts *texts);
/* How the encoder is opened, and whether so many ranks share it or each has a whole one. */
TextEncoderOptions texts_encoder_options(DType dtype);
bool texts_are_shared(const TextConfig *config, int ranks);
/* Bytes that are kept of so many rows of so many values. */
size_t texts_bytes(int64_t rows, int64_t width);
/* out (rows, length, width) F32 = the texts numbered index[row], zeros behind each. */
void texts_fill(const Texts *texts, const int64_t *index, Tensor out);

#endif
