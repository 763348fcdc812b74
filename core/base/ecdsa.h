/*
 * ecdsa: signatures with the NIST curves P-256, P-384 and P-521, keys in PEM files. Owns OpenSSL's
 * libcrypto beside core/base/digest.
 *
 * The hash goes with the curve: SHA-256, SHA-384, SHA-512. A signature is DER as OpenSSL writes it,
 * so that `openssl dgst -verify` reads it too. What a private key's file holds never stands in a
 * message. Not collective.
 */
#ifndef ZT_CORE_BASE_ECDSA_H
#define ZT_CORE_BASE_ECDSA_H

#include "core/base/digest.h"
#include "core/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of a P-521 signature in DER: two integers of 66 bytes and their headers. */
enum { ECDSA_SIGNATURE_BYTES = 144 };

typedef struct EcdsaKey EcdsaKey;

/* For signing. The file must be its owner's alone, without a passphrase, and sign what its public
 * half verifies. ERR_FORMAT, ERR_IO, ERR_MEMORY. */
Status ecdsa_read_private(const char *path, EcdsaKey **out);
/* For verifying: `openssl ec -in KEY.pem -pubout`. */
Status ecdsa_read_public(const char *path, EcdsaKey **out);
/* The same from memory; `what` is what errors call it. */
Status ecdsa_parse_public(const char *pem, size_t length, const char *what, EcdsaKey **out);
void ecdsa_destroy(EcdsaKey *key);

/* The public half's name: SHA-256 of its PEM text, lower-case hexadecimal. View. */
const char *ecdsa_fingerprint(const EcdsaKey *key);
/* The file that the key is from. View. */
const char *ecdsa_path(const EcdsaKey *key);

Status ecdsa_sign(const EcdsaKey *key, const void *bytes, size_t length,
                  uint8_t out[ECDSA_SIGNATURE_BYTES], size_t *out_length);
/* Whether the signature is this key's over these bytes. ERR_MEMORY, which says nothing of it. */
Status ecdsa_verify(const EcdsaKey *key, const void *bytes, size_t length, const uint8_t *signature,
                    size_t signature_length, bool *good);

#ifdef __cplusplus
}
#endif
#endif
