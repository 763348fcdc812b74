#include "tests/support/keys.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static EVP_PKEY *generate(TestKey kind)
{
    switch (kind) {
    case TEST_KEY_P384: return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    case TEST_KEY_P521: return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-521");
    case TEST_KEY_SECP256K1: return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "secp256k1");
    case TEST_KEY_RSA: return EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
    case TEST_KEY_ED25519: return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    default: return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    }
}

static FILE *open_private(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return fd < 0 ? NULL : fdopen(fd, "w");
}

static void must(int done)
{
    if (done == 1) return;
    fprintf(stderr, "keys: a key could not be made\n");
    abort();
}

void test_key_make(TestKey kind, const char *private_path, const char *public_path)
{
    static char passphrase[] = "open sesame";
    const EVP_CIPHER *cipher = kind == TEST_KEY_ENCRYPTED ? EVP_aes_256_cbc() : NULL;
    EVP_PKEY *pair = generate(kind);
    FILE *private = open_private(private_path), *public = fopen(public_path, "w");
    must(pair && private && public);
    must(PEM_write_PKCS8PrivateKey(private, pair, cipher, cipher ? passphrase : NULL,
                                   cipher ? (int)sizeof passphrase - 1 : 0, NULL, NULL));
    must(PEM_write_PUBKEY(public, pair));
    must(fclose(private) == 0 && fclose(public) == 0);
    EVP_PKEY_free(pair);
}
