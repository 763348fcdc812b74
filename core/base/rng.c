#include "core/base/rng.h"

#include <math.h>

/* A bijective mix, so that near-by seeds and ids give unrelated keys (splitmix64's finaliser). */
static uint64_t mix(uint64_t x)
{
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

Rng rng_make(uint64_t seed, RngPurpose purpose, uint64_t id)
{
    const uint64_t key = mix(mix(seed) ^ (uint64_t)purpose);
    return (Rng){ .key = { (uint32_t)key, (uint32_t)(key >> 32) },
                  .counter = { (uint32_t)id, (uint32_t)(id >> 32) } };
}

void rng_block(Rng rng, uint64_t block, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32);
    uint32_t c2 = rng.counter[0], c3 = rng.counter[1];
    uint32_t k0 = rng.key[0], k1 = rng.key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t rng_u32(Rng rng, uint64_t index)
{
    uint32_t words[4];
    rng_block(rng, index / 4, words);
    return words[index % 4];
}

static float unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

float rng_uniform(Rng rng, uint64_t index)
{
    return unit(rng_u32(rng, index));
}

/* Words (0, 1) make elements 0 and 1, words (2, 3) elements 2 and 3. */
static void normal_pair(uint32_t a, uint32_t b, float out[2])
{
    const float u = 1.0f - unit(a); /* (0, 1]: the logarithm stays finite */
    const float radius = sqrtf(-2.0f * logf(u));
    const float angle = 6.283185307179586f * unit(b);
    out[0] = radius * cosf(angle);
    out[1] = radius * sinf(angle);
}

float rng_normal(Rng rng, uint64_t index)
{
    uint32_t w[4];
    float pair[2];
    rng_block(rng, index / 4, w);
    const int half = (int)(index % 4) / 2;
    normal_pair(w[2 * half], w[2 * half + 1], pair);
    return pair[index % 2];
}

/* What the four words of a block stand for. */
typedef void Values(const uint32_t w[4], float out[4]);

static void uniform_values(const uint32_t w[4], float out[4])
{
    for (int i = 0; i < 4; i++) out[i] = unit(w[i]);
}

static void normal_values(const uint32_t w[4], float out[4])
{
    normal_pair(w[0], w[1], out);
    normal_pair(w[2], w[3], out + 2);
}

/* Inlined, so that `values` is known. */
static inline __attribute__((always_inline)) void fill(Rng rng, uint64_t first, int64_t count,
                                                       float *out, Values *values)
{
    for (int64_t i = 0; i < count;) {
        const uint64_t index = first + (uint64_t)i;
        uint32_t w[4];
        float four[4];
        rng_block(rng, index / 4, w);
        values(w, four);
        for (int k = (int)(index % 4); k < 4 && i < count; k++) out[i++] = four[k];
    }
}

void rng_fill_uniform(Rng rng, uint64_t first, int64_t count, float *out)
{
    fill(rng, first, count, out, uniform_values);
}

void rng_fill_normal(Rng rng, uint64_t first, int64_t count, float *out)
{
    fill(rng, first, count, out, normal_values);
}

uint64_t rng_name_id(const char *name)
{
    uint64_t h = 14695981039346656037u;
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}
