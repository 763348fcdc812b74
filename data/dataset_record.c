#include "data/dataset_record.h"

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/json_writer.h"
#include "data/dataset_info.h"
#include "data/shard.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHARDS = 100 * 1000, MAX_BYTES = 64 << 20 };
#define SEAL "\"record_sha256\""
static const int64_t MAX_COUNT = (int64_t)1 << 50;

Status dataset_record_add(DatasetRecord *record, const ShardEntry *entry)
{
    const size_t room = (size_t)(record->shard_count + 1);
    ShardEntry *shards = reallocarray(record->shards, room, sizeof(*shards));
    CHECK(shards != NULL, ERR_MEMORY, "dataset: no memory for %zu shards", room);
    record->shards = shards;
    record->shards[record->shard_count++] = *entry;
    record->clips += entry->clips;
    record->captions += entry->captions;
    return OK;
}

Status dataset_record_digest(const DatasetRecord *record, Digest *out)
{
    DigestStream *stream = NULL;
    TRY(digest_stream_create(&stream));
    for (int64_t i = 0; i < record->shard_count; i++) {
        digest_stream_update(stream, record->shards[i].index.bytes, DIGEST_BYTES);
    }
    digest_stream_finish(stream, out);
    digest_stream_destroy(stream);
    return OK;
}

void dataset_record_destroy(DatasetRecord *record)
{
    free(record->shards);
    *record = (DatasetRecord){ 0 };
}

/* ---- writing -------------------------------------------------------------------------------- */

static void write_digest(JsonWriter *w, const char *key, const Digest *digest)
{
    char hex[DIGEST_HEX];
    digest_hex(digest, hex);
    json_write_string(w, key, hex);
}

static void write_buckets(JsonWriter *w, const DatasetBucket *buckets, int64_t count)
{
    json_begin_object(w, "buckets");
    for (int64_t i = 0; i < count; i++) {
        const DatasetBucket *b = &buckets[i];
        char path[SHARD_PATH_BYTES];
        shard_latents_path(b, path);
        json_begin_object(w, path);
        json_write_int(w, "clips", b->clips);
        json_write_int(w, "tokens", b->tokens);
        json_write_int(w, "patch", b->patch);
        json_end_object(w);
    }
    json_end_object(w);
}

static void write_shards(JsonWriter *w, const DatasetRecord *record)
{
    json_begin_object(w, "shards");
    for (int64_t i = 0; i < record->shard_count; i++) {
        const ShardEntry *e = &record->shards[i];
        char name[SHARD_NAME_BYTES];
        shard_file_name(i, name);
        json_begin_object(w, name);
        json_write_int(w, "clips", e->clips);
        json_write_int(w, "captions", e->captions);
        json_write_int(w, "size_bytes", e->size_bytes);
        write_digest(w, "sha256", &e->sha256);
        write_digest(w, "index_sha256", &e->index);
        json_end_object(w);
    }
    json_end_object(w);
}

/* Most members are there for people; so that damage to those is seen too, the last one is the
 * SHA-256 of the text before it. */
static Status save_sealed(JsonWriter *w, const char *path)
{
    static const char end[] = "\n}";
    char *text = NULL, *sealed = NULL, hex[DIGEST_HEX];
    size_t length = 0;
    Digest digest;
    Status s = OK;
    TRY(json_writer_finish(w, &text, &length));
    assert(length > 2 && memcmp(text + length - 2, end, 2) == 0);
    text[length - 2] = 0;
    const int before = asprintf(&sealed, "%s,\n  ", text);
    CHECK_TO(done, s, before >= 0, ERR_MEMORY, "%s: no memory to write it", path);
    TRY_TO(done, s, digest_bytes(sealed, (size_t)before, &digest));
    digest_hex(&digest, hex);
    free(sealed);
    sealed = NULL; /* where memory is refused it stays as it is */
    const int whole = asprintf(&sealed, "%s,\n  " SEAL ": \"%s\"\n}\n", text, hex);
    CHECK_TO(done, s, whole >= 0, ERR_MEMORY, "%s: no memory to write it", path);
    s = file_write(path, sealed, (size_t)whole);
done:
    free(sealed);
    free(text);
    return s;
}

