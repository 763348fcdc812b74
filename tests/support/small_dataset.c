#include "tests/support/small_dataset.h"

#include "core/base/digest.h"
#include "core/base/file.h"
#include "data/shard.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

void small_folder(char dir[256])
{
    const char *base = getenv("TMPDIR");
    snprintf(dir, 256, "%s/zt-test-XXXXXX", base != NULL ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
}

void small_remove(const char *dir)
{
    assert_int_equal(file_remove_tree(dir), OK);
}

/* ---- contents ------------------------------------------------------------------------------- */

DatasetInfo small_info(void)
{
    static float basis[SMALL_CHANNELS * SMALL_BLOCK], mean[SMALL_BLOCK], scale[SMALL_CHANNELS];
    static char digest[DIGEST_HEX];
    DigestStream *stream = NULL;
    Digest raw;
    for (int i = 0; i < SMALL_CHANNELS * SMALL_BLOCK; i++) basis[i] = (float)(i % 7) - 3;
    for (int i = 0; i < SMALL_BLOCK; i++) mean[i] = (float)i;
    for (int i = 0; i < SMALL_CHANNELS; i++) scale[i] = (float)(i + 1);
    if (digest[0] == 0) {
        assert_int_equal(digest_stream_create(&stream), OK);
        digest_stream_update(stream, basis, sizeof(basis));
        digest_stream_update(stream, mean, sizeof(mean));
        digest_stream_update(stream, scale, sizeof(scale));
        digest_stream_finish(stream, &raw);
        digest_stream_destroy(stream);
        digest_hex(&raw, digest);
    }
    return (DatasetInfo){ .codec = "linear",
                          .codec_digest = digest,
                          .basis = tensor_of(basis, F32, SHAPE(SMALL_CHANNELS, SMALL_BLOCK)),
                          .mean = tensor_of(mean, F32, SHAPE(SMALL_BLOCK)),
                          .scale = tensor_of(scale, F32, SHAPE(SMALL_CHANNELS)),
                          .channels = SMALL_CHANNELS,
                          .patch = { 1, 2, 2 },
                          .stride = { 4, 8, 8 },
                          .fps = 8 };
}

static const int64_t sizes[3][3] = { { 3, 4, 4 }, { 3, 2, 4 }, { 1, 4, 2 } };

int64_t small_values(int64_t clip, float *values)
{
    const int64_t *s = sizes[clip % 3];
    const int64_t count = s[0] * s[1] * s[2] * SMALL_CHANNELS;
    for (int64_t i = 0; i < count; i++) values[i] = (float)((i * 37 + clip * 11) % 101 - 50) / 8;
    return count;
}

static Status add_clip(DatasetWriter *writer, int64_t clip)
{
    char text[3][64], source[32];
    const char *captions[3];
    float values[SMALL_MOST_VALUES];
    const int64_t *s = sizes[clip % 3];
    const int64_t count = small_values(clip, values);
    snprintf(source, sizeof(source), "v%lld.mp4", (long long)clip);
    for (int k = 0; k < 3; k++) {
        snprintf(text[k], sizeof(text[k]), "clip %lld wording %d \u00e9", (long long)clip, k);
        captions[k] = text[k];
    }
    const ClipRecord record = { .t = s[0],
                                .h = s[1],
                                .w = s[2],
                                .latents =
                                    tensor_of(values, F32, SHAPE(count / SMALL_PATCH, SMALL_PATCH)),
                                .frames = 1 + 4 * (s[0] - 1),
                                .fps = 8,
                                .start_s = (double)clip / 4,
                                .crop = { clip, 1, 32, 32 },
                                .source = source,
                                .captions = captions,
                                .caption_count = 1 + clip % 3 };
    return dataset_writer_add(writer, &record);
}

Status small_dataset_try(const char *dir, int64_t clips, int64_t shard_bytes)
{
    DatasetWriter *writer = NULL;
    const DatasetInfo info = small_info();
    TRY(dataset_writer_create(dir, &info, &writer));
    Status s = OK;
    if (shard_bytes > 0) dataset_writer_set_shard_bytes(writer, shard_bytes);
    for (int64_t clip = 0; s == OK && clip < clips; clip++) s = add_clip(writer, clip);
    if (s == OK) s = dataset_writer_finish(writer);
    dataset_writer_destroy(writer);
    return s;
}

void small_dataset(const char *dir, int64_t clips, int64_t shard_bytes)
{
    assert_int_equal(small_dataset_try(dir, clips, shard_bytes), OK);
}

/* ---- damage --------------------------------------------------------------------------------- */

char *small_read(const char *dir, const char *name, int64_t *length)
{
    char path[FILE_PATH_BYTES], *bytes = NULL;
    size_t size;
    assert_int_equal(file_join(path, dir, name), OK);
    assert_int_equal(file_read(path, 1 << 24, &bytes, &size), OK);
    *length = (int64_t)size;
    return bytes;
}

void small_write(const char *dir, const char *name, const char *bytes, int64_t length)
{
    char path[FILE_PATH_BYTES];
    assert_int_equal(file_join(path, dir, name), OK);
    /* as an accident would, without care; in place, as some file systems flush what is replaced */
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, (size_t)length, 0), length);
    assert_int_equal(ftruncate(fd, length), 0);
    assert_int_equal(close(fd), 0);
}

