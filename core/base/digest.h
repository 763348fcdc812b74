/* digest: SHA-256, whole or as bytes stream by. Owns OpenSSL's libcrypto, with core/base/ecdsa. Not
 * collective. */
#ifndef ZT_CORE_BASE_DIGEST_H
#define ZT_CORE_BASE_DIGEST_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { DIGEST_BYTES = 32, DIGEST_HEX = 65 };

typedef struct Digest {
    uint8_t bytes[DIGEST_BYTES];
} Digest;

typedef struct DigestStream DigestStream;

/* ERR_MEMORY. */
Status digest_stream_create(DigestStream **out);
void digest_stream_update(DigestStream *stream, const void *bytes, size_t length);
/* The digest of everything so far; nothing can be added after it. */
void digest_stream_finish(DigestStream *stream, Digest *out);
void digest_stream_destroy(DigestStream *stream);

Status digest_bytes(const void *bytes, size_t length, Digest *out);
/* size (may be NULL): bytes of the file. ERR_IO, ERR_MEMORY. */
Status digest_file(const char *path, Digest *out, int64_t *size);

/* 64 lower-case hexadecimal digits and a 0. */
void digest_hex(const Digest *digest, char out[DIGEST_HEX]);
/* ERR_FORMAT when it is not 64 hexadecimal digits. */
Status digest_parse(const char *hex, Digest *out);

#ifdef __cplusplus
}
#endif
#endif
