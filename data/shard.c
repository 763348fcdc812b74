#include "data/shard.h"

#include "data/shard_condition.h"
#include "data/shard_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_LATENT_SIDE = 65536,
    LATENTS_CHUNK_BYTES = 1 << 20, /* a context rank's share of a long clip, not much more */
    BF16_BYTES = 2,
};

void shard_file_name(int64_t number, char out[SHARD_NAME_BYTES])
{
    snprintf(out, SHARD_NAME_BYTES, "shard-%05" PRId64 ".h5", number);
}

void shard_latents_path(const DatasetBucket *b, char out[SHARD_PATH_BYTES])
{
    snprintf(out, SHARD_PATH_BYTES, "/buckets/%" PRId64 "_%" PRId64 "_%" PRId64 "/latents", b->t,
             b->h, b->w);
}

Status shard_check_bucket(const DatasetBucket *b, const DatasetInfo *info, const char *where)
{
    const int64_t *p = info->patch;
    const int64_t sides[] = { b->t, b->h, b->w };
    for (int i = 0; i < 3; i++) {
        CHECK(sides[i] >= 1 && sides[i] <= MAX_LATENT_SIDE && sides[i] % p[i] == 0, ERR_FORMAT,
              "%s: a latent of %lld x %lld x %lld cannot be cut into patches of %lld x %lld x %lld",
              where, (long long)b->t, (long long)b->h, (long long)b->w, (long long)p[0],
              (long long)p[1], (long long)p[2]);
    }
    const int64_t tokens = b->t / p[0] * (b->h / p[1]) * (b->w / p[2]);
    const int64_t patch = info->channels * p[0] * p[1] * p[2];
    CHECK(b->tokens == tokens && b->patch == patch, ERR_FORMAT,
          "%s: a latent of %lld x %lld x %lld has %lld tokens of %lld values, not %lld of %lld",
          where, (long long)b->t, (long long)b->h, (long long)b->w, (long long)tokens,
          (long long)patch, (long long)b->tokens, (long long)b->patch);
    return OK;
}

/* ---- filling -------------------------------------------------------------------------------- */

Status shard_find_bucket(Shard *shard, const DatasetBucket *size, int64_t *out)
{
    for (int64_t i = 0; i < shard->bucket_count; i++) {
        const DatasetBucket *b = &shard->buckets[i];
        if (b->t == size->t && b->h == size->h && b->w == size->w) {
            *out = i;
            return OK;
        }
    }
    CHECK(shard->bucket_count < SHARD_MAX_BUCKETS, ERR_FORMAT,
          "dataset: more than %d latent sizes in one shard", SHARD_MAX_BUCKETS);
    *out = shard->bucket_count++;
    shard->buckets[*out] = *size;
    shard->buckets[*out].clips = 0;
    return OK;
}

static Status reserve_row(Shard *shard)
{
    if (shard->clips < shard->reserved) return OK;
    const int64_t room = shard->reserved < 64 ? 64 : shard->reserved + shard->reserved / 2;
    ShardRow *rows = reallocarray(shard->rows, (size_t)room, sizeof(*rows));
    CHECK(rows != NULL, ERR_MEMORY, "dataset: no memory for an index of %lld clips",
          (long long)room);
    shard->rows = rows;
    shard->reserved = room;
    return OK;
}

Status shard_add(Shard *shard, const ShardRow *row, const char *source, const char *const *captions)
{
    const int64_t captions_before = shard->captions.count;
    TRY(reserve_row(shard));
    TRY(string_list_add(&shard->sources, source, (int64_t)strlen(source), "dataset: sources"));
    for (int64_t i = 0; i < row->caption_count; i++) {
        TRY(string_list_add(&shard->captions, captions[i], (int64_t)strlen(captions[i]),
                            "dataset: captions"));
    }
    ShardRow *added = &shard->rows[shard->clips++];
    *added = *row;
    added->row = shard->buckets[row->bucket].clips++;
    added->caption_first = captions_before;
    return OK;
}

void shard_latents_chunk(const DatasetBucket *bucket, int64_t chunk[3])
{
    int64_t tokens = LATENTS_CHUNK_BYTES / (bucket->patch * BF16_BYTES);
    if (tokens < 1) tokens = 1;
    if (tokens > bucket->tokens) tokens = bucket->tokens;
    chunk[0] = 1;
    chunk[1] = tokens;
    chunk[2] = bucket->patch;
}

/* ---- both ----------------------------------------------------------------------------------- */

static void digest_strings(const StringList *list, DigestStream *stream)
{
    digest_stream_update(stream, &list->count, sizeof(list->count));
    if (list->count == 0) return;
    /* each ends with its 0, so where one ends and the next begins is part of the bytes */
    digest_stream_update(stream, list->bytes, (size_t)list->starts[list->count]);
}

Status shard_digest(const Shard *shard, const InfoStore *info, Digest *out)
{
    _Static_assert(sizeof(ShardRow) == 11 * 8 + DIGEST_BYTES, "padding would be hashed");
    _Static_assert(sizeof(DatasetBucket) == 6 * 8, "padding would be hashed");
    DigestStream *stream = NULL;
    TRY(digest_stream_create(&stream));
    info_store_digest(info, stream);
    digest_stream_update(stream, shard->buckets,
                         (size_t)shard->bucket_count * sizeof(shard->buckets[0]));
    digest_stream_update(stream, shard->rows, (size_t)shard->clips * sizeof(ShardRow));
    digest_strings(&shard->sources, stream);
    digest_strings(&shard->captions, stream);
    shard_text_digest(&shard->text, stream);
    shard_condition_digest(&shard->condition, stream);
    digest_stream_finish(stream, out);
    digest_stream_destroy(stream);
    return OK;
}

void shard_clear(Shard *shard)
{
    shard->clips = 0;
    shard->bucket_count = 0;
    string_list_clear(&shard->sources);
    string_list_clear(&shard->captions);
    shard_text_clear(&shard->text);
    shard_condition_clear(&shard->condition);
}

void shard_destroy(Shard *shard)
{
    free(shard->rows);
    string_list_destroy(&shard->sources);
    string_list_destroy(&shard->captions);
    shard_text_destroy(&shard->text);
    shard_condition_destroy(&shard->condition);
    shard->rows = NULL;
    shard->clips = shard->reserved = shard->bucket_count = 0;
}