void small_damage(const char *dir, const char *name, int64_t offset, int delta)
{
    int64_t length;
    char *bytes = small_read(dir, name, &length);
    const int64_t at = offset < 0 ? length + offset : offset;
    bytes[at] = (char)(bytes[at] + delta);
    small_write(dir, name, bytes, length);
    free(bytes);
}

/* A record that is edited would be refused for its digest: it goes, as in earlier versions. */
static void drop_seal(char *text)
{
    char *seal = strstr(text, ",\n  \"record_sha256\": ");
    if (seal != NULL) strcpy(seal, "\n}\n");
}

void small_edit(const char *dir, const char *name, const char *from, const char *to)
{
    int64_t length;
    char *bytes = small_read(dir, name, &length);
    char *at = strstr(bytes, from);
    assert_non_null(at);
    const size_t before = (size_t)(at - bytes), after = strlen(at + strlen(from));
    char *edited = malloc(before + strlen(to) + after + 1);
    assert_non_null(edited);
    sprintf(edited, "%.*s%s%s", (int)before, bytes, to, at + strlen(from));
    drop_seal(edited);
    small_write(dir, name, edited, (int64_t)strlen(edited));
    free(edited);
    free(bytes);
}

/* The only row of a shard, as the dataset has it. */
static void copy_row(const Dataset *ds, Shard *shard)
{
    const DatasetBucket bucket = { .t = 3, .h = 4, .w = 4, .tokens = 12, .patch = SMALL_PATCH };
    const DatasetClip clip = dataset_clip(ds, 0);
    const char *caption = dataset_caption(ds, 0, 0);
    ShardRow row = {
        .frames = clip.frames, .fps = clip.fps, .start_s = clip.start_s, .caption_count = 1
    };
    memcpy(row.crop, clip.crop, sizeof(row.crop));
    memcpy(row.sha256, clip.sha256.bytes, sizeof(row.sha256));
    assert_int_equal(shard_find_bucket(shard, &bucket, &row.bucket), OK);
    assert_int_equal(shard_add(shard, &row, clip.source, &caption), OK);
}

static void write_zeros(const Shard *shard, const char *path)
{
    static const uint16_t zeros[12 * SMALL_PATCH];
    const H5Shape shape = { H5_TYPE_U16, 3, { 0, 12, SMALL_PATCH } };
    const int64_t chunk[] = { 1, 12, SMALL_PATCH };
    const DatasetInfo view = small_info();
    InfoStore *info = NULL;
    H5File *file = NULL;
    H5Array *array = NULL;
    assert_int_equal(info_store_copy(&view, "test", &info), OK);
    assert_int_equal(h5_create(path, &file), OK);
    assert_int_equal(h5_array_create(file, "/buckets/3_4_4/latents", &shape, chunk, &array), OK);
    assert_int_equal(h5_array_append(array, 1, zeros), OK);
    h5_array_close(array);
    assert_int_equal(shard_write(shard, info, file), OK);
    assert_int_equal(h5_close(file), OK);
    info_store_destroy(info);
}

void small_other_latents(const char *dir)
{
    char path[512], before[64], after[64];
    int64_t old_length, new_length;
    Dataset *ds = NULL;
    Shard *shard = calloc(1, sizeof(*shard));
    assert_non_null(shard);
    snprintf(path, sizeof(path), "%s/shard-00000.h5", dir);
    free(small_read(dir, "shard-00000.h5", &old_length));
    assert_int_equal(dataset_open(dir, &ds), OK);
    assert_int_equal(dataset_clips(ds), 1);
    copy_row(ds, shard);
    dataset_close(ds);
    assert_int_equal(unlink(path), 0);
    write_zeros(shard, path);
    free(small_read(dir, "shard-00000.h5", &new_length));
    snprintf(before, sizeof(before), "\"size_bytes\": %lld", (long long)old_length);
    snprintf(after, sizeof(after), "\"size_bytes\": %lld", (long long)new_length);
    small_edit(dir, "dataset.json", before, after);
    shard_destroy(shard);
    free(shard);
}
