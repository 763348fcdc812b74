/* config_values: one value of the configuration, from text to the struct's field. */
#ifndef ZT_CORE_BASE_CONFIG_VALUES_H
#define ZT_CORE_BASE_CONFIG_VALUES_H

#include "core/base/config.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ConfigText {
    const char *bytes; /* view, not ended by zero */
    size_t length;
    bool quoted; /* a quoted word is never a number */
} ConfigText;

bool config_is_list(const ConfigKey *key);
/* Stores one value, or item `index` of a list, in *out, the struct. ERR_CONFIG begins with `where`
 * and the key. */
Status config_value_store(const ConfigKey *key, ConfigText text, int index, const char *where,
                          void *out);
/* After the last item of a list. */
Status config_list_end(const ConfigKey *key, int count, const char *where, void *out);
/* "expected a whole number": what a key takes, for errors about structure. */
const char *config_expects(const ConfigKey *key);
/* `text` fit for one line: cut when long, control characters as '?'. */
const char *config_shown(ConfigText text, char out[64]);

#ifdef __cplusplus
}
#endif
#endif
