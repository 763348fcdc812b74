/*
 * json_writer: JSON text, the same bytes for the same calls. Members stand in the order of the
 * calls. Numbers are the shortest that read back exactly.
 *
 * The first failure (memory, text that is not UTF-8, a number that is not finite) is kept and
 * returned by json_writer_finish, so that the calls between need no checks.
 */
#ifndef ZT_CORE_BASE_JSON_WRITER_H
#define ZT_CORE_BASE_JSON_WRITER_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct JsonWriter {
    char *text; /* owned until json_writer_finish */
    size_t length, capacity;
    int indent; /* spaces a level; 0: all on one line */
    int depth;
    int flat_from; /* depth at which an array went on one line; 0: none */
    bool first;    /* no member yet at this level */
    Status status;
} JsonWriter;

/* indent 2 for files that people read, 0 for one line. */
JsonWriter json_writer(int indent);

/* key NULL: the root, or an element of an array. */
void json_begin_object(JsonWriter *w, const char *key);
void json_end_object(JsonWriter *w);
/* The array and all in it stand on one line. */
void json_begin_array(JsonWriter *w, const char *key);
void json_end_array(JsonWriter *w);
void json_write_int(JsonWriter *w, const char *key, int64_t value);
void json_write_real(JsonWriter *w, const char *key, double value);
void json_write_bool(JsonWriter *w, const char *key, bool value);
void json_write_null(JsonWriter *w, const char *key);
/* value NULL writes null. */
void json_write_string(JsonWriter *w, const char *key, const char *value);

/* The text with a 0 after it (not counted); the caller frees it. The writer is empty after it,
 * whatever the answer. */
Status json_writer_finish(JsonWriter *w, char **text, size_t *length);
/* The same, but the text stays the writer's until the next call, and its memory is used again: for
 * one line after another. */
Status json_writer_view(JsonWriter *w, const char **text, size_t *length);
/* Forgets what was written; after it the writer can be used again. */
void json_writer_destroy(JsonWriter *w);
/* Finishes with a final line break and replaces `path` in one instant. ERR_IO too. */
Status json_writer_save(JsonWriter *w, const char *path);

/* Whether the bytes are UTF-8: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
bool json_utf8_valid(const char *text, size_t length);

#ifdef __cplusplus
}
#endif
#endif
