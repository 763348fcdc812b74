/* keys: fresh keys for tests, as the PEM files that people have. Owns OpenSSL in the tests. */
#ifndef ZT_TESTS_SUPPORT_KEYS_H
#define ZT_TESTS_SUPPORT_KEYS_H

typedef enum TestKey {
    TEST_KEY_P256,
    TEST_KEY_P384,
    TEST_KEY_P521,
    TEST_KEY_SECP256K1,
    TEST_KEY_RSA,
    TEST_KEY_ED25519,
    TEST_KEY_ENCRYPTED, /* P-256 behind a passphrase */
} TestKey;

/* Writes the private half (mode 0600) and the public one; aborts when it cannot. */
void test_key_make(TestKey kind, const char *private_path, const char *public_path);

#endif
