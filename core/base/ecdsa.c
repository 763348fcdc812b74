#include "core/base/ecdsa.h"

#include "core/base/file.h"
#include "core/base/retry.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A PEM file of one key with a few lines of text around it. */
enum { PEM_BYTES_MAX = 16384 };

struct EcdsaKey {
    EVP_PKEY *pair;       /* owned; the private half may be absent */
    const EVP_MD *digest; /* the library's own */
    char *path;           /* owned */
    char fingerprint[DIGEST_HEX];
};

/* --- files --- */

static Status check_private_file(const char *path, const struct stat *info)
{
    CHECK((info->st_mode & 077) == 0, ERR_FORMAT,
          "%s: a private key that group or others may use (mode %04o); chmod 600 it", path,
          (unsigned)(info->st_mode & 07777));
    return OK;
}

static Status read_descriptor(int fd, const char *path, bool private_key, char *text,
                              size_t *length)
{
    struct stat info;
    int result;
    RETRY(result, fstat(fd, &info));
    if (result != 0) return file_fail(path, "stat");
    CHECK(S_ISREG(info.st_mode), ERR_FORMAT, "%s: is not a file", path);
    if (private_key) TRY(check_private_file(path, &info));
    size_t total = 0;
    for (;;) {
        ssize_t n;
        RETRY(n, read(fd, text + total, PEM_BYTES_MAX + 1 - total));
        if (n < 0) return file_fail(path, "read");
        if (n == 0) break;
        total += (size_t)n;
        CHECK(total <= PEM_BYTES_MAX, ERR_FORMAT, "%s: is longer than %d bytes: no key in PEM",
              path, PEM_BYTES_MAX);
    }
    *length = total;
    return OK;
}

