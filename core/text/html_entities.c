#include "core/text/html_entities.h"

#include "core/text/html_entity_table.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_MAX = 32, CODES_MAX = 3 };

/* What one reference becomes. */
typedef struct Meaning {
    uint32_t codes[CODES_MAX];
    int count; /* 0 may be what it becomes: nothing */
} Meaning;

static Meaning one(uint32_t code)
{
    return (Meaning){ { code }, 1 };
}

/* --- names --- */

/* Whether HTML 5 has the name; bare: without its semicolon. */
static bool find_name(const char *name, size_t length, bool bare, Meaning *out)
{
    char wanted[NAME_MAX + 2];
    const unsigned char first = (unsigned char)name[0];
    if (length == 0 || length > NAME_MAX || !isalpha(first)) return false;
    const char *row = html_entity_table[isupper(first) ? first - 'A' : 26 + first - 'a'];
    wanted[0] = ' ';
    memcpy(wanted + 1, name, length);
    wanted[length + 1] = 0;
    for (row = strstr(row, wanted); row; row = strstr(row + 1, wanted)) {
        const char *at = row + length + 1;
        if (*at != '*' && (*at != '=' || bare)) continue;
        *out = (Meaning){ .count = 0 };
        while (*at != ' ') {
            char *end;
            out->codes[out->count++] = (uint32_t)strtoul(at + 1, &end, 16);
            at = end;
        }
        return true;
    }
    return false;
}

/* The longest of the name's beginnings that stands without a semicolon; 0: none. */
static size_t find_beginning(const char *name, size_t length, Meaning *out)
{
    for (size_t n = length; n >= 2; n--)
        if (find_name(name, n, true, out)) return n;
    return 0;
}

/* Python's str.upper where that is more than one letter. */
static Meaning in_capitals(Meaning m)
{
    static const Meaning longer[] = {
        { { 0xDF, 'S', 'S' }, 3 },   { { 0x149, 0x2BC, 'N' }, 3 }, { { 0xFB00, 'F', 'F' }, 3 },
        { { 0xFB01, 'F', 'I' }, 3 }, { { 0xFB02, 'F', 'L' }, 3 },
    };
    for (size_t i = 0; i < sizeof longer / sizeof longer[0]; i++)
        if (m.count == 1 && m.codes[0] == longer[i].codes[0])
            return (Meaning){ { longer[i].codes[1], longer[i].codes[2] }, 2 };
    if (m.count == 1 && m.codes[0] == 0xFB03) return (Meaning){ { 'F', 'F', 'I' }, 3 };
    if (m.count == 1 && m.codes[0] == 0xFB04) return (Meaning){ { 'F', 'F', 'L' }, 3 };
    for (int i = 0; i < m.count; i++) m.codes[i] = unicode_upper(m.codes[i]);
    return m;
}

/* A name in capitals only, of one that HTML 5 has in small letters only. */
static bool find_capitals(const char *name, size_t length, Meaning *out)
{
    char small[NAME_MAX + 1];
    Meaning m;
    if (length > NAME_MAX || find_beginning(name, length, &m) > 0) return false;
    for (size_t i = 0; i < length; i++) {
        if (islower((unsigned char)name[i])) return false;
        small[i] = (char)tolower((unsigned char)name[i]);
    }
    if (!find_name(small, length, false, &m)) return false;
    *out = in_capitals(m);
    return true;
}

/* --- numbers --- */

static bool is_nothing(uint32_t code)
{
    return (code >= 1 && code <= 8) || code == 0x0B || (code >= 0x0E && code <= 0x1F) ||
           (code >= 0x7F && code <= 0x9F) || (code >= 0xFDD0 && code <= 0xFDEF) ||
           (code & 0xFFFE) == 0xFFFE;
}

