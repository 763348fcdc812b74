#include "core/parallel/bucket.h"

#include <assert.h>
#include <stdlib.h>

/* a cache line of F32, as tensors in the flat buffers are aligned */
enum { CUT = 16 };

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

Range range_overlap(Range a, Range b)
{
    const int64_t first = a.first > b.first ? a.first : b.first;
    const int64_t end = smaller(a.first + a.count, b.first + b.count);
    return (Range){ first, end > first ? end - first : 0 };
}

Range bucket_shard(int64_t count, int rank, int size)
{
    const int64_t lines = (count + CUT - 1) / CUT;
    const int64_t first = smaller(lines * rank / size * CUT, count);
    const int64_t end = smaller(lines * (rank + 1) / size * CUT, count);
    return (Range){ first, end - first };
}

Status bucket_shards_create(const int64_t *first, int buckets, int rank, int size,
                            BucketShards *out)
{
    BucketShards s = { .rank = rank, .size = size, .buckets = buckets, .first = first };
    s.place = calloc((size_t)buckets + 1, sizeof *s.place);
    s.counts = calloc((size_t)buckets * (size_t)size + 1, sizeof *s.counts);
    if (!s.place || !s.counts) {
        bucket_shards_destroy(&s);
        return status_fail(ERR_MEMORY, "no memory for the shards of %d buckets over %d ranks",
                           buckets, size);
    }
    for (int b = 0; b < buckets; b++) {
        int64_t *counts = s.counts + (int64_t)b * size;
        for (int i = 0; i < size; i++)
            counts[i] = bucket_shard(first[b + 1] - first[b], i, size).count;
        s.place[b + 1] = s.place[b] + counts[rank];
    }
    *out = s;
    return OK;
}

void bucket_shards_destroy(BucketShards *shards)
{
    if (!shards) return;
    free(shards->place);
    free(shards->counts);
    *shards = (BucketShards){ 0 };
}

int64_t bucket_shards_elements(const BucketShards *shards)
{
    return shards->place[shards->buckets];
}

Range bucket_shards_range(const BucketShards *shards, int bucket)
{
    const int64_t first = shards->first[bucket];
    const Range own = bucket_shard(shards->first[bucket + 1] - first, shards->rank, shards->size);
    return (Range){ first + own.first, own.count };
}

const int64_t *bucket_shards_counts(const BucketShards *shards, int bucket)
{
    return shards->counts + (int64_t)bucket * shards->size;
}

int64_t bucket_shards_place(const BucketShards *shards, int bucket, int64_t element)
{
    const Range own = bucket_shards_range(shards, bucket);
    assert(element >= own.first && element <= own.first + own.count);
    return shards->place[bucket] + element - own.first;
}
