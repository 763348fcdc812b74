#include "core/base/base64.h"

#include <stdlib.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

Status base64_encode(const void *bytes, size_t length, char **text)
{
    const uint8_t *in = bytes;
    char *out = malloc((length + 2) / 3 * 4 + 1), *next = out;
    CHECK(out, ERR_MEMORY, "base64: no memory for %zu bytes", length);
    for (size_t i = 0; i < length; i += 3) {
        const size_t left = length - i;
        const uint32_t group = (uint32_t)in[i] << 16 | (left > 1 ? (uint32_t)in[i + 1] << 8 : 0) |
                               (left > 2 ? in[i + 2] : 0);
        *next++ = alphabet[group >> 18];
        *next++ = alphabet[group >> 12 & 63];
        *next++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *next++ = left > 2 ? alphabet[group & 63] : '=';
    }
    *next = 0;
    *text = out;
    return OK;
}

/* 0 to 63; -1 for any other character. */
static int value_of(char c)
{
    const char *place = c ? strchr(alphabet, c) : NULL;
    return place ? (int)(place - alphabet) : -1;
}

/* `count` characters without padding, a multiple of four or two or three more. */
static Status decode(const char *text, size_t count, const char *what, uint8_t *out)
{
    uint32_t bits = 0;
    int held = 0;
    for (size_t i = 0; i < count; i++) {
        const int value = value_of(text[i]);
        CHECK(value >= 0, ERR_FORMAT, "%s: is not base64 at character %zu", what, i + 1);
        bits = bits << 6 | (uint32_t)value;
        held += 6;
        if (held < 8) continue;
        held -= 8;
        *out++ = (uint8_t)(bits >> held);
        bits &= (1U << held) - 1;
    }
    CHECK(bits == 0, ERR_FORMAT, "%s: is not base64: bits are set behind its last byte", what);
    return OK;
}

Status base64_decode(const char *text, const char *what, uint8_t **bytes, size_t *length)
{
    size_t count = strlen(text);
    CHECK(count % 4 == 0, ERR_FORMAT, "%s: is not base64: %zu characters are no multiple of 4",
          what, count);
    for (int i = 0; i < 2 && count > 0 && text[count - 1] == '='; i++) count--;
    uint8_t *out = malloc(count / 4 * 3 + 3);
    CHECK(out, ERR_MEMORY, "%s: no memory for its %zu characters", what, count);
    const Status s = decode(text, count, what, out);
    if (s != OK) {
        free(out);
        return s;
    }
    *length = count * 3 / 4;
    out[*length] = 0;
    *bytes = out;
    return OK;
}
