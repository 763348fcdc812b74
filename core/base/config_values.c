#include "core/base/config_values.h"

#include "core/base/json_writer.h"
#include "core/base/nearest.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NUMBER_MAX = 40, CHOICES_MAX = 16 };

bool config_is_list(const ConfigKey *key)
{
    return key->type == CONFIG_DOUBLES || key->type == CONFIG_STRINGS;
}

const char *config_expects(const ConfigKey *key)
{
    static const char *const names[] = {
        [CONFIG_INT] = "a whole number",      [CONFIG_DOUBLE] = "a number",
        [CONFIG_BOOL] = "true or false",      [CONFIG_STRING] = "text",
        [CONFIG_ENUM] = "one word",           [CONFIG_DOUBLES] = "a list of numbers in brackets",
        [CONFIG_STRINGS] = "a list of texts",
    };
    return names[key->type];
}

const char *config_shown(ConfigText text, char out[64])
{
    const size_t limit = 48;
    size_t n = text.length < limit ? text.length : limit;
    /* not in the middle of a character */
    while (n < text.length && n > 0 && ((unsigned char)text.bytes[n] & 0xC0) == 0x80) n--;
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)text.bytes[i];
        out[i] = c < 0x20 || c == 0x7F ? '?' : text.bytes[i];
    }
    memcpy(out + n, n < text.length ? "..." : "", 4 - (n < text.length ? 0 : 3));
    return out;
}

static bool is_word(ConfigText text, const char *word)
{
    return strlen(word) == text.length && memcmp(word, text.bytes, text.length) == 0;
}

/* What every error about a value begins with. */
typedef struct Place {
    const ConfigKey *key;
    const char *where;
    char shown[64];
} Place;

static Status check_range(const Place *place, double value)
{
    const ConfigKey *key = place->key;
    if (key->min == 0 && key->max == 0) return OK;
    CHECK(value >= key->min && value <= key->max, ERR_CONFIG,
          "%s: %s: %s is out of range %.10g to %.10g", place->where, key->name, place->shown,
          key->min, key->max);
    return OK;
}

/* A number's characters, ended by zero. What strtod also takes (hexadecimal, inf, blanks) and what
 * YAML reads otherwise (010) is not a number here. */
static bool copy_number(ConfigText text, const char *allowed, char out[NUMBER_MAX])
{
    if (text.quoted || text.length == 0 || text.length >= NUMBER_MAX) return false;
    memcpy(out, text.bytes, text.length);
    out[text.length] = 0;
    const char *digits = out + (out[0] == '-');
    const bool octal = digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9';
    return strspn(out, allowed) == text.length && !octal;
}

static Status refuse_number(const Place *place)
{
    return status_fail(ERR_CONFIG, "%s: %s: '%s' is not %s%s%s", place->where, place->key->name,
                       place->shown, place->key->type == CONFIG_INT ? "a whole number" : "a number",
                       place->key->word != NULL ? " or " : "",
                       place->key->word != NULL ? place->key->word : "");
}

static Status store_int(const Place *place, ConfigText text, int64_t *out)
{
    char number[NUMBER_MAX], *end = NULL;
    if (place->key->word != NULL && is_word(text, place->key->word)) {
        *out = 0;
        return OK;
    }
    if (!copy_number(text, "-0123456789", number)) return refuse_number(place);
    errno = 0;
    const long long value = strtoll(number, &end, 10);
    if (*end != 0 || end == number || errno != 0) return refuse_number(place);
    TRY(check_range(place, (double)value));
    *out = value;
    return OK;
}

static Status store_double(const Place *place, ConfigText text, double *out)
{
    char number[NUMBER_MAX], *end = NULL;
    if (place->key->word != NULL && is_word(text, place->key->word)) {
        *out = 0;
        return OK;
    }
    if (!copy_number(text, "+-.0123456789eE", number)) return refuse_number(place);
    const double value = strtod(number, &end);
    if (*end != 0 || end == number || !isfinite(value)) return refuse_number(place);
    TRY(check_range(place, value));
    *out = value;
    return OK;
}

static Status store_bool(const Place *place, ConfigText text, bool *out)
{
    const bool yes = is_word(text, "true");
    CHECK((yes || is_word(text, "false")) && !text.quoted, ERR_CONFIG,
          "%s: %s: '%s' is not true or false", place->where, place->key->name, place->shown);
    *out = yes;
    return OK;
}

