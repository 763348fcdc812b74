/*
 * hash: 64 bits of any bytes at the speed of memory, to notice what has changed by accident.
 *
 * XXH64. Not for what somebody may have changed on purpose: that is digest.h. Not collective.
 */
#ifndef ZT_CORE_BASE_HASH_H
#define ZT_CORE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* XXH64 of the bytes. */
uint64_t hash_bytes(const void *bytes, size_t length, uint64_t seed);

/* The sum of the XXH64 of its blocks of 1 MiB, each with its number as seed, on at most `threads`
 * threads: any number of them gives the same. */
uint64_t hash_blocks(const void *bytes, size_t length, int threads);

#ifdef __cplusplus
}
#endif
#endif
