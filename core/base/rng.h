/*
 * rng: counter-based random numbers (Philox 4x32-10, Salmon et al., SC 2011).
 *
 * A number is a pure function of (seed, purpose, id, index): no rank, no call order, no hidden
 * state. `id` is a sample's or a tensor's number, `index` the element within it. So a run that is
 * resumed or placed on another mesh draws the same numbers.
 */
#ifndef ZT_CORE_BASE_RNG_H
#define ZT_CORE_BASE_RNG_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum RngPurpose {
    RNG_INIT = 1, /* initial weights; id: hash of the tensor's name */
    RNG_NOISE,    /* training noise; id: global sample number */
    RNG_TIMESTEP, /* training timesteps; id: global sample number */
    RNG_CAPTION,  /* index 0: caption drop, 1: which wording; id: global sample number */
    RNG_SHUFFLE,  /* order of the data; id: epoch */
    RNG_SAMPLE,   /* noise that sampling starts from; id: request number */
    RNG_EVAL,     /* noise of the held-out loss; id: clip * bins + bin */
    RNG_TEST,
} RngPurpose;

typedef struct Rng {
    uint32_t key[2];     /* from the seed */
    uint32_t counter[2]; /* from purpose and id: upper half of the Philox counter */
} Rng;

Rng rng_make(uint64_t seed, RngPurpose purpose, uint64_t id);

/* Four words of block `block` (Philox 4x32-10). */
void rng_block(Rng rng, uint64_t block, uint32_t out[4]);
/* Element `index`: 32 random bits. */
uint32_t rng_u32(Rng rng, uint64_t index);
/* Element `index` in [0, 1): 24 bits. */
float rng_uniform(Rng rng, uint64_t index);
/* Element `index` of a standard normal (Box-Muller on the words of its block). */
float rng_normal(Rng rng, uint64_t index);
/* out[i] = rng_uniform(rng, first + i): the same bits, four at a time. */
void rng_fill_uniform(Rng rng, uint64_t first, int64_t count, float *out);
/* The same of rng_normal. */
void rng_fill_normal(Rng rng, uint64_t first, int64_t count, float *out);

/* FNV-1a of a name, for ids of tensors. */
uint64_t rng_name_id(const char *name);

#ifdef __cplusplus
}
#endif
#endif
