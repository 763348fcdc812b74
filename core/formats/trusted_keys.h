/* trusted_keys: the public keys that whoever runs this believes. Not collective. */
#ifndef ZT_CORE_FORMATS_TRUSTED_KEYS_H
#define ZT_CORE_FORMATS_TRUSTED_KEYS_H

#include "core/base/ecdsa.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TrustedKeys {
    EcdsaKey **items; /* owned */
    int count;
} TrustedKeys;

/* PEM files. ERR_FORMAT, ERR_IO, ERR_MEMORY name the one that cannot be taken. */
Status trusted_keys_read(const char *const *paths, int count, TrustedKeys *out);
void trusted_keys_destroy(TrustedKeys *keys);
/* The one with this fingerprint (ecdsa_fingerprint), or NULL. */
const EcdsaKey *trusted_keys_find(const TrustedKeys *keys, const char *fingerprint);

#ifdef __cplusplus
}
#endif
#endif
