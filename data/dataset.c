#include "data/dataset.h"

#include "core/base/file.h"
#include "data/dataset_parts.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- opening -------------------------------------------------------------------------------- */

/* A cheap look before HDF5 gets the file; links and the like are h5_open's to refuse. */
static Status check_size(const char *path, int64_t expected)
{
    struct stat st;
    CHECK(lstat(path, &st) == 0, ERR_IO, "%s: %s", path, strerror(errno));
    CHECK(!S_ISREG(st.st_mode) || st.st_size == expected, ERR_FORMAT,
          "%s: has %lld bytes, dataset.json says %lld: truncated or replaced", path,
          (long long)st.st_size, (long long)expected);
    return OK;
}

static Status check_shard(const Dataset *ds, const OpenShard *shard, const ShardEntry *entry,
                          const InfoStore *info)
{
    Digest digest;
    CHECK(shard->tables.clips == entry->clips && shard->tables.captions.count == entry->captions,
          ERR_FORMAT, "%s: has %lld clips and %lld captions, dataset.json says %lld and %lld",
          shard->path, (long long)shard->tables.clips, (long long)shard->tables.captions.count,
          (long long)entry->clips, (long long)entry->captions);
    CHECK(ds->info == NULL || info_store_equal(ds->info, info), ERR_FORMAT,
          "%s: codec, geometry or fps differ from those of the first shard", shard->path);
    TRY(shard_digest(&shard->tables, info, &digest));
    CHECK(memcmp(&digest, &entry->index, sizeof(digest)) == 0, ERR_FORMAT,
          "%s: index, captions or codec are not those that were written (SHA-256)", shard->path);
    return OK;
}

/* The first shard's description becomes the dataset's. */
static Status read_shard(Dataset *ds, int64_t number)
{
    OpenShard *shard = &ds->shards[number];
    const ShardEntry *entry = &ds->record.shards[number];
    char name[SHARD_NAME_BYTES];
    H5File *file = NULL;
    InfoStore *info = NULL;
    Status s = OK;
    shard_file_name(number, name);
    TRY(file_join(shard->path, ds->dir, name));
    TRY(check_size(shard->path, entry->size_bytes));
    TRY(h5_open(shard->path, &file));
    TRY_TO(done, s, shard_read(file, &shard->tables, &info));
    TRY_TO(done, s, check_shard(ds, shard, entry, info));
    shard->first_clip = number == 0 ? 0 : shard[-1].first_clip + shard[-1].tables.clips;
    if (ds->info == NULL) {
        ds->info = info;
        info = NULL;
    }
done:
    info_store_destroy(info);
    h5_close(file);
    return s;
}

/* ---- buckets of all shards ------------------------------------------------------------------ */

static int compare_sizes(const void *left, const void *right)
{
    const DatasetBucket *a = left, *b = right;
    if (a->t != b->t) return a->t < b->t ? -1 : 1;
    if (a->h != b->h) return a->h < b->h ? -1 : 1;
    return a->w < b->w ? -1 : a->w > b->w;
}

/* All shards' buckets, sorted by size, so that their order does not depend on the shards; then each
 * shard's numbers are translated. */
static Status merge_buckets(Dataset *ds)
{
    int64_t total = 0, count = 0;
    for (int64_t i = 0; i < ds->record.shard_count; i++) total += ds->shards[i].tables.bucket_count;
    ds->buckets = calloc((size_t)total, sizeof(*ds->buckets));
    CHECK(ds->buckets != NULL, ERR_MEMORY, "%s: no memory for %lld latent sizes", ds->dir,
          (long long)total);
    for (int64_t i = 0; i < ds->record.shard_count; i++) {
        const Shard *tables = &ds->shards[i].tables;
        memcpy(ds->buckets + count, tables->buckets,
               (size_t)tables->bucket_count * sizeof(*ds->buckets));
        count += tables->bucket_count;
    }
    qsort(ds->buckets, (size_t)total, sizeof(*ds->buckets), compare_sizes);
    ds->bucket_count = 0;
    for (int64_t i = 0; i < total; i++) {
        DatasetBucket *last = &ds->buckets[ds->bucket_count - 1];
        if (i > 0 && compare_sizes(last, &ds->buckets[i]) == 0) {
            last->clips += ds->buckets[i].clips;
        } else {
            ds->buckets[ds->bucket_count++] = ds->buckets[i];
        }
    }
    for (int64_t i = 0; i < ds->record.shard_count; i++) {
        OpenShard *shard = &ds->shards[i];
        for (int64_t b = 0; b < shard->tables.bucket_count; b++) {
            const DatasetBucket *found =
                bsearch(&shard->tables.buckets[b], ds->buckets, (size_t)ds->bucket_count,
                        sizeof(*ds->buckets), compare_sizes);
            shard->global_bucket[b] = found - ds->buckets;
        }
    }
    return OK;
}