Status dataset_record_save(const DatasetRecord *record, const DatasetInfo *info,
                           const DatasetBucket *buckets, int64_t bucket_count, const char *dir)
{
    char path[FILE_PATH_BYTES], hdf5[24];
    TRY(file_join(path, dir, "dataset.json"));
    h5_version(hdf5);
    JsonWriter w = json_writer(2);
    json_begin_object(&w, NULL);
    json_write_string(&w, "format", SHARD_FORMAT);
    json_write_int(&w, "version", dataset_version_of(info));
    json_write_string(&w, "hdf5", hdf5);
    json_write_string(&w, "codec", info->codec);
    json_write_string(&w, "codec_digest", info->codec_digest);
    if (info->text_width > 0) {
        json_write_string(&w, "text_encoder", info->text_encoder);
        json_write_string(&w, "text_digest", info->text_digest);
    }
    if (info->condition != CONDITION_NONE)
        json_write_string(&w, "condition", condition_name(info->condition));
    if (info->image_width > 0) json_write_string(&w, "image_digest", info->image_digest);
    json_write_real(&w, "fps", info->fps);
    json_write_int(&w, "clips", record->clips);
    json_write_int(&w, "captions", record->captions);
    write_buckets(&w, buckets, bucket_count);
    write_shards(&w, record);
    json_end_object(&w);
    return save_sealed(&w, path);
}

/* ---- reading -------------------------------------------------------------------------------- */

static Status read_digest(const Json *object, const char *what, const char *key, Digest *out)
{
    const char *hex;
    TRY(json_get_string(object, what, key, &hex));
    CHECK(digest_parse(hex, out) == OK, ERR_FORMAT, "%s: %s is not 64 hexadecimal digits", what,
          key);
    return OK;
}

/* Member i must be shard i: a name is never taken from the file. */
static Status read_shard(const char *path, void *member, DatasetRecord *out)
{
    char name[SHARD_NAME_BYTES];
    ShardEntry entry;
    const Json *shard = json_value(member);
    shard_file_name(out->shard_count, name);
    CHECK(strcmp(json_key(member), name) == 0, ERR_FORMAT, "%s: shards: %s stands where %s should",
          path, json_key(member), name);
    CHECK(json_as_object(shard) != NULL, ERR_FORMAT, "%s: %s is not an object", path, name);
    TRY(json_get_int(shard, path, "clips", 1, MAX_COUNT, &entry.clips));
    TRY(json_get_int(shard, path, "captions", 1, MAX_COUNT, &entry.captions));
    TRY(json_get_int(shard, path, "size_bytes", 1, INT64_MAX, &entry.size_bytes));
    TRY(read_digest(shard, path, "sha256", &entry.sha256));
    TRY(read_digest(shard, path, "index_sha256", &entry.index));
    return dataset_record_add(out, &entry);
}

/* A name that is not one of these may be one of these, damaged. */
static Status check_members(const Json *root, const char *path)
{
    static const char *const known[] = { "format",    "version",      "hdf5",
                                         "codec",     "fps",          "clips",
                                         "shards",    "codec_digest", "captions",
                                         "buckets",   "text_encoder", "text_digest",
                                         "condition", "image_digest", "record_sha256" };
    for (void *i = json_first(root); i != NULL; i = json_next(root, i)) {
        size_t k = 0;
        while (k < sizeof(known) / sizeof(known[0]) && strcmp(known[k], json_key(i)) != 0) k++;
        CHECK(k < sizeof(known) / sizeof(known[0]), ERR_FORMAT,
              "%s: \"%.40s\" is no member of a dataset's record", path, json_key(i));
    }
    return OK;
}

