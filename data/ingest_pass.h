/* ingest_pass: the two passes over the videos, and what they share (ingest.h). */
#ifndef ZT_DATA_INGEST_PASS_H
#define ZT_DATA_INGEST_PASS_H

#include "core/codec/codec.h"
#include "data/clip_list.h"
#include "data/dataset_writer.h"
#include "data/ingest_options.h"
#include "data/ingest_plan.h"
#include "data/ingest_text.h"

/* The tokens of a clip's frames that are known; width 0: none. */
typedef struct IngestImage {
    int64_t rows, width;
    char digest[DIGEST_HEX];
} IngestImage;

typedef struct Ingest {
    const IngestOptions *opt;
    ClipList list;       /* owned */
    IngestVideo *videos; /* owned; one a list entry */
    int workers;         /* videos worked on at a time */
    int decoder_threads; /* of each */
    Codec codec;         /* owned; fitted by the first pass, or taken from elsewhere before it */
    IngestText text;     /* owned; with --text-encoder */
    IngestImage image;   /* with --image-encoder */
    int64_t clips, skipped;
    /* squared error of the codec over every value of every clip (a VAE's: of one clip), in bytes:
     * exact, so that the order of adding does not matter */
    int64_t squared_error, values;
} Ingest;

/* First pass: decodes every video, plans its clips, notes what is wrong with it (with --strict that
 * is the answer), and fits the codec unless there is one. ERR_FORMAT when no clip is left. */
Status ingest_scan(Ingest *job);
/* Second pass: encodes the clips and hands them to the writer, in the order of the source. */
Status ingest_encode(Ingest *job, DatasetWriter *writer);

#endif
