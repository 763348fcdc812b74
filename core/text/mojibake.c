#include "core/text/mojibake.h"

#include <stdlib.h>
#include <string.h>

/* The byte that stands for the character in Latin-1, or in Windows-1252; -1: none. */
static int byte_of(uint32_t code, bool windows)
{
    if (code < 0x80 || (code >= 0xA0 && code <= 0xFF)) return (int)code;
    if (!windows) return code <= 0xFF ? (int)code : -1;
    for (uint32_t byte = 0x80; byte < 0xA0; byte++)
        if (windows_1252(byte) == code) return (int)byte;
    return -1;
}

/* What a run of UTF-8 sequences is made of. */
typedef struct Run {
    size_t bytes; /* from the first on that are UTF-8 */
    int weight;   /* above 1: it was meant as UTF-8 */
} Run;

/*
 * "Spaß…" and "raté…”" are UTF-8 by accident. One sequence alone is believed where it is a Latin-1
 * character (C2, C3), punctuation (E2), a fullwidth form (EF) or has four bytes; the first bytes of
 * other scripts only in company, as a word in them is more than a letter. ascii: the run may hold
 * some.
 */
static Run weigh(const unsigned char *s, size_t count, bool ascii)
{
    Run run = { 0 };
    while (run.bytes < count) {
        const unsigned char *at = s + run.bytes;
        const size_t n = utf8_sequence(at, count - run.bytes);
        if (n == 0 || (n == 1 && !ascii)) break;
        if (*at == 0xC2 || *at == 0xC3 || *at == 0xE2 || *at == 0xEF || n == 4) run.weight++;
        if (n > 1) run.weight++;
        run.bytes += n;
    }
    return run;
}

/* bytes (text->count) = the characters as bytes of the encoding, 0 for those that are none; whether
 * all are. */
static bool to_bytes(const CodePoints *text, bool windows, unsigned char *bytes)
{
    bool all = true;
    for (size_t i = 0; i < text->count; i++) {
        const int byte = byte_of(text->at[i], windows);
        bytes[i] = (unsigned char)(byte < 0 ? 0 : byte);
        all = all && byte >= 0;
    }
    return all;
}

/* The whole text, in one encoding or the other. */
static Status mend_whole(CodePoints *text, unsigned char *bytes, bool *changed)
{
    *changed = false;
    for (int windows = 0; windows < 2; windows++) {
        if (!to_bytes(text, windows, bytes)) continue;
        const Run run = weigh(bytes, text->count, true);
        if (run.bytes < text->count || run.weight < 2) continue;
        *changed = true;
        return code_points_from_utf8(text, "a mended text", (char *)bytes, run.bytes);
    }
    return OK;
}

/* Runs of broken characters among others: what follows a mended run moves up. */
static Status mend_runs(CodePoints *text, unsigned char *bytes, bool *changed)
{
    CodePoints mended = { 0 };
    size_t to = 0;
    Status s = OK;
    *changed = false;
    (void)to_bytes(text, true, bytes);
    for (size_t i = 0; i < text->count && s == OK;) {
        const Run run = weigh(bytes + i, text->count - i, false);
        if (run.weight < 2) {
            text->at[to++] = text->at[i++];
            continue;
        }
        s = code_points_from_utf8(&mended, "a mended text", (char *)bytes + i, run.bytes);
        for (size_t k = 0; k < mended.count && s == OK; k++) text->at[to++] = mended.at[k];
        i += run.bytes;
        *changed = true;
    }
    text->count = to;
    code_points_destroy(&mended);
    return s;
}

Status mojibake_mend(const CodePoints *in, CodePoints *out)
{
    bool changed = true;
    Status s = OK;
    for (size_t i = 0; i < in->count; i++) TRY(code_points_push(out, in->at[i]));
    unsigned char *bytes = malloc(in->count + 1);
    CHECK(bytes, ERR_MEMORY, "no memory for a text of %zu characters", in->count);
    /* each time it gets shorter */
    while (s == OK && changed) {
        s = mend_whole(out, bytes, &changed);
        if (s == OK && !changed) s = mend_runs(out, bytes, &changed);
    }
    free(bytes);
    for (size_t i = 0; i < out->count; i++) out->at[i] = windows_1252(out->at[i]);
    return s;
}
