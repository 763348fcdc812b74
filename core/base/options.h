/*
 * options: a command line described by a table.
 *
 * A row says name, type, default, range and help, and where the value goes in the command's struct;
 * from it come parsing, `--help` and the errors. `--name value` and `--name=value` both work, `--`
 * ends the options. Strings are views of argv or of the table. Nothing is allocated.
 *
 *     typedef struct IngestOptions {
 *         const char *source, *out;
 *         OptionSizes sizes;
 *         OptionInts frames;
 *         bool strict;
 *     } IngestOptions;
 *
 *     static const Option table[] = {
 *         { .name = "SOURCE", .type = OPTION_STRING, .positional = true, .required = true,
 *           .offset = offsetof(IngestOptions, source), .help = "folder of videos, or a list" },
 *         { .name = "out", .type = OPTION_STRING, .argument = "DIR", .required = true,
 *           .offset = offsetof(IngestOptions, out), .help = "dataset to write" },
 *         { .name = "size", .type = OPTION_SIZES, .fallback = "64x64", .min = 8, .max = 4096,
 *           .offset = offsetof(IngestOptions, sizes), .help = "bucket sizes" },
 *         { .name = "strict", .type = OPTION_FLAG, .offset = offsetof(IngestOptions, strict),
 *           .help = "a bad video is an error" },
 *         { .name = NULL },
 *     };
 *     static const Command command = { "ingest", "SOURCE --out DIR [options]",
 *                                      "Turns videos with captions into a dataset.", table };
 */
#ifndef ZT_CORE_BASE_OPTIONS_H
#define ZT_CORE_BASE_OPTIONS_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { OPTION_LIST_MAX = 64, OPTION_STRINGS_MAX = 256 };

typedef enum OptionType {
    OPTION_FLAG,    /* bool: --name, --no-name */
    OPTION_INT,     /* int64_t */
    OPTION_DOUBLE,  /* double, finite */
    OPTION_STRING,  /* const char *, not empty; one of `choices` when given */
    OPTION_SIZE,    /* OptionSize: WIDTHxHEIGHT */
    OPTION_INTS,    /* OptionInts: repeated, or with commas */
    OPTION_SIZES,   /* OptionSizes: repeated, or with commas */
    OPTION_STRINGS, /* OptionStrings: repeated */
} OptionType;

typedef struct OptionSize {
    int64_t width, height;
} OptionSize;

typedef struct OptionInts {
    int count;
    int64_t items[OPTION_LIST_MAX];
} OptionInts;

typedef struct OptionSizes {
    int count;
    OptionSize items[OPTION_LIST_MAX];
} OptionSizes;

typedef struct OptionStrings {
    int count;
    const char *items[OPTION_STRINGS_MAX];
} OptionStrings;

typedef struct Option {
    const char *name; /* "fps" for --fps; "SOURCE" when positional; NULL ends the table */
    OptionType type;
    size_t offset;        /* of the value in the command's struct */
    const char *fallback; /* the default as it would be typed; NULL: zero, absent */
    const char *argument; /* what help calls the value; NULL: N, X, TEXT, WxH by type */
    const char *help;     /* lower case, without a full stop */
    double min, max;      /* of numbers and of each side of a size; both 0: no limit */
    const char *choices;  /* "mp4|png" for an OPTION_STRING, or NULL */
    bool required;
    bool positional; /* OPTION_STRING, or a last OPTION_STRINGS that takes the rest */
} Option;

typedef struct Command {
    const char *name;  /* "ingest" */
    const char *usage; /* "SOURCE --out DIR [options]" */
    const char *about; /* what it does, one or two lines */
    const Option *options;
} Command;

/* Fills *out, a struct that the caller zeroed, from argv[1..argc). On --help prints to standard
 * output and sets *helped: the command then returns OK at once. ERR_USAGE names the argument. Not
 * collective: it depends on argv only, so every rank finds the same. */
Status options_parse(const Command *command, int argc, char **argv, void *out, bool *helped);

#ifdef __cplusplus
}
#endif
#endif
