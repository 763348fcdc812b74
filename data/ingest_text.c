#include "data/ingest_text.h"

#include "core/base/bf16.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/retry.h"
#include "core/text/text_encoder.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Rows that go through the encoder together: enough that reading a weight costs less than using it.
 */
enum { ROWS_TOGETHER = 1024, ROWS_STREAMED = 4096, CAPTIONS_TOGETHER = 256 };

/* ---- the file ------------------------------------------------------------------------------- */

/* A file that goes when it is closed, whatever happens. */
static Status open_nameless(const char *near, int *fd)
{
    char path[FILE_PATH_BYTES];
    const int n = snprintf(path, sizeof path, "%s.text.XXXXXX", near);
    CHECK(n > 0 && n < FILE_PATH_BYTES, ERR_IO, "%s: the path is too long", near);
    *fd = mkostemp(path, O_CLOEXEC);
    if (*fd < 0) return file_fail(path, "create");
    return unlink(path) == 0 ? OK : file_fail(path, "unlink");
}

static Status write_all(int fd, const void *bytes, size_t length, int64_t offset)
{
    const char *from = bytes;
    while (length > 0) {
        ssize_t n;
        RETRY(n, pwrite(fd, from, length, (off_t)offset));
        if (n < 0) return file_fail("embeddings of captions", "write");
        from += n;
        offset += n;
        length -= (size_t)n;
    }
    return OK;
}

static Status read_all(int fd, void *bytes, size_t length, int64_t offset)
{
    char *to = bytes;
    while (length > 0) {
        ssize_t n;
        RETRY(n, pread(fd, to, length, (off_t)offset));
        if (n < 0) return file_fail("embeddings of captions", "read");
        CHECK(n > 0, ERR_IO, "embeddings of captions: the file ends at byte %lld",
              (long long)offset);
        to += n;
        offset += n;
        length -= (size_t)n;
    }
    return OK;
}

/* ---- encoding ------------------------------------------------------------------------------- */

/* Captions on their way through the encoder together. */
typedef struct Batch {
    const char *captions[CAPTIONS_TOGETHER];
    int64_t count, rows;
} Batch;

typedef struct Pass {
    TextEncoder *encoder;
    IngestText *out;
    Batch batch;
    int64_t row_limit;
    int64_t done; /* captions */
    Progress progress;
} Pass;

/* The rows of a run, in place, as BF16. */
static Status narrow(Tensor rows)
{
    const int64_t count = tensor_count(rows);
    char *data = rows.data;
    for (int64_t i = 0; i < count; i++) {
        float value;
        memcpy(&value, data + i * (int64_t)sizeof value, sizeof value);
        const uint16_t half = isfinite(value) ? bf16_of_float(value) : 0x7FC0;
        CHECK(isfinite(float_of_bf16(half)), ERR_FORMAT,
              "the text encoder gave a value that is not finite");
        memcpy(data + i * (int64_t)sizeof half, &half, sizeof half);
    }
    return OK;
}

static Status encode_batch(Pass *pass)
{
    Batch *batch = &pass->batch;
    IngestText *out = pass->out;
    Tensor rows;
    if (batch->count == 0) return OK;
    TRY(text_encoder_prepare(pass->encoder, "caption", batch->captions, batch->count));
    TRY(text_encoder_run(pass->encoder, &rows));
    TRY(narrow(rows));
    const int64_t first = out->starts[pass->done];
    TRY(write_all(out->fd, rows.data, (size_t)tensor_count(rows) * sizeof(uint16_t),
                  first * out->width * (int64_t)sizeof(uint16_t)));
    for (int64_t i = 0; i < batch->count; i++)
        out->starts[pass->done + i + 1] = first + text_encoder_offsets(pass->encoder)[i + 1];
    pass->done += batch->count;
    progress_update(&pass->progress, pass->done, NULL);
    batch->count = batch->rows = 0;
    return OK;
}

static Status add_caption(Pass *pass, const char *caption)
{
    Batch *batch = &pass->batch;
    int64_t rows;
    TRY(text_encoder_count(pass->encoder, "caption", caption, &rows));
    if (batch->count == CAPTIONS_TOGETHER || batch->rows + rows > pass->row_limit)
        TRY(encode_batch(pass));
    batch->captions[batch->count++] = caption;
    batch->rows += rows;
    return OK;
}

static Status encode_captions(Pass *pass, const IngestVideo *videos, int64_t count)
{
    for (int64_t v = 0; v < count; v++) {
        const int64_t captions = pass->out->first[v + 1] - pass->out->first[v];
        for (int64_t i = 0; i < captions; i++)
            TRY(add_caption(pass, videos[v].source->captions[i]));
    }
    return encode_batch(pass);
}

