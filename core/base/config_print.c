#include "core/base/config.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The fewest digits that read back to the same bits. */
static void print_double(double value, FILE *stream)
{
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, stream);
}

/* Characters that YAML takes by their number only, or reads as the end of a line. */
static const struct {
    const char *bytes, *escape;
} escapes[] = {
    { "\"", "\\\"" },
    { "\\", "\\\\" },
    { "\u2028", "\\L" },
    { "\u2029", "\\P" },
    { "\xef\xbb\xbf", "\\uFEFF" },
    { "\xef\xbf\xbe", "\\uFFFE" },
    { "\xef\xbf\xbf", "\\uFFFF" },
};

/* One character, or one byte of it; returns how many bytes. */
static size_t print_letter(const char *at, FILE *stream)
{
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
        const size_t length = strlen(escapes[i].bytes);
        if (strncmp(at, escapes[i].bytes, length) != 0) continue;
        fputs(escapes[i].escape, stream);
        return length;
    }
    fputc(*at, stream);
    return 1;
}

/* Quotes where a plain word could be read as something else. */
static void print_string(const char *text, FILE *stream)
{
    static const char safe[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
    const bool plain = text[0] != 0 && text[0] != '-' && text[strspn(text, safe)] == 0 &&
                       strcmp(text, "null") != 0;
    if (plain) {
        fputs(text, stream);
        return;
    }
    fputc('"', stream);
    for (const char *c = text; *c != 0;) c += print_letter(c, stream);
    fputc('"', stream);
}

static void print_enum(const ConfigKey *key, int value, FILE *stream)
{
    const char *name = key->choices;
    for (int i = 0; i < value; i++) name = strchr(name, '|') + 1;
    fprintf(stream, "%.*s", (int)strcspn(name, "|"), name);
}

static void print_list(const ConfigKey *key, const void *field, FILE *stream)
{
    const ConfigTexts *texts = field;
    const int count = key->type == CONFIG_STRINGS ? (int)texts->count : key->count;
    fputc('[', stream);
    for (int i = 0; i < count; i++) {
        if (i > 0) fputs(", ", stream);
        if (key->type == CONFIG_STRINGS)
            print_string(texts->items[i], stream);
        else
            print_double(((const double *)field)[i], stream);
    }
    fputc(']', stream);
}

static void print_value(const ConfigKey *key, const void *config, FILE *stream)
{
    const void *field = (const char *)config + key->offset;
    const bool number = key->type == CONFIG_INT || key->type == CONFIG_DOUBLE;
    const double value = key->type == CONFIG_INT      ? (double)*(const int64_t *)field
                         : key->type == CONFIG_DOUBLE ? *(const double *)field
                                                      : 1;
    if (number && key->word != NULL && value == 0) {
        fputs(key->word, stream);
        return;
    }
    switch (key->type) {
    case CONFIG_INT: fprintf(stream, "%" PRId64, *(const int64_t *)field); break;
    case CONFIG_DOUBLE: print_double(*(const double *)field, stream); break;
    case CONFIG_BOOL: fputs(*(const bool *)field ? "true" : "false", stream); break;
    case CONFIG_STRING: print_string(field, stream); break;
    case CONFIG_ENUM: print_enum(key, *(const int *)field, stream); break;
    case CONFIG_DOUBLES:
    case CONFIG_STRINGS: print_list(key, field, stream); break;
    }
}

/* Dotted names as nested mappings: a section's line where the path first differs from the row
 * before. Rows of one section stand together in the table. */
static void print_sections(const char *before, const char *name, FILE *stream)
{
    size_t same = 0; /* letters of the sections both names have */
    for (size_t i = 0; before[i] == name[i] && name[i] != 0; i++)
        if (name[i] == '.') same = i + 1;
    int depth = 0;
    for (size_t i = 0, start = 0; name[i] != 0; i++) {
        if (name[i] != '.') continue;
        if (i >= same) fprintf(stream, "%*s%.*s:\n", 2 * depth, "", (int)(i - start), name + start);
        depth++;
        start = i + 1;
    }
}

Status config_print(const ConfigKey *keys, const void *config, FILE *stream)
{
    const char *before = "";
    for (const ConfigKey *key = keys; key->name != NULL; key++) {
        int depth = 0;
        for (const char *c = key->name; *c != 0; c++) depth += *c == '.';
        const char *last = strrchr(key->name, '.');
        print_sections(before, key->name, stream);
        fprintf(stream, "%*s%s: ", 2 * depth, "", last != NULL ? last + 1 : key->name);
        print_value(key, config, stream);
        fputc('\n', stream);
        before = key->name;
    }
    CHECK(ferror(stream) == 0, ERR_IO, "the configuration could not be written");
    return OK;
}
