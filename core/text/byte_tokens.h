/*
 * byte_tokens: UTF-8 bytes as ByT5's ids: pad 0, end mark 1, unknown 2, byte b is b + 3.
 */
#ifndef ZT_CORE_TEXT_BYTE_TOKENS_H
#define ZT_CORE_TEXT_BYTE_TOKENS_H

#include "core/base/status.h"
#include "core/base/tensor.h"

enum { BYTE_TOKEN_PAD = 0, BYTE_TOKEN_END = 1, BYTE_TOKEN_FIRST = 3, CAPTION_BYTES_MAX = 8192 };

/* ids (batch, length) I32: the caption's bytes, the end mark, padding; lengths (batch) I32: ids
 * that are not padding. A caption longer than length - 1 bytes is cut at a character's edge, the
 * end mark kept. "" is the null caption: the end mark alone. */
void byte_tokens_encode(const char *const *captions, Tensor ids, Tensor lengths);

/* A caption or prompt that may be used: valid UTF-8, not empty, no control characters, at most
 * CAPTION_BYTES_MAX bytes. ERR_USAGE says what is wrong, after `what` ("--prompt"). */
Status byte_tokens_check(const char *what, const char *text, size_t bytes);

#endif