static Status store_enum(const Place *place, ConfigText text, int *out)
{
    char copy[256], word[64];
    const char *names[CHOICES_MAX + 1];
    int count = 0;
    (void)snprintf(copy, sizeof copy, "%s", place->key->choices);
    for (char *save = NULL, *name = strtok_r(copy, "|", &save); name != NULL && count < CHOICES_MAX;
         name = strtok_r(NULL, "|", &save)) {
        if (is_word(text, name)) {
            *out = count;
            return OK;
        }
        names[count++] = name;
    }
    names[count] = NULL;
    (void)snprintf(word, sizeof word, "%s", place->shown);
    const char *near = nearest_name(word, names);
    return status_fail(ERR_CONFIG, "%s: %s: '%s' is not one of %s%s%s%s", place->where,
                       place->key->name, place->shown, place->key->choices,
                       near != NULL ? "; did you mean " : "", near != NULL ? near : "",
                       near != NULL ? "?" : "");
}

static Status store_string(const Place *place, ConfigText text, char *out, size_t size)
{
    const char *name = place->key->name;
    const bool null = text.length == 0 || is_word(text, "null") || is_word(text, "~");
    CHECK(text.quoted || !null, ERR_CONFIG, "%s: %s: no value; write \"\" for an empty text",
          place->where, name);
    CHECK((double)text.length >= place->key->min, ERR_CONFIG, "%s: %s: must not be empty",
          place->where, name);
    CHECK(text.length < size, ERR_CONFIG, "%s: %s: %zu bytes long; at most %zu fit", place->where,
          name, text.length, size - 1);
    CHECK(json_utf8_valid(text.bytes, text.length), ERR_CONFIG, "%s: %s: not valid UTF-8",
          place->where, name);
    for (size_t i = 0; i < text.length; i++) {
        /* U+0080 to U+009F, which terminals obey too, begin with 0xC2 */
        const bool second = (unsigned char)text.bytes[i] == 0xC2;
        const unsigned char c = (unsigned char)text.bytes[second ? i + 1 : i];
        CHECK(second ? c >= 0xA0 : c >= 0x20 && c != 0x7F, ERR_CONFIG,
              "%s: %s: control character 0x%02x in '%s'", place->where, name, c, place->shown);
    }
    /* zeros to the end: equal configurations are equal bytes */
    memset(out, 0, size);
    memcpy(out, text.bytes, text.length);
    return OK;
}

static Status store_item(const Place *place, ConfigText text, int index, void *field)
{
    const ConfigKey *key = place->key;
    const int room = key->type == CONFIG_STRINGS ? CONFIG_TEXTS_MAX : key->count;
    CHECK(index < room, ERR_CONFIG, "%s: %s: more than %d values", place->where, key->name, room);
    if (key->type == CONFIG_DOUBLES) return store_double(place, text, (double *)field + index);
    return store_string(place, text, ((ConfigTexts *)field)->items[index], CONFIG_TEXT_MAX);
}

Status config_value_store(const ConfigKey *key, ConfigText text, int index, const char *where,
                          void *out)
{
    void *field = (char *)out + key->offset;
    Place place = { .key = key, .where = where };
    (void)config_shown(text, place.shown);
    switch (key->type) {
    case CONFIG_INT: return store_int(&place, text, field);
    case CONFIG_DOUBLE: return store_double(&place, text, field);
    case CONFIG_BOOL: return store_bool(&place, text, field);
    case CONFIG_STRING: return store_string(&place, text, field, key->size);
    case CONFIG_ENUM: return store_enum(&place, text, field);
    case CONFIG_DOUBLES:
    case CONFIG_STRINGS: return store_item(&place, text, index, field);
    }
    return OK;
}

Status config_list_end(const ConfigKey *key, int count, const char *where, void *out)
{
    if (key->type == CONFIG_STRINGS) {
        ConfigTexts *texts = (void *)((char *)out + key->offset);
        for (int i = count; i < CONFIG_TEXTS_MAX; i++) memset(texts->items[i], 0, CONFIG_TEXT_MAX);
        texts->count = count;
        return OK;
    }
    CHECK(count == key->count, ERR_CONFIG, "%s: %s: the list has %d numbers; it takes %d", where,
          key->name, count, key->count);
    return OK;
}
