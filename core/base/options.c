#include "core/base/options.h"

#include "core/base/nearest.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- values --------------------------------------------------------------------------------- */

/* How an argument is named in errors: "--fps" or "SOURCE". */
typedef struct Label {
    char text[80];
} Label;

static Label label_of(const Option *option)
{
    Label label;
    (void)snprintf(label.text, sizeof label.text, "%s%s", option->positional ? "" : "--",
                   option->name);
    return label;
}

static bool limited(const Option *option)
{
    return option->min != 0 || option->max != 0;
}

static Status check_range(const Option *option, const char *text, double value)
{
    CHECK(!limited(option) || (value >= option->min && value <= option->max), ERR_USAGE,
          "%s: %s is out of range %.10g to %.10g", label_of(option).text, text, option->min,
          option->max);
    return OK;
}

static Status parse_int(const Option *option, const char *text, int64_t *out)
{
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    CHECK(end != text && *end == 0 && *text != ' ', ERR_USAGE, "%s: '%.80s' is not a whole number",
          label_of(option).text, text);
    CHECK(errno == 0, ERR_USAGE, "%s: %.80s does not fit 64 bits", label_of(option).text, text);
    TRY(check_range(option, text, (double)value));
    *out = value;
    return OK;
}

static Status parse_double(const Option *option, const char *text, double *out)
{
    char *end = NULL;
    const double value = strtod(text, &end);
    CHECK(end != text && *end == 0 && *text != ' ' && isfinite(value), ERR_USAGE,
          "%s: '%.80s' is not a number", label_of(option).text, text);
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
    CHECK(found == 2 && text[used] == 0 && text[0] >= '0' && text[0] <= '9', ERR_USAGE,
          "%s: '%.80s' is not a size such as 64x64", label_of(option).text, text);
    CHECK(width > 0 && height > 0, ERR_USAGE, "%s: %s is empty", label_of(option).text, text);
    TRY(check_range(option, text, (double)width));
    TRY(check_range(option, text, (double)height));
    *out = (OptionSize){ width, height };
    return OK;
}

static Status parse_string(const Option *option, const char *text, const char **out)
{
    CHECK(*text != 0, ERR_USAGE, "%s: an empty value", label_of(option).text);
    if (option->choices != NULL) {
        const size_t length = strlen(text);
        const char *found = option->choices;
        while (found != NULL && !(strncmp(found, text, length) == 0 &&
                                  (found[length] == '|' || found[length] == 0))) {
            found = strchr(found, '|');
            if (found != NULL) found++;
        }
        CHECK(found != NULL, ERR_USAGE, "%s: '%.80s' is not one of %s", label_of(option).text, text,
              option->choices);
    }
    *out = text;
    return OK;
}

/* One item of a list with commas: copied, so that it ends in zero. */
static Status store_item(const Option *option, const char *item, void *field)
{
    if (option->type == OPTION_INTS) {
        OptionInts *list = field;
        CHECK(list->count < OPTION_LIST_MAX, ERR_USAGE, "%s: more than %d values",
              label_of(option).text, OPTION_LIST_MAX);
        TRY(parse_int(option, item, &list->items[list->count]));
        list->count++;
    } else {
        OptionSizes *list = field;
        CHECK(list->count < OPTION_LIST_MAX, ERR_USAGE, "%s: more than %d values",
              label_of(option).text, OPTION_LIST_MAX);
        TRY(parse_size(option, item, &list->items[list->count]));
        list->count++;
    }
    return OK;
}

static Status store_list(const Option *option, const char *text, void *field)
{
    for (;;) {
        char item[64];
        const size_t length = strcspn(text, ",");
        CHECK(length < sizeof item, ERR_USAGE, "%s: '%.80s' is too long", label_of(option).text,
              text);
        memcpy(item, text, length);
        item[length] = 0;
        TRY(store_item(option, item, field));
        if (text[length] == 0) return OK;
        text += length + 1;
    }
}

static Status store(const Option *option, const char *text, void *out)
{
    void *field = (char *)out + option->offset;
    switch (option->type) {
    case OPTION_FLAG: *(bool *)field = strcmp(text, "true") == 0; return OK;
    case OPTION_INT: return parse_int(option, text, field);
    case OPTION_DOUBLE: return parse_double(option, text, field);
    case OPTION_STRING: return parse_string(option, text, field);
    case OPTION_SIZE: return parse_size(option, text, field);
    case OPTION_INTS:
    case OPTION_SIZES: return store_list(option, text, field);
    case OPTION_STRINGS: {
        OptionStrings *list = field;
        CHECK(list->count < OPTION_STRINGS_MAX, ERR_USAGE, "%s: given more than %d times",
              label_of(option).text, OPTION_STRINGS_MAX);
        TRY(parse_string(option, text, &list->items[list->count]));
        list->count++;
        return OK;
    }
    }
    return OK;
}

static bool is_list(OptionType type)
{
    return type == OPTION_INTS || type == OPTION_SIZES || type == OPTION_STRINGS;
}

/* Before the first value that was typed: the default of a list goes. Every list begins with its
 * count. */
static void forget_default(const Option *option, void *out)
{
    if (option->type == OPTION_STRINGS) ((OptionStrings *)(void *)((char *)out + option->offset))->count = 0;
}