/* ---- public --------------------------------------------------------------------------------- */

static Status open_all(Dataset *ds)
{
    Digest digest;
    TRY(dataset_record_read(ds->dir, &ds->record));
    ds->shards = calloc((size_t)ds->record.shard_count, sizeof(*ds->shards));
    CHECK(ds->shards != NULL, ERR_MEMORY, "%s: no memory for %lld shards", ds->dir,
          (long long)ds->record.shard_count);
    for (int64_t i = 0; i < ds->record.shard_count; i++) TRY(read_shard(ds, i));
    TRY(merge_buckets(ds));
    TRY(dataset_record_digest(&ds->record, &digest));
    digest_hex(&digest, ds->digest);
    return OK;
}

Status dataset_open(const char *dir, Dataset **out)
{
    CHECK(strlen(dir) < FILE_PATH_BYTES - SHARD_PATH_BYTES, ERR_USAGE, "%.64s...: path too long",
          dir);
    Dataset *ds = calloc(1, sizeof(*ds));
    CHECK(ds != NULL, ERR_MEMORY, "%s: no memory for a dataset", dir);
    pthread_mutex_init(&ds->lock, NULL);
    strcpy(ds->dir, dir);
    const Status s = open_all(ds);
    if (s != OK) {
        dataset_close(ds);
        return s;
    }
    *out = ds;
    return OK;
}

void dataset_close(Dataset *ds)
{
    if (ds == NULL) return;
    for (int64_t i = 0; ds->shards != NULL && i < ds->record.shard_count; i++) {
        open_shard_close(&ds->shards[i]);
        shard_destroy(&ds->shards[i].tables);
    }
    free(ds->shards);
    free(ds->buckets);
    dataset_record_destroy(&ds->record);
    info_store_destroy(ds->info);
    pthread_mutex_destroy(&ds->lock);
    free(ds);
}

const char *dataset_dir(const Dataset *ds)
{
    return ds->dir;
}

const DatasetInfo *dataset_info(const Dataset *ds)
{
    return &ds->info->view;
}

const char *dataset_digest(const Dataset *ds)
{
    return ds->digest;
}

int64_t dataset_shards(const Dataset *ds)
{
    return ds->record.shard_count;
}

int64_t dataset_buckets(const Dataset *ds)
{
    return ds->bucket_count;
}

BucketList dataset_bucket_list(const Dataset *ds)
{
    return (BucketList){ ds->buckets, ds->bucket_count };
}

const DatasetBucket *dataset_bucket(const Dataset *ds, int64_t bucket)
{
    assert(bucket >= 0 && bucket < ds->bucket_count);
    return &ds->buckets[bucket];
}

int64_t dataset_clips(const Dataset *ds)
{
    return ds->record.clips;
}

int64_t dataset_captions(const Dataset *ds)
{
    return ds->record.captions;
}

OpenShard *dataset_shard_of(const Dataset *ds, int64_t clip)
{
    assert(clip >= 0 && clip < ds->record.clips);
    int64_t low = 0, high = ds->record.shard_count; /* first_clip[low] <= clip < first_clip[high] */
    while (high - low > 1) {
        const int64_t middle = low + (high - low) / 2;
        if (ds->shards[middle].first_clip <= clip) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return &ds->shards[low];
}

DatasetClip dataset_clip(const Dataset *ds, int64_t clip)
{
    const OpenShard *shard = dataset_shard_of(ds, clip);
    const int64_t index = clip - shard->first_clip;
    const ShardRow *row = &shard->tables.rows[index];
    DatasetClip out = { .bucket = shard->global_bucket[row->bucket],
                        .shard = shard - ds->shards,
                        .row = row->row,
                        .frames = row->frames,
                        .fps = row->fps,
                        .start_s = row->start_s,
                        .caption_count = row->caption_count,
                        .source = string_list_at(&shard->tables.sources, index) };
    memcpy(out.crop, row->crop, sizeof(out.crop));
    memcpy(out.sha256.bytes, row->sha256, sizeof(out.sha256.bytes));
    return out;
}

const char *dataset_caption(const Dataset *ds, int64_t clip, int64_t which)
{
    const OpenShard *shard = dataset_shard_of(ds, clip);
    const ShardRow *row = &shard->tables.rows[clip - shard->first_clip];
    assert(which >= 0 && which < row->caption_count);
    return string_list_at(&shard->tables.captions, row->caption_first + which);
}
