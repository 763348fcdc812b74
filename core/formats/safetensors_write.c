/* The writing half of core/formats/safetensors.h. */
#include "core/formats/safetensors.h"

#include "core/base/file.h"
#include "core/base/json_writer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct SafetensorsWriter {
    FileWriter file;
    DigestStream *digest;  /* owned */
    int64_t written, size; /* bytes of the whole file */
};

static void describe_tensor(JsonWriter *w, const SafetensorsSpec *spec, int64_t begin, int64_t end)
{
    json_begin_object(w, spec->name);
    json_write_string(w, "dtype", dtype_name(spec->dtype));
    json_begin_array(w, "shape");
    for (int i = 0; i < spec->shape.ndim; i++) json_write_int(w, NULL, spec->shape.dims[i]);
    json_end_array(w);
    json_begin_array(w, "data_offsets");
    json_write_int(w, NULL, begin);
    json_write_int(w, NULL, end);
    json_end_array(w);
    json_end_object(w);
}

/* The header, padded with spaces so that the data begins at a multiple of 8. */
static Status make_header(const SafetensorsSpec *specs, int64_t count, const char *const *metadata,
                          char **header, size_t *length, int64_t *data_bytes)
{
    JsonWriter w = json_writer(0);
    char *text = NULL;
    int64_t end = 0;
    json_begin_object(&w, NULL);
    if (metadata) {
        json_begin_object(&w, "__metadata__");
        for (int64_t i = 0; metadata[i]; i += 2)
            json_write_string(&w, metadata[i], metadata[i + 1]);
        json_end_object(&w);
    }
    for (int64_t i = 0; i < count; i++) {
        const int64_t begin = end;
        end += (int64_t)tensor_bytes(tensor_of(NULL, specs[i].dtype, specs[i].shape));
        describe_tensor(&w, &specs[i], begin, end);
    }
    json_end_object(&w);
    TRY(json_writer_finish(&w, &text, length));
    const size_t padded = (*length + 7) / 8 * 8;
    char *grown = realloc(text, padded + 1);
    if (!grown) {
        free(text);
        return status_fail(ERR_MEMORY, "no memory for a header of %zu bytes", padded);
    }
    memset(grown + *length, ' ', padded - *length);
    *header = grown;
    *length = padded;
    *data_bytes = end;
    return OK;
}

static Status put(SafetensorsWriter *writer, const void *bytes, size_t length)
{
    TRY(file_writer_write(&writer->file, bytes, length));
    digest_stream_update(writer->digest, bytes, length);
    writer->written += (int64_t)length;
    return OK;
}

Status safetensors_create(const char *path, const SafetensorsSpec *specs, int64_t count,
                          const char *const *metadata, SafetensorsWriter **out)
{
    Status s = OK;
    char *header = NULL;
    size_t length = 0;
    int64_t data_bytes = 0;
    uint8_t prefix[8];
    SafetensorsWriter *writer = calloc(1, sizeof *writer);
    CHECK(writer, ERR_MEMORY, "%s: no memory to write it", path);
    file_writer_none(&writer->file);

    TRY_TO(fail, s, make_header(specs, count, metadata, &header, &length, &data_bytes));
    CHECK_TO(fail, s, count <= SAFETENSORS_MAX_TENSORS && length <= SAFETENSORS_MAX_HEADER,
             ERR_FORMAT, "%s: %lld tensors make a header of %zu bytes, more than can be read back",
             path, (long long)count, length);
    TRY_TO(fail, s, digest_stream_create(&writer->digest));
    TRY_TO(fail, s, file_writer_open(&writer->file, path));
    writer->size = 8 + (int64_t)length + data_bytes;
    file_writer_expect(&writer->file, writer->size);
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)(length >> 8 * i);
    TRY_TO(fail, s, put(writer, prefix, sizeof prefix));
    TRY_TO(fail, s, put(writer, header, length));
    free(header);
    *out = writer;
    return OK;
fail:
    free(header);
    safetensors_abandon(writer);
    return s;
}

Status safetensors_write(SafetensorsWriter *writer, const void *bytes, size_t length)
{
    assert((int64_t)length <= writer->size - writer->written);
    return put(writer, bytes, length);
}

Status safetensors_finish(SafetensorsWriter *writer, Digest *digest, int64_t *size)
{
    assert(writer->written == writer->size);
    const Status s = file_writer_commit(&writer->file);
    if (s == OK && digest) digest_stream_finish(writer->digest, digest);
    if (s == OK && size) *size = writer->size;
    safetensors_abandon(writer);
    return s;
}

void safetensors_abandon(SafetensorsWriter *writer)
{
    if (!writer) return;
    file_writer_abandon(&writer->file);
    digest_stream_destroy(writer->digest);
    free(writer);
}
