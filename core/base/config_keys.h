/* config_keys: look-ups in the table of keys. */
#ifndef ZT_CORE_BASE_CONFIG_KEYS_H
#define ZT_CORE_BASE_CONFIG_KEYS_H

#include "core/base/config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { CONFIG_KEYS_MAX = 128, CONFIG_DEPTH_MAX = 16 };

/* The row of the key with this dotted name, or -1. */
int config_find(const ConfigKey *keys, const char *path);
/* Whether `path` is a section: the beginning of a key's name up to a dot; "" is the root. The first
 * such row and the section's depth identify it among sections. */
bool config_is_section(const ConfigKey *keys, const char *path, int *row, int *depth);
/* The known name a mistyped path was meant to be: the same last word elsewhere, or nearly the same
 * word in the same section, or nearly the same path. NULL when there is none. */
const char *config_nearest(const ConfigKey *keys, const char *path);
/* The section nearest to a dotted path; false when none is near. */
bool config_nearest_section(const ConfigKey *keys, const char *path, char out[CONFIG_NAME_MAX]);

#ifdef __cplusplus
}
#endif
#endif