static Meaning meaning_of_number(uint32_t code)
{
    if (code == 0 || (code >= 0xD800 && code <= 0xDFFF) || code > UNICODE_LAST)
        return one(UNICODE_REPLACEMENT);
    if (code >= 0x80 && code <= 0x9F) return one(windows_1252(code));
    if (is_nothing(code)) return (Meaning){ .count = 0 };
    return one(code);
}

/* The code of an ASCII character at i, 0 for anything else. */
static char ascii_at(const CodePoints *text, size_t i)
{
    return i < text->count && text->at[i] < 0x80 ? (char)text->at[i] : 0;
}

/* "#65", "#x41" at `from`: characters it takes up, its semicolon not counted; 0: no number. */
static size_t find_number(const CodePoints *text, size_t from, Meaning *out)
{
    const bool hex = ascii_at(text, from + 1) == 'x' || ascii_at(text, from + 1) == 'X';
    const size_t digits = from + (hex ? 2 : 1);
    uint32_t code = 0;
    size_t i = digits;
    for (;; i++) {
        const unsigned char c = (unsigned char)ascii_at(text, i);
        if (hex ? !isxdigit(c) : !isdigit(c)) break;
        const uint32_t digit =
            isdigit(c) ? c - (uint32_t)'0' : (uint32_t)tolower(c) - (uint32_t)'a' + 10;
        code = code > UNICODE_LAST ? code : code * (hex ? 16 : 10) + digit;
    }
    if (i == digits) return 0;
    *out = meaning_of_number(code);
    return i - from;
}

/* --- text --- */

/* How a reference behind an "&" at from - 1 is read: characters it takes up, 0: it is none. */
typedef size_t (*Reader)(const CodePoints *text, size_t from, Meaning *out);

static size_t read_html5(const CodePoints *text, size_t from, Meaning *out)
{
    char name[NAME_MAX + 1];
    size_t length = 0;
    if (ascii_at(text, from) == '#') {
        const size_t n = find_number(text, from, out);
        return n > 0 && ascii_at(text, from + n) == ';' ? n + 1 : n;
    }
    for (; length < NAME_MAX; length++) {
        const char c = ascii_at(text, from + length);
        if (!isalnum((unsigned char)c)) break;
        name[length] = c;
    }
    /* a name is letters and digits; what HTML 5 would take behind it changes nothing */
    if (ascii_at(text, from + length) == ';' && find_name(name, length, false, out))
        return length + 1;
    return find_beginning(name, length, out);
}

static size_t read_certain(const CodePoints *text, size_t from, Meaning *out)
{
    enum { LONGEST = 24 };
    char name[LONGEST + 1];
    const bool number = ascii_at(text, from) == '#';
    const size_t first = from + (number ? 1 : 0);
    size_t length = 0;
    while (length < LONGEST && isalnum((unsigned char)ascii_at(text, first + length))) {
        name[length] = ascii_at(text, first + length);
        length++;
    }
    if (length == 0 || ascii_at(text, first + length) != ';') return 0;
    if (!number)
        return find_name(name, length, false, out) || find_capitals(name, length, out) ? length + 1
                                                                                       : 0;
    /* all of it must be the number; and a semicolon itself is left alone */
    if (find_number(text, from, out) != length + 1) return 0;
    return out->count == 1 && out->codes[0] == ';' ? 0 : length + 2;
}

static Status unescape(const CodePoints *in, CodePoints *out, Reader reader)
{
    for (size_t i = 0; i < in->count;) {
        Meaning meaning;
        const size_t n = in->at[i] == '&' ? reader(in, i + 1, &meaning) : 0;
        for (int k = 0; n > 0 && k < meaning.count; k++)
            TRY(code_points_push(out, meaning.codes[k]));
        if (n == 0) TRY(code_points_push(out, in->at[i]));
        i += n + 1;
    }
    return OK;
}

Status html_unescape(const CodePoints *in, CodePoints *out)
{
    return unescape(in, out, read_html5);
}

Status html_unescape_certain(const CodePoints *in, CodePoints *out)
{
    return unescape(in, out, read_certain);
}
