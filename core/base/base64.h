/* base64: RFC 4648's standard alphabet with padding, read as strictly as it is written: one text
 * for each sequence of bytes. Not collective. */
#ifndef ZT_CORE_BASE_BASE64_H
#define ZT_CORE_BASE_BASE64_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The caller frees *text; a 0 stands behind its last character. ERR_MEMORY. */
Status base64_encode(const void *bytes, size_t length, char **text);
/* `what` names the text in errors. A 0 stands behind the bytes (not counted); the caller frees
 * them. ERR_FORMAT: other characters, white space among them, a length or padding that no encoder
 * writes, bits that are set behind the last byte. ERR_MEMORY. */
Status base64_decode(const char *text, const char *what, uint8_t **bytes, size_t *length);

#ifdef __cplusplus
}
#endif
#endif
