#include "data/png.h"

#include "core/base/file.h"
#include "data/encoder.h"

#include <libavutil/crc.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { COMMENT_MAX = 1 << 20 };

static unsigned char *put_u32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (unsigned char)(value >> (24 - 8 * i));
    return at + 4;
}

Status png_comment_chunk(const char *comment, unsigned char **chunk, size_t *size)
{
    /* type, keyword, 0; not compressed: 0, 0; no language: 0; no translated keyword: 0 */
    static const unsigned char head[] = "iTXtComment\0\0\0\0";
    const size_t length = strlen(comment), body = sizeof(head) + length;
    unsigned char *bytes, *at;
    uint32_t crc;

    CHECK(length <= COMMENT_MAX, ERR_USAGE, "a comment of %zu bytes is longer than %d", length,
          COMMENT_MAX);
    bytes = malloc(body + 8);
    CHECK(bytes, ERR_MEMORY, "no memory for a comment of %zu bytes", length);

    /* a chunk is its length without the type, the type, the data, and a CRC over type and data */
    at = put_u32(bytes, (uint32_t)(body - 4));
    memcpy(at, head, sizeof(head));
    memcpy(at + sizeof(head), comment, length);
    crc = av_crc(av_crc_get_table(AV_CRC_32_IEEE_LE), UINT32_MAX, at, body);
    put_u32(at + body, ~crc);
    *chunk = bytes;
    *size = body + 8;
    return OK;
}

static Status encode(Encoder *encoder, Tensor image)
{
    const EncoderOptions options = {
        .kind = ENCODER_PNG,
        .width = (int)image.shape[1],
        .height = (int)image.shape[0],
        .fps = { 1, 1 },
    };
    bool got = false;

    assert(image.dtype == U8 && image.ndim == 3 && image.shape[2] == 3);
    TRY(encoder_open(encoder, &options));
    TRY(encoder_send(encoder, image.data));
    TRY(encoder_send(encoder, NULL));
    TRY(encoder_receive(encoder, &got));
    CHECK(got && encoder->packet->size > PNG_HEAD_BYTES, ERR_DEVICE,
          "the PNG encoder gave no picture");
    return OK;
}

Status png_write(const char *path, Tensor image, const char *comment)
{
    Encoder encoder = { 0 };
    FileWriter writer;
    unsigned char *chunk = NULL;
    size_t chunk_size = 0;
    const unsigned char *png;
    Status s = OK;

    file_writer_none(&writer);
    TRY_TO(done, s, encode(&encoder, image));
    if (comment) TRY_TO(done, s, png_comment_chunk(comment, &chunk, &chunk_size));

    png = encoder.packet->data;
    TRY_TO(done, s, file_writer_open(&writer, path));
    TRY_TO(done, s, file_writer_write(&writer, png, PNG_HEAD_BYTES));
    if (chunk) TRY_TO(done, s, file_writer_write(&writer, chunk, chunk_size));
    TRY_TO(done, s,
           file_writer_write(&writer, png + PNG_HEAD_BYTES,
                             (size_t)encoder.packet->size - PNG_HEAD_BYTES));
    TRY_TO(done, s, file_writer_commit(&writer));
done:
    file_writer_abandon(&writer);
    free(chunk);
    encoder_close(&encoder);
    return s;
}
