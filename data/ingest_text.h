/*
 * ingest_text: the pass over the captions, between the two over the videos: `--text-encoder`.
 *
 * A public text encoder (core/text/text_encoder.h) is opened, gives every caption of the videos
 * that are used its embedding, and is closed before clips are encoded. Embeddings may be many times
 * what memory holds: they wait as BF16 in a file without a name beside the dataset.
 */
#ifndef ZT_DATA_INGEST_TEXT_H
#define ZT_DATA_INGEST_TEXT_H

#include "core/base/digest.h"
#include "core/base/tensor.h"
#include "data/ingest_options.h"
#include "data/ingest_plan.h"

/* Zero but for fd -1: no embeddings. */
typedef struct IngestText {
    int fd;          /* owned */
    int64_t *first;  /* (videos + 1) owned: number of each video's first caption */
    int64_t *starts; /* (captions + 1) owned: rows before each */
    int64_t width, max_rows;
    char digest[DIGEST_HEX];
    uint16_t *null_rows; /* (null_count, width) owned: of the empty caption */
    int64_t null_count;
} IngestText;

/* near: a path beside which the file is put. Videos with a problem have no captions. ERR_FORMAT,
 * ERR_IO, ERR_MEMORY. */
Status ingest_text_encode(const IngestOptions *opt, const IngestVideo *videos, int64_t count,
                          const char *near, IngestText *out);
/* captions (caption_count of the video): (rows, width) BF16, views into *values, which the caller
 * frees. Any thread. */
Status ingest_text_read(const IngestText *text, int64_t video, uint16_t **values, Tensor *captions);
void ingest_text_destroy(IngestText *text);

#endif
