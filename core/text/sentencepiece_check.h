/*
 * sentencepiece_check: what the library does not check of a model from outside.
 *
 * Its normalisation table is a double-array trie that the library walks as if nobody could have
 * written it wrong: an offset leads anywhere. Here the same walk is made once along every way there
 * is, with bounds. Also refuses what is not Unigram, as umT5 is. The rest of the file the library
 * checks itself.
 */
#ifndef ZT_CORE_TEXT_SENTENCEPIECE_CHECK_H
#define ZT_CORE_TEXT_SENTENCEPIECE_CHECK_H

#include "core/base/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ERR_FORMAT begins with `what`; ERR_MEMORY. */
Status sentencepiece_check(const char *model, size_t bytes, const char *what);

#ifdef __cplusplus
}
#endif
#endif
