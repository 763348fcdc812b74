#include "core/base/option_values.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ERR_USAGE: "--fps: 'x' is not a number". */
static Status refuse(const Option *option, const char *text, const char *why)
{
    return status_fail(ERR_USAGE, "%s%s: '%.80s' %s", option->positional ? "" : "--", option->name,
                       text, why);
}

static Status check_range(const Option *option, const char *text, double value)
{
    if (option->min == 0 && option->max == 0) return OK;
    if (value >= option->min && value <= option->max) return OK;
    char why[80];
    (void)snprintf(why, sizeof why, "is out of range %.10g to %.10g", option->min, option->max);
    return refuse(option, text, why);
}

static Status parse_int(const Option *option, const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != 0 || *text == ' ')
        return refuse(option, text, "is not a whole number");
    if (errno != 0) return refuse(option, text, "does not fit 64 bits");
    TRY(check_range(option, text, (double)value));
    *out = value;
    return OK;
}

static Status parse_double(const Option *option, const char *text, double *out)
{
    char *end = NULL;
    const double value = strtod(text, &end);
    if (end == text || *end != 0 || *text == ' ' || !isfinite(value))
        return refuse(option, text, "is not a number");
    TRY(check_range(option, text, value));
    *out = value;
    return OK;
}

/* WIDTHxHEIGHT */
static Status parse_size(const Option *option, const char *text, OptionSize *out)
{
    int64_t width = 0, height = 0;
    int used = 0;
    const int found = sscanf(text, "%9" SCNd64 "x%9" SCNd64 "%n", &width, &height, &used);
    if (found != 2 || text[used] != 0 || width < 1 || height < 1)
        return refuse(option, text, "is not a size such as 64x64");
    TRY(check_range(option, text, (double)width));
    TRY(check_range(option, text, (double)height));
    *out = (OptionSize){ width, height };
    return OK;
}

/* One of "mp4|png|preview". */
static bool is_choice(const char *choices, const char *text)
{
    const size_t length = strlen(text);
    for (const char *c = choices; c != NULL; c = strchr(c, '|')) {
        if (*c == '|') c++;
        if (strncmp(c, text, length) == 0 && (c[length] == '|' || c[length] == 0)) return true;
    }
    return false;
}

static Status parse_string(const Option *option, const char *text, const char **out)
{
    if (*text == 0) return refuse(option, text, "is empty");
    if (option->choices != NULL && !is_choice(option->choices, text)) {
        char why[200];
        (void)snprintf(why, sizeof why, "is not one of %s", option->choices);
        return refuse(option, text, why);
    }
    *out = text;
    return OK;
}

/* Every list begins with its count and has room for `limit`. */
static Status grow(const Option *option, const char *text, int *count, int limit)
{
    if (*count == limit) return refuse(option, text, "is one value too many");
    (*count)++;
    return OK;
}

static Status add_int(const Option *option, const char *text, void *field)
{
    OptionInts *list = field;
    int64_t value = 0;
    TRY(parse_int(option, text, &value));
    TRY(grow(option, text, &list->count, OPTION_LIST_MAX));
    list->items[list->count - 1] = value;
    return OK;
}

static Status add_size(const Option *option, const char *text, void *field)
{
    OptionSizes *list = field;
    OptionSize value = { 0, 0 };
    TRY(parse_size(option, text, &value));
    TRY(grow(option, text, &list->count, OPTION_LIST_MAX));
    list->items[list->count - 1] = value;
    return OK;
}

static Status add_string(const Option *option, const char *text, void *field)
{
    OptionStrings *list = field;
    const char *value = NULL;
    TRY(parse_string(option, text, &value));
    TRY(grow(option, text, &list->count, OPTION_STRINGS_MAX));
    list->items[list->count - 1] = value;
    return OK;
}

/* Values between commas, each copied so that it ends in zero. */
static Status add_each(const Option *option, const char *text, void *field,
                       Status (*add)(const Option *, const char *, void *))
{
    for (;;) {
        char item[64];
        const size_t length = strcspn(text, ",");
        if (length >= sizeof item) return refuse(option, text, "is too long");
        memcpy(item, text, length);
        item[length] = 0;
        TRY(add(option, item, field));
        if (text[length] == 0) return OK;
        text += length + 1;
    }
}

Status option_store(const Option *option, const char *text, void *out)
{
    void *field = (char *)out + option->offset;
    switch (option->type) {
    case OPTION_FLAG: *(bool *)field = strcmp(text, "true") == 0; return OK;
    case OPTION_INT: return parse_int(option, text, field);
    case OPTION_DOUBLE: return parse_double(option, text, field);
    case OPTION_STRING: return parse_string(option, text, field);
    case OPTION_SIZE: return parse_size(option, text, field);
    case OPTION_INTS: return add_each(option, text, field, add_int);
    case OPTION_SIZES: return add_each(option, text, field, add_size);
    case OPTION_STRINGS: return add_string(option, text, field);
    }
    return OK;
}

void option_clear(const Option *option, void *out)
{
    void *field = (char *)out + option->offset;
    switch (option->type) {
    case OPTION_INTS: ((OptionInts *)field)->count = 0; break;
    case OPTION_SIZES: ((OptionSizes *)field)->count = 0; break;
    case OPTION_STRINGS: ((OptionStrings *)field)->count = 0; break;
    default: break;
    }
}
