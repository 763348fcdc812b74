#include "core/formats/trusted_keys.h"

#include <stdlib.h>
#include <string.h>

void trusted_keys_destroy(TrustedKeys *keys)
{
    if (!keys) return;
    for (int i = 0; i < keys->count; i++) ecdsa_destroy(keys->items[i]);
    free(keys->items);
    *keys = (TrustedKeys){ 0 };
}

Status trusted_keys_read(const char *const *paths, int count, TrustedKeys *out)
{
    Status s = OK;
    TrustedKeys keys = { .items = calloc((size_t)count + 1, sizeof *keys.items) };
    CHECK(keys.items, ERR_MEMORY, "no memory for %d trusted keys", count);
    for (; keys.count < count && s == OK; keys.count += s == OK)
        s = ecdsa_read_public(paths[keys.count], &keys.items[keys.count]);
    if (s == OK)
        *out = keys;
    else
        trusted_keys_destroy(&keys);
    return s;
}

const EcdsaKey *trusted_keys_find(const TrustedKeys *keys, const char *fingerprint)
{
    for (int i = 0; i < keys->count; i++)
        if (strcmp(ecdsa_fingerprint(keys->items[i]), fingerprint) == 0) return keys->items[i];
    return NULL;
}
