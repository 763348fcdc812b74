/* safetensors_header: the checks of the JSON header, apart from any file. See safetensors.h. */
#ifndef ZT_CORE_FORMATS_SAFETENSORS_HEADER_H
#define ZT_CORE_FORMATS_SAFETENSORS_HEADER_H

#include "core/formats/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct SafetensorsHeader {
    SafetensorsEntry *entries; /* owned; in the order of the data */
    int64_t *by_name;          /* owned; positions in `entries`, sorted by name */
    int64_t count;
    char **metadata; /* owned; key, value, key, value, ... */
    int64_t metadata_count;
    char *names; /* owned; what the entries' names point into */
} SafetensorsHeader;

/* `data_first`: bytes before the data in the file; `data_bytes`: length of the data. */
Status safetensors_header_parse(const char *text, size_t length, int64_t data_first,
                                int64_t data_bytes, const char *what, SafetensorsHeader *out);
void safetensors_header_destroy(SafetensorsHeader *header);

#ifdef __cplusplus
}
#endif
#endif
