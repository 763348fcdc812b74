#include "core/text/prompt_clean.h"

#include "core/text/html_entities.h"
#include "core/text/mojibake.h"

#include <stdlib.h>

/* One step of the cleaning: out, empty before, from in. */
typedef Status (*Step)(const CodePoints *in, CodePoints *out);

static Status push_all(CodePoints *out, const uint32_t *codes, int count)
{
    for (int i = 0; i < count; i++) TRY(code_points_push(out, codes[i]));
    return OK;
}

/* --- letters and their widths --- */

/* Ligatures that ftfy takes apart: Dutch, Afrikaans, Serbian and Croatian digraphs, typography. */
static bool is_ligature(uint32_t code)
{
    return code == 0x0132 || code == 0x0133 || code == 0x0149 ||
           (code >= 0x01C4 && code <= 0x01CC) || (code >= 0x01F1 && code <= 0x01F3) ||
           (code >= 0xFB00 && code <= 0xFB06);
}

/* The ideographic space, fullwidth and halfwidth forms. */
static bool has_a_width(uint32_t code)
{
    return code == 0x3000 || (code >= 0xFF01 && code <= 0xFFEF);
}

static Status take_apart(const CodePoints *in, CodePoints *out)
{
    static const uint32_t long_st[] = { 0x17F, 't' }; /* whose long s stays */
    for (size_t i = 0; i < in->count; i++) {
        uint32_t parts[UNICODE_LONGEST] = { in->at[i] };
        int n = 1;
        if (in->at[i] == 0xFB05) {
            TRY(push_all(out, long_st, 2));
            continue;
        }
        if (is_ligature(in->at[i]) || has_a_width(in->at[i]))
            n = unicode_compatible(in->at[i], parts);
        TRY(push_all(out, parts, n));
    }
    return OK;
}

/* --- quotes and line breaks --- */

static uint32_t straight(uint32_t code)
{
    if (code == 0x02BC || (code >= 0x2018 && code <= 0x201B)) return '\'';
    if (code >= 0x201C && code <= 0x201F) return '"';
    return code;
}

static bool is_line_break(uint32_t code)
{
    return code == '\r' || code == 0x85 || code == 0x2028 || code == 0x2029;
}

static Status straighten(const CodePoints *in, CodePoints *out)
{
    for (size_t i = 0; i < in->count; i++) {
        const bool crlf = in->at[i] == '\r' && i + 1 < in->count && in->at[i + 1] == '\n';
        if (crlf) continue;
        TRY(code_points_push(out, is_line_break(in->at[i]) ? '\n' : straight(in->at[i])));
    }
    return OK;
}

/* --- what terminals and machines are told --- */

/* Characters of "ESC [ digits and semicolons, a letter" at i, 0: it is none. */
static size_t escape_at(const CodePoints *text, size_t i)
{
    size_t n = i;
    if (text->at[n++] != 0x1B || n == text->count || text->at[n++] != '[') return 0;
    while (n < text->count && ((text->at[n] >= '0' && text->at[n] <= '9') || text->at[n] == ';'))
        n++;
    if (n == text->count) return 0;
    const uint32_t small = text->at[n] | 0x20;
    return small >= 'a' && small <= 'z' ? n + 1 - i : 0;
}

static bool is_control(uint32_t code)
{
    return code <= 0x08 || code == 0x0B || (code >= 0x0E && code <= 0x1F) || code == 0x7F ||
           (code >= 0x206A && code <= 0x206F) || code == 0xFEFF ||
           (code >= 0xFFF9 && code <= 0xFFFC);
}

static Status drop_controls(const CodePoints *in, CodePoints *out)
{
    for (size_t i = 0; i < in->count;) {
        const size_t escape = escape_at(in, i);
        if (escape == 0 && !is_control(in->at[i])) TRY(code_points_push(out, in->at[i]));
        i += escape > 0 ? escape : 1;
    }
    return OK;
}

/* --- ftfy --- */

/* text = step(text); `spare` is room. */
static Status apply(Step step, CodePoints *text, CodePoints *spare)
{
    spare->count = 0;
    TRY(step(text, spare));
    const CodePoints swap = *text;
    *text = *spare;
    *spare = swap;
    return OK;
}

static Status copy(CodePoints *to, const CodePoints *from)
{
    to->count = 0;
    for (size_t i = 0; i < from->count; i++) TRY(code_points_push(to, from->at[i]));
    return OK;
}

/* One line, until nothing changes. before, spare: room. */
static Status fix_line(CodePoints *line, bool references, CodePoints *before, CodePoints *spare)
{
    static const Step steps[] = { mojibake_mend, take_apart, straighten, drop_controls,
                                  unicode_nfc };
    do {
        TRY(copy(before, line));
        if (references) TRY(apply(html_unescape_certain, line, spare));
        for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
            TRY(apply(steps[i], line, spare));
    } while (!code_points_equal(before, line));
    return OK;
}

static Status fix_lines(const CodePoints *in, CodePoints *out, CodePoints room[3])
{
    bool references = true; /* a "<" says that this is HTML and means what it says */
    for (size_t i = 0; i < in->count;) {
        CodePoints *line = &room[0];
        line->count = 0;
        bool end = false;
        for (; i < in->count && !end; i++) {
            end = in->at[i] == '\n';
            if (in->at[i] == '<') references = false;
            TRY(code_points_push(line, in->at[i]));
        }
        TRY(fix_line(line, references, &room[1], &room[2]));
        for (size_t k = 0; k < line->count; k++) TRY(code_points_push(out, line->at[k]));
    }
    return OK;
}

/* --- white space --- */

static Status one_space(const CodePoints *in, CodePoints *out)
{
    bool waiting = false;
    for (size_t i = 0; i < in->count; i++) {
        if (unicode_is_space(in->at[i])) {
            waiting = out->count > 0;
            continue;
        }
        if (waiting) TRY(code_points_push(out, ' '));
        waiting = false;
        TRY(code_points_push(out, in->at[i]));
    }
    return OK;
}

Status prompt_clean(const char *what, const char *prompt, size_t bytes, char **clean)
{
    static const Step steps[] = { html_unescape, html_unescape, one_space };
    CodePoints given = { 0 }, text = { 0 }, room[3] = { { 0 } };
    Status s = OK;
    CHECK(bytes <= PROMPT_BYTES_MAX, ERR_USAGE, "%s has %zu bytes; at most %d are taken", what,
          bytes, PROMPT_BYTES_MAX);
    TRY_TO(done, s, code_points_from_utf8(&given, what, prompt, bytes));
    TRY_TO(done, s, fix_lines(&given, &text, room));
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        TRY_TO(done, s, apply(steps[i], &text, &room[0]));
    TRY_TO(done, s, code_points_to_utf8(&text, clean, NULL));
done:
    code_points_destroy(&given);
    code_points_destroy(&text);
    for (int i = 0; i < 3; i++) code_points_destroy(&room[i]);
    return s;
}
