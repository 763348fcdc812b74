/* string_list: strings one after the other in one block of memory. */
#ifndef ZT_DATA_STRING_LIST_H
#define ZT_DATA_STRING_LIST_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct StringList {
    char *bytes;     /* owned; each string ends with a 0 */
    int64_t *starts; /* (count + 1) owned; starts[count] is the bytes in use */
    int64_t count;
    int64_t bytes_reserved, reserved; /* room: bytes, strings */
} StringList;

/* Makes room for so many strings and bytes (without zeros) in all. ERR_MEMORY names `what`. */
Status string_list_reserve(StringList *list, int64_t strings, int64_t bytes, const char *what);
/* Appends bytes[0 .. length). ERR_MEMORY. */
Status string_list_add(StringList *list, const char *bytes, int64_t length, const char *what);
/* View. */
const char *string_list_at(const StringList *list, int64_t index);
int64_t string_list_length(const StringList *list, int64_t index);
void string_list_clear(StringList *list);
void string_list_destroy(StringList *list);

#ifdef __cplusplus
}
#endif
#endif