/* text[PEM_BYTES_MAX + 1] */
static Status read_pem(const char *path, bool private_key, char *text, size_t *length)
{
    /* not blocking: a pipe that nobody writes would hold the start of a run for ever */
    int fd;
    RETRY(fd, open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (fd < 0) return file_fail(path, "open");
    const Status s = read_descriptor(fd, path, private_key, text, length);
    (void)close(fd);
    return s;
}

/* --- keys --- */

void ecdsa_destroy(EcdsaKey *key)
{
    if (!key) return;
    EVP_PKEY_free(key->pair);
    free(key->path);
    free(key);
}

/* The curve decides the hash, as in Sigstore's registry. */
static const EVP_MD *digest_of(const EVP_PKEY *pair)
{
    char curve[64];
    size_t length = 0;
    if (EVP_PKEY_get_base_id(pair) != EVP_PKEY_EC) return NULL;
    if (EVP_PKEY_get_group_name(pair, curve, sizeof curve, &length) != 1) return NULL;
    if (strcmp(curve, "prime256v1") == 0) return EVP_sha256();
    if (strcmp(curve, "secp384r1") == 0) return EVP_sha384();
    return strcmp(curve, "secp521r1") == 0 ? EVP_sha512() : NULL;
}

static Status take_fingerprint(EcdsaKey *key)
{
    char *pem = NULL;
    Digest digest;
    Status s = OK;
    BIO *memory = BIO_new(BIO_s_mem());
    CHECK(memory, ERR_MEMORY, "%s: no memory for its fingerprint", key->path);
    CHECK_TO(done, s, PEM_write_bio_PUBKEY(memory, key->pair) == 1, ERR_MEMORY,
             "%s: its public half cannot be written as PEM", key->path);
    const long length = BIO_get_mem_data(memory, &pem);
    TRY_TO(done, s, digest_bytes(pem, (size_t)length, &digest));
    digest_hex(&digest, key->fingerprint);
done:
    (void)BIO_free(memory);
    return s;
}

/* Takes the pair, whatever the answer. */
static Status make_key(EVP_PKEY *pair, const char *path, EcdsaKey **out)
{
    Status s = OK;
    EcdsaKey *key = calloc(1, sizeof *key);
    if (!key) EVP_PKEY_free(pair);
    CHECK(key, ERR_MEMORY, "%s: no memory for the key", path);
    key->pair = pair;
    key->path = strdup(path);
    key->digest = digest_of(pair);
    CHECK_TO(done, s, key->path, ERR_MEMORY, "%s: no memory for the key", path);
    CHECK_TO(done, s, key->digest, ERR_FORMAT,
             "%s: is a key of another kind; an elliptic curve key on P-256, P-384 or P-521 is "
             "wanted (openssl ecparam -name prime256v1 -genkey -noout)",
             path);
    TRY_TO(done, s, take_fingerprint(key));
    *out = key;
    key = NULL;
done:
    ecdsa_destroy(key);
    ERR_clear_error();
    return s;
}

/* The library would ask a terminal: a job has none, and a signing key at hand needs none. */
static int no_passphrase(char *out, int size, int writing, void *context)
{
    (void)out, (void)size, (void)writing, (void)context;
    return -1;
}

static bool contains(const char *text, size_t length, const char *word)
{
    return memmem(text, length, word, strlen(word)) != NULL;
}

static Status parse_private(const char *pem, size_t length, const char *path, EcdsaKey **out)
{
    CHECK(!contains(pem, length, "ENCRYPTED"), ERR_FORMAT,
          "%s: needs a passphrase, which a job cannot be asked for; take it off with openssl ec",
          path);
    BIO *memory = BIO_new_mem_buf(pem, (int)length);
    CHECK(memory, ERR_MEMORY, "%s: no memory for the key", path);
    EVP_PKEY *pair = PEM_read_bio_PrivateKey(memory, NULL, no_passphrase, NULL);
    (void)BIO_free(memory);
    ERR_clear_error();
    CHECK(pair, ERR_FORMAT, "%s: holds no private key in PEM%s", path,
          contains(pem, length, "PUBLIC KEY") ? ", but a public one" : "");
    return make_key(pair, path, out);
}

/* A file whose two halves are of different keys would sign what nobody can verify. */
static Status check_pair(const EcdsaKey *key)
{
    static const char probe[] = "zoetrope";
    uint8_t signature[ECDSA_SIGNATURE_BYTES];
    size_t length;
    bool good;
    TRY(ecdsa_sign(key, probe, sizeof probe, signature, &length));
    TRY(ecdsa_verify(key, probe, sizeof probe, signature, length, &good));
    CHECK(good, ERR_FORMAT,
          "%s: is damaged: its public half does not verify what its private half signs", key->path);
    return OK;
}

Status ecdsa_read_private(const char *path, EcdsaKey **out)
{
    char pem[PEM_BYTES_MAX + 1];
    size_t length = 0;
    EcdsaKey *key = NULL;
    Status s = read_pem(path, true, pem, &length);
    if (s == OK) s = parse_private(pem, length, path, &key);
    OPENSSL_cleanse(pem, sizeof pem);
    if (s == OK) s = check_pair(key);
    if (s == OK)
        *out = key;
    else
        ecdsa_destroy(key);
    return s;
}

Status ecdsa_parse_public(const char *pem, size_t length, const char *what, EcdsaKey **out)
{
    CHECK(!contains(pem, length, "PRIVATE KEY"), ERR_FORMAT,
          "%s: holds a private key; whoever verifies needs its public half only (openssl ec "
          "-pubout)",
          what);
    CHECK(length <= PEM_BYTES_MAX, ERR_FORMAT, "%s: is longer than %d bytes: no key in PEM", what,
          PEM_BYTES_MAX);
    BIO *memory = BIO_new_mem_buf(pem, (int)length);
    CHECK(memory, ERR_MEMORY, "%s: no memory for the key", what);
    EVP_PKEY *pair = PEM_read_bio_PUBKEY(memory, NULL, no_passphrase, NULL);
    (void)BIO_free(memory);
    ERR_clear_error();
    CHECK(pair, ERR_FORMAT, "%s: holds no public key in PEM%s", what,
          contains(pem, length, "CERTIFICATE") ? ", but a certificate" : "");
    return make_key(pair, what, out);
}

Status ecdsa_read_public(const char *path, EcdsaKey **out)
{
    char pem[PEM_BYTES_MAX + 1];
    size_t length = 0;
    Status s = read_pem(path, false, pem, &length);
    if (s == OK) s = ecdsa_parse_public(pem, length, path, out);
    OPENSSL_cleanse(pem, sizeof pem); /* it may have been a private one */
    return s;
}

const char *ecdsa_fingerprint(const EcdsaKey *key)
{
    return key->fingerprint;
}

const char *ecdsa_path(const EcdsaKey *key)
{
    return key->path;
}

/* --- signatures --- */

Status ecdsa_sign(const EcdsaKey *key, const void *bytes, size_t length,
                  uint8_t out[ECDSA_SIGNATURE_BYTES], size_t *out_length)
{
    size_t written = ECDSA_SIGNATURE_BYTES;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(context, ERR_MEMORY, "%s: no memory to sign", key->path);
    const bool done = EVP_DigestSignInit(context, NULL, key->digest, NULL, key->pair) == 1 &&
                      EVP_DigestSign(context, out, &written, bytes, length) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    CHECK(done, ERR_FORMAT, "%s: the cryptography library cannot sign with this key", key->path);
    *out_length = written;
    return OK;
}

/* Whether one of the library's errors was that it got no memory; they are forgotten. */
static bool ran_out_of_memory(void)
{
    bool found = false;
    for (unsigned long e = ERR_get_error(); e != 0; e = ERR_get_error())
        if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE) found = true;
    return found;
}

Status ecdsa_verify(const EcdsaKey *key, const void *bytes, size_t length, const uint8_t *signature,
                    size_t signature_length, bool *good)
{
    ERR_clear_error();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    /* with a key that was taken, to begin fails for want of memory only */
    const bool begun =
        context && EVP_DigestVerifyInit(context, NULL, key->digest, NULL, key->pair) == 1;
    const int result =
        begun ? EVP_DigestVerify(context, signature, signature_length, bytes, length) : -1;
    EVP_MD_CTX_free(context);
    const bool starved = ran_out_of_memory();
    CHECK(begun && (result == 1 || !starved), ERR_MEMORY, "%s: no memory to verify a signature",
          key->path);
    *good = result == 1;
    return OK;
}
