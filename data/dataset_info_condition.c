/* What a shard says of its clips' conditions: of which frames, and whose image tokens. */
#include "data/dataset_info.h"

#include <string.h>

enum { MAX_ROWS = 65536, MAX_WIDTH = 16384 };

static Status check(const DatasetInfo *info, const char *where)
{
    Digest digest;
    CHECK(info->condition > CONDITION_NONE && info->condition < CONDITION_KINDS, ERR_FORMAT,
          "%s: condition is %d, not 1 .. %d", where, (int)info->condition, CONDITION_KINDS - 1);
    CHECK(info->image_width >= 0 && info->image_width <= MAX_WIDTH && info->image_rows >= 0 &&
              info->image_rows <= MAX_ROWS && (info->image_rows > 0) == (info->image_width > 0),
          ERR_FORMAT, "%s: %lld image tokens of %lld values a clip, not up to %d of up to %d",
          where, (long long)info->image_rows, (long long)info->image_width, MAX_ROWS, MAX_WIDTH);
    if (info->image_width == 0) return OK;
    CHECK(digest_parse(info->image_digest, &digest) == OK, ERR_FORMAT,
          "%s: image_digest is not 64 hexadecimal digits", where);
    return OK;
}

Status info_condition_copy(const DatasetInfo *info, const char *where, InfoStore *store)
{
    DatasetInfo *view = &store->view;
    CHECK(info->condition != CONDITION_NONE || info->image_width == 0, ERR_FORMAT,
          "%s: image tokens of a clip without a condition", where);
    if (info->condition == CONDITION_NONE) return OK;
    TRY(check(info, where));
    view->condition = info->condition;
    view->image_rows = info->image_rows;
    view->image_width = info->image_width;
    if (info->image_width > 0) strcpy(store->image_digest, info->image_digest);
    return OK;
}

Status info_condition_write(const InfoStore *store, H5File *file)
{
    const DatasetInfo *info = &store->view;
    if (info->condition == CONDITION_NONE) return OK;
    TRY(h5_write_i64(file, "condition", info->condition));
    TRY(h5_write_i64(file, "image_rows", info->image_rows));
    TRY(h5_write_i64(file, "image_width", info->image_width));
    return info->image_width > 0 ? h5_write_text(file, "image_digest", info->image_digest) : OK;
}

Status info_condition_read(H5File *file, InfoStore *store)
{
    DatasetInfo *info = &store->view;
    int64_t version, kind;
    TRY(h5_read_i64(file, "version", &version));
    if (version != DATASET_VERSION_CONDITION) return OK;
    TRY(h5_read_i64(file, "condition", &kind));
    CHECK(kind > CONDITION_NONE && kind < CONDITION_KINDS, ERR_FORMAT,
          "%s: condition is %lld, not 1 .. %d", h5_path(file), (long long)kind,
          CONDITION_KINDS - 1);
    info->condition = (ConditionKind)kind;
    TRY(h5_read_i64(file, "image_rows", &info->image_rows));
    TRY(h5_read_i64(file, "image_width", &info->image_width));
    if (info->image_width > 0) TRY(h5_read_text(file, "image_digest", store->image_digest));
    return check(info, h5_path(file));
}

bool info_condition_equal(const InfoStore *a, const InfoStore *b)
{
    const DatasetInfo *x = &a->view, *y = &b->view;
    return x->condition == y->condition && x->image_rows == y->image_rows &&
           x->image_width == y->image_width && strcmp(a->image_digest, b->image_digest) == 0;
}

void info_condition_digest(const InfoStore *store, DigestStream *stream)
{
    const DatasetInfo *info = &store->view;
    if (info->condition == CONDITION_NONE) return;
    const int64_t numbers[] = { info->condition, info->image_rows, info->image_width };
    digest_stream_update(stream, numbers, sizeof(numbers));
    digest_stream_update(stream, store->image_digest, strlen(store->image_digest) + 1);
}
