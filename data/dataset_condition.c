/* The image tokens of a dataset's clips: dataset_read_image. Latents of conditions are read as
 * those of clips are: data/dataset_latents.c. */
#include "data/dataset_parts.h"
#include "data/shard_condition.h"

#include <stdlib.h>
#include <string.h>

/* bits (image_rows, image_width) */
static Status read_bits(Dataset *ds, OpenShard *shard, int64_t index, uint16_t *bits)
{
    H5File *file;
    pthread_mutex_lock(&ds->lock);
    Status s = dataset_shard_file(ds, shard, &file);
    if (s == OK && shard->image == NULL)
        s = shard_open_image(file, &ds->info->view, shard->tables.clips, &shard->image);
    if (s == OK) s = h5_array_read(shard->image, index, 1, bits);
    pthread_mutex_unlock(&ds->lock);
    return s;
}

/* The same, checked. */
static Status read_image(Dataset *ds, int64_t clip, uint16_t *bits)
{
    const DatasetInfo *info = &ds->info->view;
    OpenShard *shard = dataset_shard_of(ds, clip);
    const int64_t index = clip - shard->first_clip;
    Digest digest;
    const Status s = read_bits(ds, shard, index, bits);
    if (s != OK) return dataset_clip_fail(s, ds, clip, status_message());
    TRY(digest_bytes(bits, (size_t)(info->image_rows * info->image_width) * sizeof(*bits),
                     &digest));
    if (memcmp(digest.bytes, shard->tables.condition.image[index], DIGEST_BYTES) == 0) return OK;
    return dataset_clip_fail(ERR_FORMAT, ds, clip,
                             "its image tokens are not those that were written");
}

Status dataset_read_image(Dataset *ds, int64_t clip, Tensor dst)
{
    const DatasetInfo *info = &ds->info->view;
    const int64_t count = info->image_rows * info->image_width;
    char shape[96];
    CHECK(info->image_width > 0, ERR_USAGE, "%s: has no image tokens of its clips", ds->dir);
    CHECK(dst.dtype == F32 && tensor_count(dst) == count, ERR_USAGE,
          "%s: image tokens are (%lld, %lld), to be read into %s", ds->dir,
          (long long)info->image_rows, (long long)info->image_width, tensor_describe(dst, shape));
    /* as dataset_read_latents does: bits in the second half are widened from the front */
    uint16_t *bits = (uint16_t *)dst.data + count;
    TRY(read_image(ds, clip, bits));
    dataset_widen(tensor_f32(dst), bits, count);
    return OK;
}

Status dataset_verify_image(Dataset *ds, int64_t clip)
{
    const DatasetInfo *info = &ds->info->view;
    if (info->image_width == 0) return OK;
    uint16_t *bits = malloc((size_t)(info->image_rows * info->image_width) * sizeof(*bits));
    CHECK(bits != NULL, ERR_MEMORY, "%s: no memory for image tokens", ds->dir);
    const Status s = read_image(ds, clip, bits);
    free(bits);
    return s;
}
