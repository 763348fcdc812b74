/*
 * fuzz_dataset: the HDF5 shard of a dataset, read as training reads it but without the digests of
 * dataset.json, which would end most reads early.
 *
 * A shard has some 30 kB, of which a few bytes are changed: the input is those changes, applied to
 * a shard that is made at the start. A change is
 *
 *     u24 where (from the end of what is left when beyond it), u8 n, n bytes (n modulo 16)
 *
 * An input that begins like an HDF5 file is taken as the shard itself.
 */
#include "core/base/file.h"
#include "data/shard.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/h5_hostile.h"
#include "tests/support/small_dataset.h"

#include <fcntl.h>
#include <unistd.h>

enum { CLIPS = 4 };

static char folder[256], path[300];
static char *good, *shard_bytes; /* (good_length) */
static int64_t good_length;
static int file = -1; /* of `path` */

static void remove_folder(void)
{
    (void)file_remove_tree(folder);
    free(good);
    free(shard_bytes);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    small_folder(folder);
    (void)atexit(remove_folder);
    small_dataset(folder, CLIPS, 0);
    good = small_read(folder, "shard-00000.h5", &good_length);
    shard_bytes = malloc((size_t)good_length);
    (void)snprintf(path, sizeof path, "%s/shard-00000.h5", folder);
    file = open(path, O_RDWR | O_CLOEXEC);
    MUST(shard_bytes != NULL && file >= 0);
    return 0;
}

static void write_shard(const void *bytes, size_t size)
{
    MUST(pwrite(file, bytes, size, 0) == (ssize_t)size);
    MUST(ftruncate(file, (off_t)size) == 0);
}

/* Applies the changes; the last may be cut short. */
static void write_changed(const uint8_t *bytes, size_t size)
{
    memcpy(shard_bytes, good, (size_t)good_length);
    while (size > 4) {
        int64_t at = (bytes[0] | bytes[1] << 8 | bytes[2] << 16) % good_length;
        size_t count = bytes[3] % 16;
        bytes += 4;
        size -= 4;
        if (count > size) count = size;
        for (size_t i = 0; i < count && at < good_length; i++, at++)
            shard_bytes[at] = (char)bytes[i];
        bytes += count;
        size -= count;
    }
    write_shard(shard_bytes, (size_t)good_length);
}

static Status read_latents(H5File *h5, const DatasetBucket *bucket)
{
    static uint16_t values[1 << 16];
    H5Array *latents = NULL;
    TRY(shard_open_latents(h5, bucket, &latents));
    Status s = OK;
    const H5Shape *shape = h5_array_shape(latents);
    if (shape->dims[1] * shape->dims[2] <= (int64_t)(sizeof values / sizeof values[0])) {
        s = h5_array_read(latents, shape->dims[0] - 1, 1, values);
        if (s == OK && shape->dims[1] > 1) s = h5_array_read_part(latents, 0, 1, 1, values);
    }
    h5_array_close(latents);
    return s;
}

static Status read_shard(void)
{
    static Shard shard;
    H5File *h5 = NULL;
    InfoStore *info = NULL;
    Digest digest;
    memset(&shard, 0, sizeof shard);
    Status s = h5_open(path, &h5);
    if (s == OK) s = shard_read(h5, &shard, &info);
    if (s == OK) MUST(shard_digest(&shard, info, &digest) == OK);
    for (int64_t i = 0; s == OK && i < shard.bucket_count; i++)
        s = read_latents(h5, &shard.buckets[i]);
    info_store_destroy(info);
    shard_destroy(&shard);
    (void)h5_close(h5);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size >= 8 && memcmp(bytes, "\x89HDF\r\n\x1a\n", 8) == 0)
        write_shard(bytes, size);
    else
        write_changed(bytes, size);
    const Status s = read_shard();
    if (s != OK) fuzz_refused(s, ERR_FORMAT);
    MUST(hostile_open_objects() == 0);
    return 0;
}
