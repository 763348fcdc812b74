/* The embeddings of a dataset's captions: dataset_text_rows and dataset_read_text. */
#include "data/dataset_parts.h"
#include "data/shard_text.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The caption's place in its shard. */
static int64_t place_of(const Dataset *ds, const OpenShard *shard, int64_t clip, int64_t which)
{
    const ShardRow *row = &shard->tables.rows[clip - shard->first_clip];
    assert(ds->info->view.text_width > 0 && which >= 0 && which < row->caption_count);
    return row->caption_first + which;
}

int64_t dataset_text_rows(const Dataset *ds, int64_t clip, int64_t which)
{
    const DatasetInfo *info = &ds->info->view;
    if (info->text_width == 0) return 0;
    if (which == DATASET_NULL_CAPTION) return info->text_null.shape[0];
    const OpenShard *shard = dataset_shard_of(ds, clip);
    return shard->tables.text.ranges[place_of(ds, shard, clip, which)][1];
}

static Status read_bits(Dataset *ds, OpenShard *shard, const int64_t range[2], uint16_t *bits)
{
    H5File *file;
    pthread_mutex_lock(&ds->lock);
    Status s = dataset_shard_file(ds, shard, &file);
    if (s == OK && shard->text == NULL)
        s = shard_text_open(file, &shard->tables.text, ds->info->view.text_width, &shard->text);
    if (s == OK) s = h5_array_read(shard->text, range[0], range[1], bits);
    pthread_mutex_unlock(&ds->lock);
    return s;
}

/* bits (rows, text_width), checked */
static Status read_caption(Dataset *ds, int64_t clip, int64_t which, uint16_t *bits)
{
    OpenShard *shard = dataset_shard_of(ds, clip);
    const ShardText *text = &shard->tables.text;
    const int64_t place = place_of(ds, shard, clip, which);
    const size_t count = (size_t)(text->ranges[place][1] * ds->info->view.text_width);
    Digest digest;
    const Status s = read_bits(ds, shard, text->ranges[place], bits);
    if (s != OK) return dataset_clip_fail(s, ds, clip, status_message());
    TRY(digest_bytes(bits, count * sizeof(*bits), &digest));
    if (memcmp(digest.bytes, text->sha256[place], DIGEST_BYTES) == 0) return OK;
    return dataset_clip_fail(ERR_FORMAT, ds, clip,
                             "its caption's embedding is not the one that was written");
}

Status dataset_read_text(Dataset *ds, int64_t clip, int64_t which, Tensor dst)
{
    const DatasetInfo *info = &ds->info->view;
    const int64_t rows = dataset_text_rows(ds, clip, which), count = rows * info->text_width;
    char shape[96];
    CHECK(info->text_width > 0, ERR_USAGE, "%s: has no embeddings of captions", ds->dir);
    CHECK(dst.dtype == F32 && dst.ndim == 2 && dst.shape[0] >= rows &&
              dst.shape[1] == info->text_width,
          ERR_USAGE, "%s: an embedding of %lld rows of %lld values, to be read into %s", ds->dir,
          (long long)rows, (long long)info->text_width, tensor_describe(dst, shape));
    /* as dataset_read_latents does: bits in the second half are widened from the front */
    uint16_t *bits = (uint16_t *)dst.data + count;
    if (which == DATASET_NULL_CAPTION)
        memcpy(bits, info->text_null.data, tensor_bytes(info->text_null));
    else
        TRY(read_caption(ds, clip, which, bits));
    dataset_widen(tensor_f32(dst), bits, count);
    memset(tensor_f32(dst) + count, 0, (size_t)(tensor_count(dst) - count) * sizeof(float));
    return OK;
}

Status dataset_verify_text(Dataset *ds, int64_t clip)
{
    const DatasetInfo *info = &ds->info->view;
    const int64_t captions = dataset_clip(ds, clip).caption_count;
    if (info->text_width == 0) return OK;
    uint16_t *bits = malloc((size_t)(info->text_rows * info->text_width) * sizeof(*bits));
    CHECK(bits != NULL, ERR_MEMORY, "%s: no memory for an embedding", ds->dir);
    Status s = OK;
    for (int64_t i = 0; s == OK && i < captions; i++) s = read_caption(ds, clip, i, bits);
    free(bits);
    return s;
}
