#include "core/base/options.h"

#include "core/base/nearest.h"
#include "core/base/option_values.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_MAX = 64 };

/* ---- help ----------------------------------------------------------------------------------- */

static const char *argument_name(const Option *option)
{
    static const char *const names[] = {
        [OPTION_FLAG] = "",       [OPTION_INT] = "N",        [OPTION_DOUBLE] = "X",
        [OPTION_STRING] = "TEXT", [OPTION_SIZE] = "WxH",     [OPTION_INTS] = "N",
        [OPTION_SIZES] = "WxH",   [OPTION_STRINGS] = "TEXT",
    };
    return option->argument != NULL ? option->argument : names[option->type];
}

/* "--size WxH", "--[no-]strict", "SOURCE" */
static int format_left(const Option *option, char out[80])
{
    const bool flag = option->type == OPTION_FLAG;
    if (option->positional) return snprintf(out, 80, "%s", option->name);
    return snprintf(out, 80, "--%s%s%s%s", flag ? "[no-]" : "", option->name, flag ? "" : " ",
                    argument_name(option));
}

/* What the table knows beyond the words: "(default 64x64; may be repeated)". */
static void print_notes(const Option *option)
{
    const bool list = option->type == OPTION_INTS || option->type == OPTION_SIZES ||
                      option->type == OPTION_STRINGS;
    const char *separator = " (";
    if (option->choices != NULL) {
        printf("%s%s", separator, option->choices);
        separator = "; ";
    }
    if (option->fallback != NULL) {
        printf("%sdefault %s", separator, option->fallback);
        separator = "; ";
    }
    if (list && !option->positional) {
        printf("%smay be repeated", separator);
        separator = "; ";
    }
    if (option->required && !option->positional) {
        printf("%srequired", separator);
        separator = "; ";
    }
    if (separator[0] == ';') printf(")");
}

static void print_help(const Command *command)
{
    char left[80];
    int width = 0;
    for (const Option *o = command->options; o->name != NULL; o++) {
        const int n = format_left(o, left);
        if (n > width && n <= 28) width = n;
    }
    printf("usage: zoetrope %s %s\n\n%s\n\n", command->name, command->usage, command->about);
    for (const Option *o = command->options; o->name != NULL; o++) {
        const int n = format_left(o, left);
        printf("    %-*s", width + 2, left);
        if (n > width) printf("\n    %*s", width + 2, "");
        printf("%s", o->help);
        print_notes(o);
        printf("\n");
    }
    printf("    %-*sthis text\n", width + 2, "-h, --help");
}

/* ---- parsing -------------------------------------------------------------------------------- */

typedef struct Parser {
    const Command *command;
    void *out;
    bool seen[ROWS_MAX];
} Parser;

static Status take(Parser *parser, const Option *option, const char *text)
{
    bool *seen = &parser->seen[option - parser->command->options];
    if (!*seen) option_clear(option, parser->out);
    *seen = true;
    return option_store(option, text, parser->out);
}

/* An option by its name of `length` letters; flags also as no-NAME, which clears *on. */
static const Option *find(const Command *command, const char *name, size_t length, bool *on)
{
    const bool negated = length > 3 && strncmp(name, "no-", 3) == 0;
    for (const Option *o = command->options; o->name != NULL; o++) {
        if (o->positional) continue;
        *on = true;
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0) return o;
        *on = false;
        if (negated && o->type == OPTION_FLAG && strlen(o->name) == length - 3 &&
            strncmp(o->name, name + 3, length - 3) == 0)
            return o;
    }
    return NULL;
}

static Status refuse_unknown(const Command *command, const char *name, size_t length)
{
    const char *names[ROWS_MAX + 2], *near = NULL;
    char word[64];
    int count = 0;
    (void)snprintf(word, sizeof word, "%.*s", (int)length, name);
    for (const Option *o = command->options; o->name != NULL; o++)
        if (!o->positional) names[count++] = o->name;
    names[count++] = "help";
    names[count] = NULL;
    near = nearest_name(word, names);
    CHECK(near == NULL, ERR_USAGE, "%s: unknown option --%s; did you mean --%s?", command->name,
          word, near);
    return status_fail(ERR_USAGE, "%s: unknown option --%s; see zoetrope %s --help", command->name,
                       word, command->name);
}

/* argv[*i] is "--name", "--name=value" or "--no-name"; the value may be the next argument. */
static Status take_option(Parser *parser, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2;
    const size_t length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    bool on = true;
    const Option *option = find(parser->command, name, length, &on);
    if (option == NULL) return refuse_unknown(parser->command, name, length);
    if (option->type == OPTION_FLAG) {
        CHECK(value == NULL, ERR_USAGE, "--%s: takes no value, '%.80s' given", option->name, value);
        return take(parser, option, on ? "true" : "false");
    }
    if (value == NULL) {
        const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
        /* a value that begins with -- is more likely a forgotten one; --name=--x still works */
        CHECK(next != NULL && strncmp(next, "--", 2) != 0, ERR_USAGE, "--%s: needs a value (%s)",
              option->name, argument_name(option));
        value = next;
        (*i)++;
    }
    return take(parser, option, value);
}

static Status take_positional(Parser *parser, const char *text)
{
    for (const Option *o = parser->command->options; o->name != NULL; o++) {
        const bool open = o->type == OPTION_STRINGS || !parser->seen[o - parser->command->options];
        if (o->positional && open) return take(parser, o, text);
    }
    return status_fail(ERR_USAGE, "%s: one argument too many: '%.80s'", parser->command->name,
                       text);
}

static Status store_defaults(const Command *command, void *out)
{
    for (const Option *o = command->options; o->name != NULL; o++) {
        assert(o - command->options < ROWS_MAX);
        if (o->fallback != NULL) TRY(option_store(o, o->fallback, out));
    }
    return OK;
}

static Status check_required(const Parser *parser)
{
    for (const Option *o = parser->command->options; o->name != NULL; o++) {
        const bool absent = o->required && !parser->seen[o - parser->command->options];
        CHECK(!absent, ERR_USAGE, "%s: %s%s is missing; usage: zoetrope %s %s",
              parser->command->name, o->positional ? "" : "--", o->name, parser->command->name,
              parser->command->usage);
    }
    return OK;
}

Status options_parse(const Command *command, int argc, char **argv, void *out, bool *helped)
{
    Parser parser = { .command = command, .out = out };
    bool only_positional = false;
    *helped = false;
    TRY(store_defaults(command, out));
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        if (only_positional || arg[0] != '-' || arg[1] == 0) {
            TRY(take_positional(&parser, arg));
        } else if (strcmp(arg, "--") == 0) {
            only_positional = true;
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            print_help(command);
            *helped = true;
            return OK;
        } else {
            CHECK(arg[1] == '-', ERR_USAGE, "%s: unknown option %.80s; options begin with --",
                  command->name, arg);
            TRY(take_option(&parser, argc, argv, &i));
        }
    }
    return check_required(&parser);
}
