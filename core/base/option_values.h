/* option_values: the text of one option turned into its value, for options.c. */
#ifndef ZT_CORE_BASE_OPTION_VALUES_H
#define ZT_CORE_BASE_OPTION_VALUES_H

#include "core/base/options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Stores `text` in the option's field of *out; lists grow by it. ERR_USAGE. */
Status option_store(const Option *option, const char *text, void *out);
/* Empties a list, so that what is typed replaces the default. */
void option_clear(const Option *option, void *out);

#ifdef __cplusplus
}
#endif
#endif
