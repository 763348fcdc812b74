/*
 * json: strict reading of JSON. Owns jansson; writing is core/base/json_writer.h.
 *
 * Refused with one line naming the file: what is not UTF-8, duplicate keys, 0 characters in
 * strings, anything after the value, deeper or larger than the limits (which are checked before a
 * tree is built). Getters fail with file, key and what stands there. Not collective.
 */
#ifndef ZT_CORE_BASE_JSON_H
#define ZT_CORE_BASE_JSON_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct json_t Json; /* jansson's node, opaque here; children are views into their root */

typedef struct JsonLimits {
    size_t bytes;
    int depth;      /* of nested objects and arrays */
    int64_t values; /* in the whole tree */
} JsonLimits;

/* Configuration files and requests: 1 MiB, depth 16, 100,000 values. */
JsonLimits json_limits(void);

/* `what` names the source in errors ("run/state.json", "list.jsonl:7"). ERR_FORMAT, ERR_MEMORY. */
Status json_parse(const char *text, size_t length, const char *what, const JsonLimits *limits,
                  Json **out);
/* Reads and parses a file. ERR_IO too. */
Status json_read(const char *path, const JsonLimits *limits, Json **out);
/* The root only. */
void json_free(Json *root);

/* Whether the object has the key with a value that is not null. */
bool json_has(const Json *object, const char *key);

/* Required members of an object; `what` as above. ERR_FORMAT says file, key, found, expected. */
Status json_get_int(const Json *object, const char *what, const char *key, int64_t min, int64_t max,
                    int64_t *out);
/* Integers count too. Range inclusive. */
Status json_get_real(const Json *object, const char *what, const char *key, double min, double max,
                     double *out);
Status json_get_bool(const Json *object, const char *what, const char *key, bool *out);
Status json_get_string(const Json *object, const char *what, const char *key, const char **out);
/* That the string is `wanted`. */
Status json_check_string(const Json *object, const char *what, const char *key, const char *wanted);
Status json_get_object(const Json *object, const char *what, const char *key, const Json **out);
Status json_get_array(const Json *object, const char *what, const char *key, const Json **out);

/* Members of an array or an object, in the file's order; 0 for anything else. */
int64_t json_count(const Json *json);
/* Element of an array; NULL beyond its end. */
const Json *json_at(const Json *array, int64_t index);
/* for (void *i = json_first(o); i; i = json_next(o, i)) ... json_key(i) ... json_value(i) */
void *json_first(const Json *object);
void *json_next(const Json *object, void *member);
const char *json_key(void *member);
const Json *json_value(void *member);

/* The value itself: NULL or false when it is of another kind. */
const Json *json_as_object(const Json *json);
const Json *json_as_array(const Json *json);
bool json_as_int(const Json *json, int64_t *out);
bool json_as_real(const Json *json, double *out);
bool json_as_bool(const Json *json, bool *out);
const char *json_as_string(const Json *json);

#ifdef __cplusplus
}
#endif
#endif
