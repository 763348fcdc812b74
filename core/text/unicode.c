#include "core/text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static bool is_continuation(unsigned char byte)
{
    return (byte & 0xC0) == 0x80;
}

size_t utf8_sequence(const unsigned char *s, size_t left)
{
    if (s[0] < 0x80) return 1;
    size_t n = 0;
    unsigned char low = 0x80, high = 0xBF; /* range of the second byte */
    if (s[0] >= 0xC2 && s[0] <= 0xDF)
        n = 2;
    else if (s[0] >= 0xE0 && s[0] <= 0xEF)
        n = 3;
    else if (s[0] >= 0xF0 && s[0] <= 0xF4)
        n = 4;
    if (n == 0 || n > left) return 0;
    if (s[0] == 0xE0) low = 0xA0;  /* no overlong forms */
    if (s[0] == 0xED) high = 0x9F; /* no surrogates */
    if (s[0] == 0xF0) low = 0x90;
    if (s[0] == 0xF4) high = 0x8F; /* nothing above U+10FFFF */
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < n; i++) {
        if (!is_continuation(s[i])) return 0;
    }
    return n;
}

void code_points_destroy(CodePoints *text)
{
    if (!text) return;
    free(text->at);
    *text = (CodePoints){ 0 };
}

Status code_points_push(CodePoints *text, uint32_t code)
{
    if (text->count == text->room) {
        const size_t room = text->room ? 2 * text->room : 256;
        uint32_t *at = realloc(text->at, room * sizeof *at);
        CHECK(at, ERR_MEMORY, "no memory for a text of %zu characters", room);
        text->at = at;
        text->room = room;
    }
    text->at[text->count++] = code;
    return OK;
}

/* s holds a whole sequence of n bytes. */
static uint32_t decode(const unsigned char *s, size_t n)
{
    static const unsigned char lead_bits[] = { 0, 0x7F, 0x1F, 0x0F, 0x07 };
    uint32_t code = s[0] & lead_bits[n];
    for (size_t i = 1; i < n; i++) code = code << 6 | (s[i] & 0x3Fu);
    return code;
}

static size_t encode(uint32_t code, unsigned char *s)
{
    static const unsigned char lead[] = { 0, 0, 0xC0, 0xE0, 0xF0 };
    const size_t n = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        s[i] = (unsigned char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    s[0] = (unsigned char)(lead[n] | code);
    return n;
}

Status code_points_from_utf8(CodePoints *text, const char *what, const char *utf8, size_t bytes)
{
    const unsigned char *s = (const unsigned char *)utf8;
    text->count = 0;
    for (size_t i = 0; i < bytes;) {
        const size_t n = utf8_sequence(s + i, bytes - i);
        CHECK(n > 0, ERR_USAGE, "%s is not UTF-8: byte 0x%02x at offset %zu", what, s[i], i);
        TRY(code_points_push(text, decode(s + i, n)));
        i += n;
    }
    return OK;
}

Status code_points_to_utf8(const CodePoints *text, char **utf8, size_t *bytes)
{
    unsigned char *s = malloc(4 * text->count + 1);
    size_t length = 0;
    CHECK(s, ERR_MEMORY, "no memory for a text of %zu characters", text->count);
    for (size_t i = 0; i < text->count; i++) length += encode(text->at[i], s + length);
    s[length] = 0;
    *utf8 = (char *)s;
    if (bytes) *bytes = length;
    return OK;
}

bool code_points_equal(const CodePoints *a, const CodePoints *b)
{
    if (a->count != b->count) return false;
    return a->count == 0 || memcmp(a->at, b->at, a->count * sizeof *a->at) == 0;
}

Status unicode_nfc(const CodePoints *in, CodePoints *out)
{
    char *utf8;
    size_t bytes;
    utf8proc_uint8_t *composed = NULL;
    TRY(code_points_to_utf8(in, &utf8, &bytes));
    const utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)utf8, (utf8proc_ssize_t)bytes,
                                            &composed, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    free(utf8);
    CHECK(n >= 0, ERR_MEMORY, "a text of %zu characters cannot be normalised: %s", in->count,
          utf8proc_errmsg(n));
    const Status s = code_points_from_utf8(out, "a normalised text", (char *)composed, (size_t)n);
    free(composed);
    return s;
}

int unicode_compatible(uint32_t code, uint32_t out[UNICODE_LONGEST])
{
    utf8proc_int32_t parts[UNICODE_LONGEST];
    const utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)code, parts, UNICODE_LONGEST,
                                UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, NULL);
    if (n < 1 || n > UNICODE_LONGEST) {
        out[0] = code;
        return 1;
    }
    for (utf8proc_ssize_t i = 0; i < n; i++) out[i] = (uint32_t)parts[i];
    return (int)n;
}

uint32_t unicode_upper(uint32_t code)
{
    return (uint32_t)utf8proc_toupper((utf8proc_int32_t)code);
}

uint32_t windows_1252(uint32_t byte)
{
    static const uint16_t codes[32] = {
        0x20AC, 0x81,   0x201A, 0x0192, 0x201E, 0x2026, 0x2020, 0x2021, 0x02C6, 0x2030, 0x0160,
        0x2039, 0x0152, 0x8D,   0x017D, 0x8F,   0x90,   0x2018, 0x2019, 0x201C, 0x201D, 0x2022,
        0x2013, 0x2014, 0x02DC, 0x2122, 0x0161, 0x203A, 0x0153, 0x9D,   0x017E, 0x0178,
    };
    return byte >= 0x80 && byte < 0xA0 ? codes[byte - 0x80] : byte;
}

bool unicode_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
           code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
           code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}
