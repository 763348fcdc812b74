#include "core/text/byte_tokens.h"

#include "core/text/unicode.h"

#include <stdbool.h>
#include <string.h>

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

/* Bytes of the caption that fit: all of them, or as many whole characters as `most` bytes hold. */
static int64_t bytes_that_fit(const char *caption, int64_t most)
{
    const int64_t n = (int64_t)strlen(caption);
    if (n <= most) return n;
    int64_t cut = most;
    while (cut > 0 && is_continuation((unsigned char)caption[cut])) cut--;
    return cut;
}

void byte_tokens_encode(const char *const *captions, Tensor ids, Tensor lengths)
{
    const int64_t length = ids.shape[1];
    for (int64_t b = 0; b < ids.shape[0]; b++) {
        int32_t *row = (int32_t *)ids.data + b * length;
        const int64_t n = bytes_that_fit(captions[b], length - 1);
        for (int64_t i = 0; i < n; i++) row[i] = BYTE_TOKEN_FIRST + (unsigned char)captions[b][i];
        row[n] = BYTE_TOKEN_END;
        for (int64_t i = n + 1; i < length; i++) row[i] = BYTE_TOKEN_PAD;
        ((int32_t *)lengths.data)[b] = (int32_t)(n + 1);
    }
}

Status byte_tokens_check(const char *what, const char *text, size_t bytes)
{
    CHECK(bytes > 0, ERR_USAGE, "%s is empty; say what the video should show", what);
    CHECK(bytes <= CAPTION_BYTES_MAX, ERR_USAGE, "%s has %zu bytes; at most %d are taken", what,
          bytes, CAPTION_BYTES_MAX);
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < bytes;) {
        const size_t n = utf8_sequence(s + i, bytes - i);
        CHECK(n > 0, ERR_USAGE, "%s is not UTF-8: byte 0x%02x at offset %zu", what, s[i], i);
        /* U+0080 to U+009F are C2 80 to C2 9F; a terminal takes U+009B for an escape */
        const unsigned code = s[i] == 0xC2 ? s[i + 1] : s[i];
        const bool control = n == 1 ? code < 0x20 || code == 0x7F : s[i] == 0xC2 && code < 0xA0;
        CHECK(!control, ERR_USAGE, "%s holds the control character 0x%02x at offset %zu", what,
              code, i);
        i += n;
    }
    return OK;
}
