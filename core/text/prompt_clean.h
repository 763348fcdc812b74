/*
 * prompt_clean: a prompt as diffusers' Wan pipelines clean it before the tokenizer sees it.
 *
 * They run ftfy.fix_text (6.3.1, as configured by default), html.unescape twice, and make every run
 * of white space one space, none at the ends. ftfy works line by line, again and again until
 * nothing changes: character references (not in a line with "<", nor in later ones), mojibake,
 * C1 controls as Windows-1252, Latin ligatures, fullwidth and halfwidth forms, straight quotes,
 * line breaks, terminal escapes, control characters, NFC. All of it is done here but the repair of
 * mojibake, which is partial: core/text/mojibake.h.
 */
#ifndef ZT_CORE_TEXT_PROMPT_CLEAN_H
#define ZT_CORE_TEXT_PROMPT_CLEAN_H

#include "core/base/status.h"

#include <stddef.h>

enum { PROMPT_BYTES_MAX = 1 << 16 };

/* *clean = the UTF-8 prompt cleaned, ended by a 0 and with none before; the caller frees it. An
 * empty one stays empty. ERR_USAGE, after `what` ("--prompt"): not UTF-8, or longer than
 * PROMPT_BYTES_MAX. ERR_MEMORY. Not collective. */
Status prompt_clean(const char *what, const char *prompt, size_t bytes, char **clean);

#endif
