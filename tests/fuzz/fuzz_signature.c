/*
 * fuzz_signature: libFuzzer on the bytes of model.sig.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -std=c11 -D_GNU_SOURCE -I. \
 *         tests/fuzz/fuzz_signature.c core/formats/{dsse,statement,trusted_keys}.c \
 *         core/base/{base64,digest,ecdsa,file,folder,json,json_writer,status}.c -ljansson -lcrypto
 * \ -lm -o fuzz
 *     ./fuzz -max_len=8192 tests/fuzz/corpus/signature
 *
 * No input will ever carry a signature that verifies, so the statement is parsed without waiting
 * for one: the payload of every bundle that can be taken apart, and every input as a statement
 * itself.
 */
#include "core/formats/dsse.h"
#include "core/formats/statement.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* On P-256; the corpus is signed with the private half that nobody kept. */
static const char pem[] = "-----BEGIN PUBLIC KEY-----\n"
                          "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE1TOQUN5Ob9XLtQsWqx3gSIVj8m6a\n"
                          "msYiYdecgYbpgeUypVj6UaaN3etFz3Hlgc36snUjIvVS669P7hGkqMXcsw==\n"
                          "-----END PUBLIC KEY-----\n";

static const TrustedKeys *trusted(void)
{
    static TrustedKeys keys; /* one for all inputs, as a program reads its keys once */
    static EcdsaKey *items[1];
    if (keys.count > 0) return &keys;
    if (ecdsa_parse_public(pem, sizeof pem - 1, "fuzz", &items[0]) != OK) abort();
    keys = (TrustedKeys){ .items = items, .count = 1 };
    return &keys;
}

static void parse_statement(const char *text, size_t length)
{
    Statement statement;
    if (statement_parse(text, length, "fuzz", &statement) != OK) return;
    for (int64_t i = 0; i < statement.count; i++) {
        const StatementFile *file = &statement.files[i];
        if (statement_find(&statement, file->name) != file) abort();
        if (file->name[0] == '/' || strcmp(file->name, "..") == 0) abort();
        (void)statement_left_out(&statement, file->name);
    }
    statement_destroy(&statement);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    Dsse dsse;
    const EcdsaKey *signer;
    if (dsse_parse((const char *)bytes, size, "fuzz", &dsse) == OK) {
        (void)dsse_check(&dsse, "fuzz", trusted(), &signer);
        parse_statement(dsse.payload, dsse.payload_length);
        dsse_destroy(&dsse);
    }
    parse_statement((const char *)bytes, size);
    return 0;
}
