#include "core/base/hash.h"

#include <string.h>

enum { STRIPE = 32, BLOCK = 1 << 20 };

static const uint64_t prime1 = 0x9e3779b185ebca87, prime2 = 0xc2b2ae3d27d4eb4f,
                      prime3 = 0x165667b19e3779f9, prime4 = 0x85ebca77c2b2ae63,
                      prime5 = 0x27d4eb2f165667c5;

static inline uint64_t read64(const unsigned char *at)
{
    uint64_t x;
    memcpy(&x, at, sizeof x);
    return x;
}

static inline uint32_t read32(const unsigned char *at)
{
    uint32_t x;
    memcpy(&x, at, sizeof x);
    return x;
}

static inline uint64_t turn(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline uint64_t round_of(uint64_t lane, uint64_t input)
{
    return turn(lane + input * prime2, 31) * prime1;
}

/* Four lanes that know nothing of each other, so that their multiplications overlap. */
static uint64_t hash_stripes(const unsigned char *at, size_t stripes, uint64_t seed)
{
    uint64_t a = seed + prime1 + prime2, b = seed + prime2, c = seed, d = seed - prime1;
    for (; stripes > 0; stripes--, at += STRIPE) {
        a = round_of(a, read64(at));
        b = round_of(b, read64(at + 8));
        c = round_of(c, read64(at + 16));
        d = round_of(d, read64(at + 24));
    }
    const uint64_t lanes[] = { a, b, c, d };
    uint64_t hash = turn(a, 1) + turn(b, 7) + turn(c, 12) + turn(d, 18);
    for (int i = 0; i < 4; i++) hash = (hash ^ round_of(0, lanes[i])) * prime1 + prime4;
    return hash;
}

/* Fewer than 32 bytes. */
static uint64_t hash_rest(uint64_t hash, const unsigned char *at, size_t left)
{
    for (; left >= 8; left -= 8, at += 8)
        hash = turn(hash ^ round_of(0, read64(at)), 27) * prime1 + prime4;
    if (left >= 4) {
        hash = turn(hash ^ read32(at) * prime1, 23) * prime2 + prime3;
        left -= 4, at += 4;
    }
    for (; left > 0; left--, at++) hash = turn(hash ^ *at * prime5, 11) * prime1;
    return hash;
}

uint64_t hash_bytes(const void *bytes, size_t length, uint64_t seed)
{
    const unsigned char *at = bytes;
    const size_t stripes = length / STRIPE;
    uint64_t hash = stripes > 0 ? hash_stripes(at, stripes, seed) : seed + prime5;
    hash = hash_rest(hash + length, at + stripes * STRIPE, length % STRIPE);
    hash = (hash ^ hash >> 33) * prime2;
    hash = (hash ^ hash >> 29) * prime3;
    return hash ^ hash >> 32;
}

uint64_t hash_blocks(const void *bytes, size_t length, int threads)
{
    const unsigned char *at = bytes;
    const int64_t blocks = (int64_t)((length + BLOCK - 1) / BLOCK);
    uint64_t sum = length;
#pragma omp parallel for num_threads(blocks > 1 ? threads : 1) schedule(static) reduction(+ : sum)
    for (int64_t i = 0; i < blocks; i++) {
        const size_t first = (size_t)i * BLOCK, left = length - first;
        sum += hash_bytes(at + first, left < BLOCK ? left : BLOCK, (uint64_t)i);
    }
    return sum;
}
