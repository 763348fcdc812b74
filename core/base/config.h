/*
 * config: strict YAML read into a struct by a table of keys.
 *
 * A row names a key by its dotted path and says type, default, range and where the value goes; from
 * it come parsing, command-line overrides (`train.steps=200`), the errors and the printed form. The
 * struct is plain bytes: no pointers, nothing to free, fit to copy and to compare. Owns libyaml.
 *
 * Refused: anchors, aliases, tags, several documents, duplicate and unknown keys, lists or mappings
 * where a value belongs, depth over 16, files over 1 MiB, scalars over 64 KiB.
 */
#ifndef ZT_CORE_BASE_CONFIG_H
#define ZT_CORE_BASE_CONFIG_H

#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    CONFIG_PATH_MAX = 1024,
    CONFIG_NAME_MAX = 64,
    CONFIG_TEXTS_MAX = 16,
    CONFIG_TEXT_MAX = 1024
};

typedef enum ConfigType {
    CONFIG_INT,     /* int64_t */
    CONFIG_DOUBLE,  /* double, finite */
    CONFIG_BOOL,    /* bool: true or false */
    CONFIG_STRING,  /* char[size]: UTF-8 without control characters */
    CONFIG_ENUM,    /* int: the place of the word in `choices` */
    CONFIG_DOUBLES, /* double[count]: exactly count numbers */
    CONFIG_STRINGS, /* ConfigTexts */
} ConfigType;

typedef struct ConfigTexts {
    int64_t count;
    char items[CONFIG_TEXTS_MAX][CONFIG_TEXT_MAX];
} ConfigTexts;

typedef struct ConfigKey {
    const char *name; /* "train.timestep.mean"; NULL ends the table */
    ConfigType type;
    size_t offset;
    const char *fallback; /* the default as it would be written; NULL: the key is required */
    double min, max;      /* of numbers; both 0: no limit */
    const char *choices;  /* of an enum: "cosine|constant" */
    const char *word;     /* of an int or a double: a word that stands for 0, as "auto", or NULL */
    size_t size;          /* of a string: bytes of its array, ending zero included */
    int count;            /* of CONFIG_DOUBLES */
} ConfigKey;

/* Defaults, then the file, then the overrides ("key.sub=value") in order. *out is set only on
 * success. ERR_CONFIG names FILE:LINE:COLUMN (or the argument), the key, the value and the nearest
 * known name; ERR_IO when the file cannot be read. Not collective. */
Status config_load(const ConfigKey *keys, const char *path, int override_count,
                   const char *const *overrides, void *out, size_t out_size);
/* The same from memory; `name` is what errors call it. */
Status config_parse(const ConfigKey *keys, const char *name, const char *text, size_t length,
                    int override_count, const char *const *overrides, void *out, size_t out_size);

/* Writes every key as YAML that config_parse reads back to the same values. */
Status config_print(const ConfigKey *keys, const void *config, FILE *stream);

#ifdef __cplusplus
}
#endif
#endif
