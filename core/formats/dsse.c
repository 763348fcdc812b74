#include "core/formats/dsse.h"

#include "core/base/base64.h"
#include "core/base/json.h"
#include "core/base/json_writer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOAD_TYPE "application/vnd.in-toto+json"
#define BUNDLE_TYPE "application/vnd.dev.sigstore.bundle.v0.3+json"

/* The bytes that a signature is over; the caller frees them. */
static Status encode(const char *payload, size_t length, char **out, size_t *out_length)
{
    char head[96];
    const int n = snprintf(head, sizeof head, "DSSEv1 %zu %s %zu ", strlen(PAYLOAD_TYPE),
                           PAYLOAD_TYPE, length);
    char *bytes = malloc((size_t)n + length);
    CHECK(bytes, ERR_MEMORY, "no memory for a payload of %zu bytes to sign", length);
    memcpy(bytes, head, (size_t)n);
    memcpy(bytes + n, payload, length);
    *out = bytes;
    *out_length = (size_t)n + length;
    return OK;
}

/* --- writing --- */

static void write_bundle(JsonWriter *w, const char *fingerprint, const char *payload,
                         const char *signature)
{
    json_begin_object(w, NULL);
    json_write_string(w, "mediaType", BUNDLE_TYPE);
    json_begin_object(w, "verificationMaterial");
    json_begin_object(w, "publicKey");
    json_write_string(w, "hint", fingerprint);
    json_end_object(w);
    json_begin_array(w, "tlogEntries");
    json_end_array(w);
    json_end_object(w);
    json_begin_object(w, "dsseEnvelope");
    json_write_string(w, "payload", payload);
    json_write_string(w, "payloadType", PAYLOAD_TYPE);
    json_begin_array(w, "signatures");
    json_begin_object(w, NULL);
    json_write_string(w, "sig", signature);
    json_write_string(w, "keyid", "");
    json_end_object(w);
    json_end_array(w);
    json_end_object(w);
    json_end_object(w);
}

static Status sign(const EcdsaKey *key, const char *payload, size_t length, char **text)
{
    uint8_t signature[ECDSA_SIGNATURE_BYTES];
    char *bytes = NULL;
    size_t count = 0, signature_length = 0;
    TRY(encode(payload, length, &bytes, &count));
    const Status s = ecdsa_sign(key, bytes, count, signature, &signature_length);
    free(bytes);
    TRY(s);
    return base64_encode(signature, signature_length, text);
}

Status dsse_seal(const EcdsaKey *key, const char *payload, size_t length, char **text,
                 size_t *text_length)
{
    char *signature = NULL, *encoded = NULL;
    JsonWriter w = json_writer(0);
    Status s = sign(key, payload, length, &signature);
    if (s == OK) s = base64_encode(payload, length, &encoded);
    if (s == OK) {
        write_bundle(&w, ecdsa_fingerprint(key), encoded, signature);
        s = json_writer_finish(&w, text, text_length);
    }
    free(encoded);
    free(signature);
    return s;
}

/* --- reading --- */

/* That an object has no member but these. */
static Status check_members(const Json *object, const char *what, const char *const *known)
{
    for (void *i = json_first(object); i; i = json_next(object, i)) {
        bool found = false;
        for (int k = 0; known[k] && !found; k++) found = strcmp(json_key(i), known[k]) == 0;
        CHECK(found, ERR_FORMAT, "%s: \"%.40s\" is no part of a signature bundle", what,
              json_key(i));
    }
    return OK;
}

/* Before version 1.1 of the format the key itself stood here in place of its fingerprint. Whoever
 * signed can write any key: it is not used. */
static Status parse_material(const Json *bundle, const char *what, Dsse *out)
{
    static const char *const members[] = { "publicKey", "tlogEntries", "timestampVerificationData",
                                           NULL };
    const Json *material, *key;
    const char *hint;
    Digest digest;
    TRY(json_get_object(bundle, what, "verificationMaterial", &material));
    CHECK(json_has(material, "publicKey"), ERR_FORMAT,
          "%s: is not signed with a key (no \"publicKey\"); certificates and transparency logs are "
          "not read",
          what);
    TRY(check_members(material, what, members));
    TRY(json_get_object(material, what, "publicKey", &key));
    if (!json_has(key, "hint")) return json_get_string(key, what, "rawBytes", &hint);
    TRY(json_get_string(key, what, "hint", &hint));
    CHECK(digest_parse(hint, &digest) == OK, ERR_FORMAT,
          "%s: \"hint\" is \"%.80s\", expected a key's SHA-256", what, hint);
    digest_hex(&digest, out->fingerprint);
    return OK;
}

