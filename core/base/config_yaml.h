/* config_yaml: YAML text walked into the fields that a table of keys names; the rest is refused. */
#ifndef ZT_CORE_BASE_CONFIG_YAML_H
#define ZT_CORE_BASE_CONFIG_YAML_H

#include "core/base/config.h"
#include "core/base/config_keys.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ConfigYaml {
    const ConfigKey *keys;
    void *out;                        /* the struct */
    const char *name;                 /* the file, or what else the text is */
    bool positions;                   /* errors give line and column */
    size_t key_line[CONFIG_KEYS_MAX]; /* out: where the key was given, or 0 */
} ConfigYaml;

/* `key` NULL: a document of sections and keys, which may be empty. Otherwise the value of that key
 * alone. ERR_CONFIG, ERR_MEMORY. */
Status config_yaml_read(ConfigYaml *yaml, const char *text, size_t length, const ConfigKey *key);
/* "FILE:LINE: unknown key train.stpes; did you mean train.steps?" */
Status config_refuse_unknown(const ConfigKey *keys, const char *path, const char *where);

#ifdef __cplusplus
}
#endif
#endif
