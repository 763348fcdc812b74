/* shard_columns: the index of a shard as columns; one table serves writing and reading. */
#ifndef ZT_DATA_SHARD_COLUMNS_H
#define ZT_DATA_SHARD_COLUMNS_H

#include "data/h5.h"
#include "data/shard.h"

#include <stddef.h>

/* A member of ShardRow and the array that holds it: (clips), or (clips, width). */
typedef struct ShardColumn {
    const char *path;
    H5Type type;
    int64_t width;
    size_t offset; /* in ShardRow */
} ShardColumn;

// clang-format off
static const ShardColumn shard_columns[] = {
    { "/index/bucket",        H5_TYPE_I64, 1,            offsetof(ShardRow, bucket) },
    { "/index/row",           H5_TYPE_I64, 1,            offsetof(ShardRow, row) },
    { "/index/frames",        H5_TYPE_I64, 1,            offsetof(ShardRow, frames) },
    { "/index/fps",           H5_TYPE_F64, 1,            offsetof(ShardRow, fps) },
    { "/index/start",         H5_TYPE_F64, 1,            offsetof(ShardRow, start_s) },
    { "/index/crop",          H5_TYPE_I64, 4,            offsetof(ShardRow, crop) },
    { "/index/caption_first", H5_TYPE_I64, 1,            offsetof(ShardRow, caption_first) },
    { "/index/caption_count", H5_TYPE_I64, 1,            offsetof(ShardRow, caption_count) },
    { "/index/sha256",        H5_TYPE_U8,  DIGEST_BYTES, offsetof(ShardRow, sha256) },
};
// clang-format on

enum { SHARD_COLUMNS = sizeof(shard_columns) / sizeof(shard_columns[0]) };

/* Bytes of one row of a column. */
static inline size_t shard_column_bytes(const ShardColumn *column)
{
    return h5_type_bytes(column->type) * (size_t)column->width;
}

static inline int shard_column_ndim(const ShardColumn *column)
{
    return column->width == 1 ? 1 : 2;
}

/* Where the strings lie: the bytes without any 0, and (count + 1) offsets into them. */
#define SHARD_SOURCE_BYTES "/index/source_bytes"
#define SHARD_SOURCE_OFFSETS "/index/source_offsets"
#define SHARD_CAPTION_BYTES "/captions/bytes"
#define SHARD_CAPTION_OFFSETS "/captions/offsets"
#define SHARD_BUCKET_SHAPE "/buckets/shape"
enum { SHARD_BUCKET_COLUMNS = 5 }; /* T, H, W, tokens, patch */

#endif
