/*
 * bucket: which elements of the flat gradient buckets each rank of a group answers for (ZeRO-1).
 *
 * A bucket is a range of the flat buffers of weights and gradients, and every rank of the group
 * owns a range of it, cut without regard to tensors: after the backward it holds the sum of its own
 * gradients only, updates its own weights, and gathers the others'. What only the owner needs
 * (moments, averages) stands in a compact buffer, the rank's ranges one after the other. Pure
 * arithmetic: any rank knows any other's ranges without a message.
 */
#ifndef ZT_CORE_PARALLEL_BUCKET_H
#define ZT_CORE_PARALLEL_BUCKET_H

#include "core/base/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Range {
    int64_t first, count;
} Range;

/* What two ranges have in common; count 0 where they do not meet. */
Range range_overlap(Range a, Range b);

/* The elements of a bucket of `count` that `rank` of `size` owns: as even as cuts at multiples of
 * 16 allow, so ranges may be empty. Over the ranks they cover the bucket once, in order. */
Range bucket_shard(int64_t count, int rank, int size);

/* One rank's shards of all buckets. */
typedef struct BucketShards {
    int rank, size, buckets;
    const int64_t *first; /* view; (buckets + 1): offsets of the buckets in the flat buffers */
    int64_t *place;       /* owned; (buckets + 1): offsets of its shards in the compact buffers */
    int64_t *counts;      /* owned; (buckets, size): elements of each rank's shard */
} BucketShards;

/* ERR_MEMORY. */
Status bucket_shards_create(const int64_t *first, int buckets, int rank, int size,
                            BucketShards *out);
void bucket_shards_destroy(BucketShards *shards);

/* Elements of a compact buffer. */
int64_t bucket_shards_elements(const BucketShards *shards);
/* The rank's shard of a bucket, as a range of the flat buffers. */
Range bucket_shards_range(const BucketShards *shards, int bucket);
/* (size): elements of each rank's shard of a bucket, for group_reduce_scatter_v and the like. */
const int64_t *bucket_shards_counts(const BucketShards *shards, int bucket);
/* Where in a compact buffer an element of the flat buffers stands, which the rank owns. */
int64_t bucket_shards_place(const BucketShards *shards, int bucket, int64_t element);

#ifdef __cplusplus
}
#endif
#endif