static Status encode_null(TextEncoder *encoder, IngestText *out)
{
    const char *const empty[] = { "" };
    Tensor rows;
    TRY(text_encoder_prepare(encoder, "the empty caption", empty, 1));
    TRY(text_encoder_run(encoder, &rows));
    TRY(narrow(rows));
    const size_t bytes = (size_t)tensor_count(rows) * sizeof(uint16_t);
    out->null_rows = malloc(bytes);
    CHECK(out->null_rows, ERR_MEMORY, "no memory for the empty caption's embedding");
    memcpy(out->null_rows, rows.data, bytes);
    out->null_count = rows.shape[0];
    return OK;
}

/* ---- the pass ------------------------------------------------------------------------------- */

static Status reserve(const IngestVideo *videos, int64_t count, IngestText *out)
{
    out->first = calloc((size_t)count + 1, sizeof *out->first);
    CHECK(out->first, ERR_MEMORY, "no memory for the captions of %lld videos", (long long)count);
    for (int64_t v = 0; v < count; v++)
        out->first[v + 1] =
            out->first[v] + (videos[v].problem ? 0 : videos[v].source->caption_count);
    out->starts = calloc((size_t)out->first[count] + 1, sizeof *out->starts);
    CHECK(out->starts, ERR_MEMORY, "no memory for %lld captions", (long long)out->first[count]);
    return OK;
}

static Status encode_all(Pass *pass, const IngestVideo *videos, int64_t count)
{
    Digest digest;
    IngestText *out = pass->out;
    TRY(text_encoder_digest(pass->encoder, &digest));
    digest_hex(&digest, out->digest);
    TRY(encode_null(pass->encoder, out));
    progress_begin(&pass->progress, "captions", "captions", out->first[count]);
    const Status s = encode_captions(pass, videos, count);
    progress_end(&pass->progress);
    return s;
}

static Status run(const IngestOptions *opt, const Device *dev, const IngestVideo *videos,
                  int64_t count, IngestText *out)
{
    const bool narrow_weights = strcmp(opt->text_dtype, "bf16") == 0;
    const TextEncoderOptions options = { .dtype = narrow_weights ? BF16 : F32,
                                         .stream = opt->text_stream };
    Pass pass = { .out = out, .row_limit = opt->text_stream ? ROWS_STREAMED : ROWS_TOGETHER };
    TRY(text_encoder_open(dev, group_alone(), opt->text_encoder, &options, &pass.encoder));
    out->width = text_encoder_config(pass.encoder)->d_model;
    out->max_rows = text_encoder_config(pass.encoder)->max_length;
    const Status s = encode_all(&pass, videos, count);
    text_encoder_close(pass.encoder);
    return s;
}

Status ingest_text_encode(const IngestOptions *opt, const IngestVideo *videos, int64_t count,
                          const char *near, IngestText *out)
{
    IngestText text = { .fd = -1 };
    Device dev;
    TRY(device_open(&dev, "cpu", NULL, 0, false));
    Status s = open_nameless(near, &text.fd);
    if (s == OK) s = reserve(videos, count, &text);
    if (s == OK) s = run(opt, &dev, videos, count, &text);
    if (s == OK)
        *out = text;
    else
        ingest_text_destroy(&text);
    return s;
}

Status ingest_text_read(const IngestText *text, int64_t video, uint16_t **values, Tensor *captions)
{
    const int64_t first = text->first[video], last = text->first[video + 1];
    const int64_t begin = text->starts[first];
    const size_t row = (size_t)text->width * sizeof(uint16_t);
    const size_t bytes = (size_t)(text->starts[last] - begin) * row;
    uint16_t *bits = malloc(bytes);
    CHECK(bits, ERR_MEMORY, "no memory for embeddings of %zu bytes", bytes);
    const Status s = read_all(text->fd, bits, bytes, begin * (int64_t)row);
    if (s != OK) {
        free(bits);
        return s;
    }
    for (int64_t i = first; i < last; i++)
        captions[i - first] = tensor_of(bits + (text->starts[i] - begin) * text->width, BF16,
                                        SHAPE(text->starts[i + 1] - text->starts[i], text->width));
    *values = bits;
    return OK;
}

void ingest_text_destroy(IngestText *text)
{
    if (text->fd >= 0) (void)close(text->fd);
    free(text->first);
    free(text->starts);
    free(text->null_rows);
    *text = (IngestText){ .fd = -1 };
}
