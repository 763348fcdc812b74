#include "core/base/json_writer.h"

#include "core/base/file.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

JsonWriter json_writer(int indent)
{
    return (JsonWriter){ .indent = indent, .first = true };
}

/* --- text that grows --- */

static void put_bytes(JsonWriter *w, const char *bytes, size_t length)
{
    if (w->status != OK) return;
    if (length > w->capacity - w->length) {
        const size_t capacity = 2 * (w->length + length) + 256;
        char *text = realloc(w->text, capacity);
        if (!text) {
            w->status = status_fail(ERR_MEMORY, "no memory for %zu bytes of JSON", capacity);
            return;
        }
        w->text = text;
        w->capacity = capacity;
    }
    memcpy(w->text + w->length, bytes, length);
    w->length += length;
}

static void put(JsonWriter *w, const char *text)
{
    put_bytes(w, text, strlen(text));
}

static void put_line_break(JsonWriter *w)
{
    if (w->indent == 0) return;
    put(w, "\n");
    for (int i = 0; i < w->depth * w->indent; i++) put(w, " ");
}

/* --- strings --- */

/* Length of the UTF-8 sequence at p, or 0 when it is not one. */
static size_t utf8_sequence(const unsigned char *p, size_t left)
{
    /* first byte range, length, and the range of the second byte, which rules out overlong forms,
     * surrogates and what is beyond U+10FFFF (Unicode, table 3-7) */
    static const struct {
        unsigned char first, last, length, low, high;
    } rows[] = {
        { 0x01, 0x7f, 1, 0, 0 },       { 0xc2, 0xdf, 2, 0x80, 0xbf }, { 0xe0, 0xe0, 3, 0xa0, 0xbf },
        { 0xe1, 0xec, 3, 0x80, 0xbf }, { 0xed, 0xed, 3, 0x80, 0x9f }, { 0xee, 0xef, 3, 0x80, 0xbf },
        { 0xf0, 0xf0, 4, 0x90, 0xbf }, { 0xf1, 0xf3, 4, 0x80, 0xbf }, { 0xf4, 0xf4, 4, 0x80, 0x8f },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (p[0] < rows[i].first || p[0] > rows[i].last) continue;
        const size_t length = rows[i].length;
        if (length > left) return 0;
        if (length > 1 && (p[1] < rows[i].low || p[1] > rows[i].high)) return 0;
        for (size_t k = 2; k < length; k++)
            if (p[k] < 0x80 || p[k] > 0xbf) return 0;
        return length;
    }
    return p[0] == 0 ? 1 : 0;
}

bool json_utf8_valid(const char *text, size_t length)
{
    const unsigned char *p = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        const size_t n = utf8_sequence(p + i, length - i);
        if (n == 0) return false;
        i += n;
    }
    return true;
}

static void put_string(JsonWriter *w, const char *text)
{
    if (!json_utf8_valid(text, strlen(text))) {
        if (w->status == OK)
            w->status = status_fail(ERR_FORMAT, "text \"%.60s\" is not UTF-8", text);
        return;
    }
    put(w, "\"");
    for (const char *c = text; *c; c++) {
        char escape[8];
        if (*c == '"' || *c == '\\')
            (void)snprintf(escape, sizeof escape, "\\%c", *c);
        else if (*c == '\n')
            (void)snprintf(escape, sizeof escape, "\\n");
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            (void)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*c);
        else
            (void)snprintf(escape, sizeof escape, "%c", *c);
        put(w, escape);
    }
    put(w, "\"");
}

/* --- structure --- */

/* What stands before every value: a comma, a line break, the key. */
static void put_key(JsonWriter *w, const char *key)
{
    if (!w->first) put(w, ",");
    if (w->flat_from > 0) {
        if (!w->first && w->indent > 0) put(w, " ");
    } else if (w->depth > 0) {
        put_line_break(w);
    }
    w->first = false;
    if (!key) return;
    put_string(w, key);
    put(w, w->indent > 0 ? ": " : ":");
}

void json_begin_object(JsonWriter *w, const char *key)
{
    put_key(w, key);
    put(w, "{");
    w->depth++;
    w->first = true;
}

void json_end_object(JsonWriter *w)
{
    assert(w->depth > 0);
    w->depth--;
    if (!w->first && w->flat_from == 0) put_line_break(w);
    put(w, "}");
    w->first = false;
}

void json_begin_array(JsonWriter *w, const char *key)
{
    put_key(w, key);
    put(w, "[");
    w->depth++;
    if (w->flat_from == 0) w->flat_from = w->depth;
    w->first = true;
}

void json_end_array(JsonWriter *w)
{
    assert(w->depth > 0);
    if (w->flat_from == w->depth) w->flat_from = 0;
    w->depth--;
    put(w, "]");
    w->first = false;
}

/* --- values --- */

void json_write_int(JsonWriter *w, const char *key, int64_t value)
{
    char text[32];
    (void)snprintf(text, sizeof text, "%lld", (long long)value);
    put_key(w, key);
    put(w, text);
}

void json_write_real(JsonWriter *w, const char *key, double value)
{
    char text[40];
    put_key(w, key);
    if (!isfinite(value)) {
        if (w->status == OK)
            w->status = status_fail(ERR_FORMAT, "\"%s\" is %g, which JSON cannot say",
                                    key ? key : "a number", value);
        return;
    }
    /* the program never sets a locale, so the decimal point is a point */
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    /* stays a real number for readers that tell the two apart */
    if (!strpbrk(text, ".e")) (void)strcat(text, ".0");
    put(w, text);
}

void json_write_bool(JsonWriter *w, const char *key, bool value)
{
    put_key(w, key);
    put(w, value ? "true" : "false");
}

void json_write_null(JsonWriter *w, const char *key)
{
    put_key(w, key);
    put(w, "null");
}

void json_write_string(JsonWriter *w, const char *key, const char *value)
{
    put_key(w, key);
    if (value)
        put_string(w, value);
    else
        put(w, "null");
}

Status json_writer_finish(JsonWriter *w, char **text, size_t *length)
{
    assert(w->depth == 0);
    put_bytes(w, "", 1);
    const Status s = w->status;
    if (s == OK) {
        *text = w->text;
        *length = w->length - 1;
    } else {
        free(w->text);
    }
    *w = json_writer(w->indent);
    return s;
}

Status json_writer_view(JsonWriter *w, const char **text, size_t *length)
{
    assert(w->depth == 0);
    put_bytes(w, "", 1);
    const Status s = w->status;
    if (s == OK) {
        *text = w->text;
        *length = w->length - 1;
    }
    *w = (JsonWriter){
        .text = w->text, .capacity = w->capacity, .indent = w->indent, .first = true
    };
    return s;
}

void json_writer_destroy(JsonWriter *w)
{
    free(w->text);
    *w = json_writer(w->indent);
}

Status json_writer_save(JsonWriter *w, const char *path)
{
    char *text = NULL;
    size_t length = 0;
    put(w, "\n");
    TRY(json_writer_finish(w, &text, &length));
    const Status s = file_write(path, text, length);
    free(text);
    return s;
}
