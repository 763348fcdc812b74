#include "core/base/json.h"

#include "core/base/file.h"
#include "core/base/json_memory.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

JsonLimits json_limits(void)
{
    return (JsonLimits){ .bytes = 1 << 20, .depth = 16, .values = 100000 };
}

/*
 * Counts nesting and values without building anything: a few bytes of text can cost a hundred in
 * a tree. Text that is not JSON may be miscounted; the parser refuses it afterwards.
 */
static Status scan(const char *text, size_t length, const char *what, const JsonLimits *limits)
{
    int64_t depth = 0, values = 1;
    bool in_string = false;
    for (size_t i = 0; i < length; i++) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            in_string = c != '"';
            continue;
        }
        if (c == '"') in_string = true;
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') depth--;
        if (c == '{' || c == '[' || c == ',') values++;
        CHECK(depth <= limits->depth, ERR_FORMAT, "%s: nested deeper than %d", what, limits->depth);
        CHECK(values <= limits->values, ERR_FORMAT, "%s: more than %lld values", what,
              (long long)limits->values);
    }
    return OK;
}

Status json_parse(const char *text, size_t length, const char *what, const JsonLimits *limits,
                  Json **out)
{
    json_error_t error;
    bool no_memory;
    CHECK(length <= limits->bytes, ERR_FORMAT, "%s: has %zu bytes, at most %zu are read", what,
          length, limits->bytes);
    TRY(scan(text, length, what, limits));
    Json *root = json_memory_load(text, length, &error, &no_memory);
    CHECK(!no_memory, ERR_MEMORY, "%s: no memory to parse it", what);
    CHECK(root, ERR_FORMAT, "%s: line %d, column %d: %s", what, error.line, error.column,
          error.text);
    *out = root;
    return OK;
}

Status json_read(const char *path, const JsonLimits *limits, Json **out)
{
    char *text = NULL;
    size_t length = 0;
    TRY(file_read(path, limits->bytes, &text, &length));
    const Status s = json_parse(text, length, path, limits, out);
    free(text);
    return s;
}

void json_free(Json *root)
{
    json_decref(root);
}

bool json_has(const Json *object, const char *key)
{
    const Json *value = json_object_get(object, key);
    return value && !json_is_null(value);
}

/* What stands there, for an error: `"umt5"`, `-3`, `an object`. */
static const char *describe(const Json *json, char out[64])
{
    switch (json_typeof(json)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: (void)snprintf(out, 64, "\"%.40s\"", json_string_value(json)); return out;
    case JSON_INTEGER:
        (void)snprintf(out, 64, "%lld", (long long)json_integer_value(json));
        return out;
    case JSON_REAL: (void)snprintf(out, 64, "%g", json_real_value(json)); return out;
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "?";
}

/* The member, or an error that says what was expected. */
static Status member(const Json *object, const char *what, const char *key, const char *expected,
                     const Json **out)
{
    CHECK(json_as_object(object), ERR_FORMAT, "%s: is not a JSON object, so it has no \"%s\"", what,
          key);
    *out = json_object_get(object, key);
    CHECK(*out, ERR_FORMAT, "%s: \"%s\" is missing, expected %s", what, key, expected);
    return OK;
}

static Status wrong(const Json *found, const char *what, const char *key, const char *expected)
{
    char text[64];
    return status_fail(ERR_FORMAT, "%s: \"%s\" is %s, expected %s", what, key,
                       describe(found, text), expected);
}

Status json_get_int(const Json *object, const char *what, const char *key, int64_t min, int64_t max,
                    int64_t *out)
{
    const Json *value;
    char expected[80];
    int64_t i;
    (void)snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min,
                   (long long)max);
    TRY(member(object, what, key, expected, &value));
    if (!json_as_int(value, &i) || i < min || i > max) return wrong(value, what, key, expected);
    *out = i;
    return OK;
}

Status json_get_real(const Json *object, const char *what, const char *key, double min, double max,
                     double *out)
{
    const Json *value;
    char expected[80];
    double d;
    (void)snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
    TRY(member(object, what, key, expected, &value));
    if (!json_as_real(value, &d) || !(d >= min && d <= max))
        return wrong(value, what, key, expected);
    *out = d;
    return OK;
}

Status json_get_bool(const Json *object, const char *what, const char *key, bool *out)
{
    const Json *value;
    TRY(member(object, what, key, "true or false", &value));
    if (!json_is_boolean(value)) return wrong(value, what, key, "true or false");
    *out = json_is_true(value);
    return OK;
}

Status json_get_string(const Json *object, const char *what, const char *key, const char **out)
{
    const Json *value;
    TRY(member(object, what, key, "a string", &value));
    if (!json_is_string(value)) return wrong(value, what, key, "a string");
    *out = json_string_value(value);
    return OK;
}

Status json_check_string(const Json *object, const char *what, const char *key, const char *wanted)
{
    const char *found;
    TRY(json_get_string(object, what, key, &found));
    CHECK(strcmp(found, wanted) == 0, ERR_FORMAT, "%s: \"%s\" is \"%.80s\", expected \"%s\"", what,
          key, found, wanted);
    return OK;
}

Status json_get_object(const Json *object, const char *what, const char *key, const Json **out)
{
    const Json *value;
    TRY(member(object, what, key, "an object", &value));
    if (!json_as_object(value)) return wrong(value, what, key, "an object");
    *out = value;
    return OK;
}

Status json_get_array(const Json *object, const char *what, const char *key, const Json **out)
{
    const Json *value;
    TRY(member(object, what, key, "an array", &value));
    if (!json_as_array(value)) return wrong(value, what, key, "an array");
    *out = value;
    return OK;
}

int64_t json_count(const Json *json)
{
    /* jansson answers 0 for what is of another kind */
    return (int64_t)(json_object_size(json) + json_array_size(json));
}

const Json *json_at(const Json *array, int64_t index)
{
    return index < 0 ? NULL : json_array_get(array, (size_t)index);
}

/* jansson's iterators take an object that is not const, and do not change it. */
static Json *unconst(const Json *json)
{
    union {
        const Json *in;
        Json *out;
    } u = { .in = json };
    return u.out;
}

void *json_first(const Json *object)
{
    return json_object_iter(unconst(object));
}

void *json_next(const Json *object, void *iterator)
{
    return json_object_iter_next(unconst(object), iterator);
}

const char *json_key(void *iterator)
{
    return json_object_iter_key(iterator);
}

const Json *json_value(void *iterator)
{
    return json_object_iter_value(iterator);
}

const Json *json_as_object(const Json *json)
{
    return json_is_object(json) ? json : NULL;
}

const Json *json_as_array(const Json *json)
{
    return json_is_array(json) ? json : NULL;
}

bool json_as_int(const Json *json, int64_t *out)
{
    if (!json_is_integer(json)) return false;
    *out = json_integer_value(json);
    return true;
}

bool json_as_real(const Json *json, double *out)
{
    if (!json_is_number(json)) return false;
    *out = json_number_value(json);
    return true;
}

bool json_as_bool(const Json *json, bool *out)
{
    if (!json_is_boolean(json)) return false;
    *out = json_is_true(json);
    return true;
}

const char *json_as_string(const Json *json)
{
    return json_string_value(json);
}
