/* dataset_record: dataset.json, which says of which shards a dataset consists. */
#ifndef ZT_DATA_DATASET_RECORD_H
#define ZT_DATA_DATASET_RECORD_H

#include "core/base/digest.h"
#include "data/dataset.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ShardEntry {
    int64_t clips, captions, size_bytes;
    Digest sha256; /* of the file */
    Digest index;  /* shard_digest of its tables */
} ShardEntry;

typedef struct DatasetRecord {
    ShardEntry *shards; /* owned; entry i is the file shard-0000i.h5 */
    int64_t shard_count;
    int64_t clips, captions; /* sums */
} DatasetRecord;

/* Appends. ERR_MEMORY. */
Status dataset_record_add(DatasetRecord *record, const ShardEntry *entry);
/* SHA-256 of the shards' index digests. */
Status dataset_record_digest(const DatasetRecord *record, Digest *out);
/* Writes DIR/dataset.json in one instant; buckets are there for people to read. */
Status dataset_record_save(const DatasetRecord *record, const DatasetInfo *info,
                           const DatasetBucket *buckets, int64_t bucket_count, const char *dir);
/* ERR_FORMAT when the folder is not a finished dataset or of another version, or when the file is
 * not as it was written: its last member is the SHA-256 of all before it. */
Status dataset_record_read(const char *dir, DatasetRecord *out);
/* The same from the text; `path` is what errors call it. */
Status dataset_record_parse(const char *text, size_t length, const char *path, DatasetRecord *out);
void dataset_record_destroy(DatasetRecord *record);

#ifdef __cplusplus
}
#endif
#endif
