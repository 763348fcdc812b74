/*
 * unicode: text as code points: UTF-8 in and out, NFC, upper case, white space. Owns utf8proc.
 *
 * Not collective.
 */
#ifndef ZT_CORE_TEXT_UNICODE_H
#define ZT_CORE_TEXT_UNICODE_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { UNICODE_REPLACEMENT = 0xFFFD, UNICODE_LAST = 0x10FFFF, UNICODE_LONGEST = 18 };

/* Length of the UTF-8 sequence at s (Unicode, table 3-7), 0 when it is not one; left > 0. */
size_t utf8_sequence(const unsigned char *s, size_t left);

/* A text that grows. Zero is the empty one. */
typedef struct CodePoints {
    uint32_t *at; /* owned */
    size_t count, room;
} CodePoints;

void code_points_destroy(CodePoints *text);
/* ERR_MEMORY. */
Status code_points_push(CodePoints *text, uint32_t code);
/* text = the UTF-8; ERR_USAGE names the byte that is not, after `what`. */
Status code_points_from_utf8(CodePoints *text, const char *what, const char *utf8, size_t bytes);
/* The caller frees *utf8, which ends with a 0 that *bytes (may be NULL) does not count. */
Status code_points_to_utf8(const CodePoints *text, char **utf8, size_t *bytes);
bool code_points_equal(const CodePoints *a, const CodePoints *b);

/* out = in in normalisation form C; out is empty before. */
Status unicode_nfc(const CodePoints *in, CodePoints *out);
/* The character taken apart by compatibility (NFKD): returns how many of `out` it is. */
int unicode_compatible(uint32_t code, uint32_t out[UNICODE_LONGEST]);
/* Simple upper case: one code point for one. */
uint32_t unicode_upper(uint32_t code);
/* What the bytes 0x80 to 0x9F are in Windows-1252; those it leaves open stand for themselves. */
uint32_t windows_1252(uint32_t byte);
/* What Python's str.strip and \s take for white space. */
bool unicode_is_space(uint32_t code);

#endif
