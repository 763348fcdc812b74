/* shard_condition: the conditions of a shard's clips (data/dataset.h: /condition). */
#ifndef ZT_DATA_SHARD_CONDITION_H
#define ZT_DATA_SHARD_CONDITION_H

#include "data/shard.h"

/* ---- writing: clip after clip --------------------------------------------------------------- */

/* What a clip's latents and image tokens are, in SHA-256; image NULL: none. */
Status shard_condition_add(ShardCondition *condition, const Digest *latents, const Digest *image);
Status shard_condition_write(const ShardCondition *condition, const DatasetInfo *info,
                             H5File *file);
Status shard_create_condition(H5File *file, const DatasetBucket *bucket, H5Array **out);
Status shard_create_image(H5File *file, const DatasetInfo *info, H5Array **out);

/* ---- reading -------------------------------------------------------------------------------- */

/* Fills a zeroed table for `clips` clips; the arrays must have the index's shapes. */
Status shard_condition_read(H5File *file, const DatasetInfo *info, Shard *shard);
Status shard_open_condition(H5File *file, const DatasetBucket *bucket, H5Array **out);
Status shard_open_image(H5File *file, const DatasetInfo *info, int64_t clips, H5Array **out);

/* ---- both ----------------------------------------------------------------------------------- */

void shard_condition_digest(const ShardCondition *condition, DigestStream *stream);
void shard_condition_clear(ShardCondition *condition);
void shard_condition_destroy(ShardCondition *condition);

#endif
