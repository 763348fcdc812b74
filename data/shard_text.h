/* shard_text: the embeddings of a shard's captions (data/dataset.h: /text). */
#ifndef ZT_DATA_SHARD_TEXT_H
#define ZT_DATA_SHARD_TEXT_H

#include "data/shard.h"

/* ---- writing: caption after caption, in the order of Shard.captions ------------------------- */

Status shard_text_create(H5File *file, int64_t width, H5Array **out);
/* rows (n, width) BF16 go behind those of the captions before. */
Status shard_text_append(ShardText *text, H5Array *array, Tensor rows);
/* The next caption has the rows of an earlier one. */
Status shard_text_repeat(ShardText *text, int64_t caption);
Status shard_text_write(const ShardText *text, H5File *file);

/* ---- reading -------------------------------------------------------------------------------- */

/* Fills a zeroed table for `captions` captions and checks it. */
Status shard_text_read(H5File *file, const DatasetInfo *info, int64_t captions, ShardText *text);
Status shard_text_open(H5File *file, const ShardText *text, int64_t width, H5Array **out);

/* ---- both ----------------------------------------------------------------------------------- */

void shard_text_digest(const ShardText *text, DigestStream *stream);
void shard_text_clear(ShardText *text);
void shard_text_destroy(ShardText *text);

#endif