/* DSSE knows several signatures, a bundle has one. */
static Status parse_signature(const Json *envelope, const char *what, Dsse *out)
{
    static const char *const members[] = { "sig", "keyid", NULL };
    const Json *signatures, *entry;
    const char *text;
    TRY(json_get_array(envelope, what, "signatures", &signatures));
    CHECK(json_count(signatures) == 1, ERR_FORMAT, "%s: has %lld signatures, expected one", what,
          (long long)json_count(signatures));
    entry = json_as_object(json_at(signatures, 0));
    CHECK(entry, ERR_FORMAT, "%s: \"signatures\" holds something that is no object", what);
    TRY(check_members(entry, what, members));
    if (json_has(entry, "keyid")) TRY(json_get_string(entry, what, "keyid", &text));
    TRY(json_get_string(entry, what, "sig", &text));
    return base64_decode(text, what, &out->signature, &out->signature_length);
}

static Status parse_envelope(const Json *bundle, const char *what, Dsse *out)
{
    static const char *const members[] = { "payload", "payloadType", "signatures", NULL };
    const Json *envelope;
    const char *text;
    uint8_t *payload = NULL;
    TRY(json_get_object(bundle, what, "dsseEnvelope", &envelope));
    TRY(check_members(envelope, what, members));
    TRY(json_check_string(envelope, what, "payloadType", PAYLOAD_TYPE));
    TRY(json_get_string(envelope, what, "payload", &text));
    TRY(base64_decode(text, what, &payload, &out->payload_length));
    out->payload = (char *)payload;
    return parse_signature(envelope, what, out);
}

static Status parse_bundle(const Json *bundle, const char *what, Dsse *out)
{
    static const char *const members[] = { "mediaType", "verificationMaterial", "dsseEnvelope",
                                           NULL };
    TRY(json_check_string(bundle, what, "mediaType", BUNDLE_TYPE));
    TRY(check_members(bundle, what, members));
    TRY(parse_material(bundle, what, out));
    return parse_envelope(bundle, what, out);
}

Status dsse_parse(const char *text, size_t length, const char *what, Dsse *out)
{
    /* small but for its one long string; a log's entries would be the deepest part */
    const JsonLimits limits = { .bytes = DSSE_BYTES_MAX, .depth = 16, .values = 10000 };
    Dsse dsse = { 0 };
    Json *bundle = NULL;
    TRY(json_parse(text, length, what, &limits, &bundle));
    const Status s = parse_bundle(bundle, what, &dsse);
    json_free(bundle);
    if (s == OK)
        *out = dsse;
    else
        dsse_destroy(&dsse);
    return s;
}

void dsse_destroy(Dsse *dsse)
{
    if (!dsse) return;
    free(dsse->payload);
    free(dsse->signature);
    *dsse = (Dsse){ 0 };
}

/* --- checking --- */

/* The claimed key only, or every one when the bundle claims none. *signer NULL: none of them. */
static Status find_signer(const Dsse *dsse, const char *bytes, size_t length,
                          const TrustedKeys *keys, const EcdsaKey **signer)
{
    *signer = NULL;
    for (int i = 0; i < keys->count && !*signer; i++) {
        const EcdsaKey *key = keys->items[i];
        bool good;
        if (dsse->fingerprint[0] && strcmp(ecdsa_fingerprint(key), dsse->fingerprint) != 0)
            continue;
        TRY(ecdsa_verify(key, bytes, length, dsse->signature, dsse->signature_length, &good));
        if (good) *signer = key;
    }
    return OK;
}

Status dsse_check(const Dsse *dsse, const char *what, const TrustedKeys *keys,
                  const EcdsaKey **signer)
{
    char *bytes = NULL;
    size_t length = 0;
    const EcdsaKey *claimed =
        dsse->fingerprint[0] ? trusted_keys_find(keys, dsse->fingerprint) : NULL;
    CHECK(claimed || !dsse->fingerprint[0], ERR_FORMAT,
          "%s: is signed with the key %.16s..., which is none of the %d trusted", what,
          dsse->fingerprint, keys->count);
    TRY(encode(dsse->payload, dsse->payload_length, &bytes, &length));
    const EcdsaKey *found = NULL;
    const Status s = find_signer(dsse, bytes, length, keys, &found);
    free(bytes);
    TRY(s);
    CHECK(found || !claimed, ERR_FORMAT, "%s: its signature is not that of %s: it was changed",
          what, ecdsa_path(claimed));
    CHECK(found, ERR_FORMAT, "%s: its signature is by none of the %d trusted keys, or was changed",
          what, keys->count);
    *signer = found;
    return OK;
}
