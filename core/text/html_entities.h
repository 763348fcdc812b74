/*
 * html_entities: character references of HTML, "&amp;", "&#8212;", replaced by what they stand for.
 *
 * Two readings, because prompts meet both (core/text/prompt_clean.h): HTML 5's own, which also
 * takes
 * "&amp" without a semicolon and mends numbers that stand for nothing; and ftfy's, which takes only
 * what is unambiguous, and also names in capitals, "&EACUTE;". The text as Python's html.unescape
 * and ftfy.fixes.unescape_html give it.
 */
#ifndef ZT_CORE_TEXT_HTML_ENTITIES_H
#define ZT_CORE_TEXT_HTML_ENTITIES_H

#include "core/text/unicode.h"

/* out = in with its references replaced; out is empty before. ERR_MEMORY. */
Status html_unescape(const CodePoints *in, CodePoints *out);
Status html_unescape_certain(const CodePoints *in, CodePoints *out);

#endif
