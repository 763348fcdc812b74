/*
 * mojibake: text whose UTF-8 was once read as Windows-1252 or Latin-1, "â€œredâ€\x9d", mended.
 *
 * First a whole line, whose characters are all bytes of the one encoding and whose bytes are UTF-8;
 * else runs of characters beyond ASCII in it. Either only where it could not well have been meant
 * (weigh in the .c). What went through MacRoman or another code page, or lost bytes on its way
 * stays as it is, as ftfy, which is the model, mends with tables that are its own.
 */
#ifndef ZT_CORE_TEXT_MOJIBAKE_H
#define ZT_CORE_TEXT_MOJIBAKE_H

#include "core/text/unicode.h"

/* out = in, mended as often as it was broken; then any character from U+0080 to U+009F becomes what
 * Windows-1252 has there. out is empty before. ERR_MEMORY. */
Status mojibake_mend(const CodePoints *in, CodePoints *out);

#endif