/* Records of earlier versions have no seal. */
static Status check_seal(const Json *root, const char *path, const char *text, size_t length)
{
    Digest stored, computed;
    TRY(check_members(root, path));
    if (!json_has(root, "record_sha256")) return OK;
    TRY(read_digest(root, path, "record_sha256", &stored));
    const char *at = memmem(text, length, SEAL, strlen(SEAL));
    const size_t after = strlen(SEAL ": \"\"\n}\n") + DIGEST_HEX - 1;
    CHECK(at != NULL && (size_t)(text + length - at) == after, ERR_FORMAT,
          "%s: is damaged: " SEAL " is not its last line", path);
    TRY(digest_bytes(text, (size_t)(at - text), &computed));
    CHECK(memcmp(&stored, &computed, sizeof(stored)) == 0, ERR_FORMAT,
          "%s: is damaged: it is not the text that was written (SHA-256)", path);
    return OK;
}

static Status read_root(const Json *root, const char *path, DatasetRecord *out)
{
    const char *format;
    const Json *shards;
    int64_t version, clips, captions;
    TRY(json_get_string(root, path, "format", &format));
    CHECK(strcmp(format, SHARD_FORMAT) == 0, ERR_FORMAT, "%s: is not a " SHARD_FORMAT, path);
    TRY(json_get_int(root, path, "version", 0, INT64_MAX, &version));
    CHECK(version >= DATASET_VERSION && version <= DATASET_VERSION_CONDITION, ERR_FORMAT,
          "%s: dataset of version %lld, this zoetrope reads %d to %d", path, (long long)version,
          DATASET_VERSION, DATASET_VERSION_CONDITION);
    TRY(json_get_int(root, path, "clips", 1, MAX_COUNT, &clips));
    TRY(json_get_int(root, path, "captions", 1, MAX_COUNT, &captions));
    TRY(json_get_object(root, path, "shards", &shards));
    CHECK(json_count(shards) >= 1 && json_count(shards) <= MAX_SHARDS, ERR_FORMAT,
          "%s: %lld shards, not 1 .. %d", path, (long long)json_count(shards), MAX_SHARDS);
    for (void *i = json_first(shards); i != NULL; i = json_next(shards, i)) {
        TRY(read_shard(path, i, out));
    }
    CHECK(out->clips == clips && out->captions == captions, ERR_FORMAT,
          "%s: its shards have %lld clips and %lld captions, it says %lld and %lld", path,
          (long long)out->clips, (long long)out->captions, (long long)clips, (long long)captions);
    return OK;
}

Status dataset_record_parse(const char *text, size_t length, const char *path, DatasetRecord *out)
{
    const JsonLimits limits = { .bytes = MAX_BYTES, .depth = 4, .values = 10 * MAX_SHARDS };
    Json *root = NULL;
    DatasetRecord record = { 0 };
    TRY(json_parse(text, length, path, &limits, &root));
    Status s = read_root(root, path, &record);
    if (s == OK) s = check_seal(root, path, text, length);
    json_free(root);
    if (s != OK)
        dataset_record_destroy(&record);
    else
        *out = record;
    return s;
}

Status dataset_record_read(const char *dir, DatasetRecord *out)
{
    char path[FILE_PATH_BYTES];
    char *text = NULL;
    size_t length = 0;
    CHECK(file_kind(dir) == FILE_FOLDER, ERR_IO, "%s: no such folder", dir);
    TRY(file_join(path, dir, "dataset.json"));
    CHECK(file_kind(path) != FILE_ABSENT, ERR_FORMAT,
          "%s: has no dataset.json: not a dataset, or its ingest has not finished", dir);
    TRY(file_read(path, MAX_BYTES, &text, &length));
    const Status s = dataset_record_parse(text, length, path, out);
    free(text);
    return s;
}
