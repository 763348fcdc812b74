/*
 * dataset_writer: writes the folder that data/dataset.h reads.
 *
 * One writer a folder. A shard grows under a temporary name, is closed, fsynced and renamed when it
 * is full, and is never touched again; dataset.json comes last, so that a folder without one is not
 * a dataset and the next writer clears what an interrupted one has left.
 */
#ifndef ZT_DATA_DATASET_WRITER_H
#define ZT_DATA_DATASET_WRITER_H

#include "data/dataset.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ClipRecord {
    int64_t t, h, w;             /* latent frames, rows, columns: the bucket */
    Tensor latents;              /* (tokens, patch) F32, data order; stored as bf16 */
    int64_t frames;              /* pixel frames */
    double fps, start_s;         /* of the clip; where in the source it begins */
    int64_t crop[4];             /* x, y, width, height in pixels of the source */
    const char *source;          /* the video, as the list gave it */
    const char *const *captions; /* UTF-8, one or more */
    int64_t caption_count;
    const Tensor *text; /* (caption_count): (rows, text_width) BF16, each caption's embedding; NULL
                           where DatasetInfo has none */
    Tensor condition;   /* (tokens, patch) F32: the condition's latents, stored as bf16 */
    Tensor image;       /* (image_rows, image_width) F32: its image tokens, likewise; no data in
                           either where DatasetInfo has none */
} ClipRecord;

typedef struct DatasetWriter DatasetWriter;

/* Makes `dir` if need be. ERR_USAGE when it holds a dataset already or anything that a writer has
 * not made. `info` and what it points to are copied. */
Status dataset_writer_create(const char *dir, const DatasetInfo *info, DatasetWriter **out);
/* Latents beyond this many bytes begin another shard; 1 GiB until told. */
void dataset_writer_set_shard_bytes(DatasetWriter *writer, int64_t bytes);
/* ERR_FORMAT when the record contradicts itself or holds a value that is not finite. */
Status dataset_writer_add(DatasetWriter *writer, const ClipRecord *record);
/* Closes the last shard and commits dataset.json. ERR_FORMAT when there is no clip. */
Status dataset_writer_finish(DatasetWriter *writer);
/* Without a finish before it, nothing under a final name says "dataset". */
void dataset_writer_destroy(DatasetWriter *writer);

#ifdef __cplusplus
}
#endif
#endif
