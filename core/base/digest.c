#include "core/base/digest.h"

#include "core/base/retry.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct DigestStream {
    EVP_MD_CTX *context; /* owned */
};

/* Looked up once for the process and kept until it ends: each look-up takes memory, and one that
 * fails half-way can leave a context that seems good (OpenSSL 3.0). NULL: no memory. */
static const EVP_MD *sha256(void)
{
    static _Atomic(EVP_MD *) found;
    EVP_MD *known = atomic_load(&found);
    if (known) return known;
    EVP_MD *fresh = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (atomic_compare_exchange_strong(&found, &known, fresh)) return fresh;
    EVP_MD_free(fresh); /* another thread was first */
    return known;
}

static Status start(DigestStream *stream)
{
    const EVP_MD *kind = sha256();
    stream->context = kind ? EVP_MD_CTX_new() : NULL;
    if (stream->context && EVP_DigestInit_ex(stream->context, kind, NULL) == 1) return OK;
    EVP_MD_CTX_free(stream->context);
    return status_fail(ERR_MEMORY, "sha-256: the cryptography library could not start it");
}

Status digest_stream_create(DigestStream **out)
{
    DigestStream *stream = malloc(sizeof *stream);
    CHECK(stream, ERR_MEMORY, "sha-256: no memory");
    const Status s = start(stream);
    if (s == OK)
        *out = stream;
    else
        free(stream);
    return s;
}

/* After a successful start, SHA-256 in software cannot fail and takes no memory: a failure here is
 * a bug. (To start a context again takes memory.) */
static void must(int result)
{
    if (result != 1) abort();
}

void digest_stream_update(DigestStream *stream, const void *bytes, size_t length)
{
    must(EVP_DigestUpdate(stream->context, bytes, length));
}

void digest_stream_finish(DigestStream *stream, Digest *out)
{
    must(EVP_DigestFinal_ex(stream->context, out->bytes, NULL));
}

void digest_stream_destroy(DigestStream *stream)
{
    if (!stream) return;
    EVP_MD_CTX_free(stream->context);
    free(stream);
}

Status digest_bytes(const void *bytes, size_t length, Digest *out)
{
    DigestStream stream;
    TRY(start(&stream));
    digest_stream_update(&stream, bytes, length);
    digest_stream_finish(&stream, out);
    EVP_MD_CTX_free(stream.context);
    return OK;
}

static Status digest_descriptor(int fd, const char *path, DigestStream *stream, int64_t *size)
{
    enum { PIECE = 1 << 20 };
    char *piece = malloc(PIECE);
    CHECK(piece, ERR_MEMORY, "%s: no memory to read it", path);
    Status s = OK;
    int64_t total = 0;
    for (;;) {
        ssize_t n;
        RETRY(n, read(fd, piece, PIECE));
        if (n < 0) s = status_fail(ERR_IO, "%s: read: %s", path, strerror(errno));
        if (n <= 0) break;
        digest_stream_update(stream, piece, (size_t)n);
        total += n;
    }
    free(piece);
    if (s == OK && size) *size = total;
    return s;
}

Status digest_file(const char *path, Digest *out, int64_t *size)
{
    Status s = OK;
    DigestStream *stream = NULL;
    struct stat st;
    int fd, found;
    /* a pipe of that name must not hang the job */
    RETRY(fd, open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    CHECK(fd >= 0, ERR_IO, "%s: open: %s", path, strerror(errno));
    RETRY(found, fstat(fd, &st));
    CHECK_TO(done, s, found == 0, ERR_IO, "%s: stat: %s", path, strerror(errno));
    CHECK_TO(done, s, S_ISREG(st.st_mode), ERR_IO, "%s: is not a regular file", path);
    TRY_TO(done, s, digest_stream_create(&stream));
    TRY_TO(done, s, digest_descriptor(fd, path, stream, size));
    digest_stream_finish(stream, out);
done:
    digest_stream_destroy(stream);
    (void)close(fd);
    return s;
}

void digest_hex(const Digest *digest, char out[DIGEST_HEX])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < DIGEST_BYTES; i++) {
        out[2 * i] = digits[digest->bytes[i] >> 4];
        out[2 * i + 1] = digits[digest->bytes[i] & 15];
    }
    out[2 * DIGEST_BYTES] = 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

Status digest_parse(const char *hex, Digest *out)
{
    Digest digest;
    CHECK(strlen(hex) == 2 * DIGEST_BYTES, ERR_FORMAT,
          "sha-256 \"%.80s\" is not 64 hexadecimal digits", hex);
    for (int i = 0; i < DIGEST_BYTES; i++) {
        const int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
        CHECK(high >= 0 && low >= 0, ERR_FORMAT, "sha-256 \"%.80s\" is not 64 hexadecimal digits",
              hex);
        digest.bytes[i] = (uint8_t)(high << 4 | low);
    }
    *out = digest;
    return OK;
}
