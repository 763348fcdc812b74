/*
 * json_memory: jansson's parser, ended by the first allocation that is refused.
 *
 * jansson (2.14) goes on after a refusal: a token's buffer that could not grow loses its last
 * bytes, the closing quote among them, and what reads up to that quote leaves the buffer. So the
 * parser never sees a refusal. It is left by longjmp, and all that it took is given back.
 */
#ifndef ZT_CORE_BASE_JSON_MEMORY_H
#define ZT_CORE_BASE_JSON_MEMORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* json_loadb that refuses duplicate keys. NULL: *error says why, unless *no_memory. */
json_t *json_memory_load(const char *text, size_t length, json_error_t *error, bool *no_memory);

#endif
