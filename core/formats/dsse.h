/*
 * dsse: a signed in-toto payload, as a DSSE envelope in a Sigstore bundle (media type v0.3).
 *
 * What is signed is the pre-authentication encoding, "DSSEv1 28 application/vnd.in-toto+json LENGTH
 * PAYLOAD", so that a signature over one type of payload never counts for another. Reading goes in
 * two halves: dsse_parse takes the bundle apart and believes nothing, dsse_check says whose the
 * signature is. Only then is it time to look into the payload. Only bundles of the method "key" are
 * read; certificates and transparency logs are not. Not collective.
 */
#ifndef ZT_CORE_FORMATS_DSSE_H
#define ZT_CORE_FORMATS_DSSE_H

#include "core/formats/trusted_keys.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Dsse {
    char *payload; /* owned; JSON text, with a 0 behind it */
    size_t payload_length;
    uint8_t *signature; /* owned */
    size_t signature_length;
    char fingerprint[DIGEST_HEX]; /* of the key that it claims; empty: an older bundle, none */
} Dsse;

/* Most bytes of a bundle: 100,000 files with long names. */
enum { DSSE_BYTES_MAX = 96 << 20 };

/* The bundle's JSON text with a 0 behind it; the caller frees it. */
Status dsse_seal(const EcdsaKey *key, const char *payload, size_t length, char **text,
                 size_t *text_length);

/* `what` is what errors call the bundle. ERR_FORMAT, ERR_MEMORY. */
Status dsse_parse(const char *text, size_t length, const char *what, Dsse *out);
void dsse_destroy(Dsse *dsse);
/* ERR_FORMAT when no key of `keys` has made the signature; *signer (a view of keys) is the one
 * that has. */
Status dsse_check(const Dsse *dsse, const char *what, const TrustedKeys *keys,
                  const EcdsaKey **signer);

#ifdef __cplusplus
}
#endif
#endif
