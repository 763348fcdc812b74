/*
 * ring: a bounded buffer of bytes between two threads: one writes, one reads, in order.
 *
 * Both wait for the other: the writer while it is full, the reader while it is empty.
 */
#ifndef ZT_CORE_BASE_RING_H
#define ZT_CORE_BASE_RING_H

#include "core/base/status.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct Ring Ring;

/* memory (size, > 0) is the caller's and outlives the ring. ERR_MEMORY. */
Status ring_create(void *memory, size_t size, Ring **out);
void ring_destroy(Ring *ring);

/* Copies the bytes in. After ring_close they are dropped at once. */
void ring_write(Ring *ring, const void *bytes, size_t length);
/* Waits for `wanted` bytes (> 0), or as many as lie in one piece: up to the memory's end. How many
 * does not depend on when they came. 0 after ring_close. They stay until ring_release. */
size_t ring_read(Ring *ring, size_t wanted, const void **bytes);
void ring_release(Ring *ring, size_t length);
/* Nobody waits any longer: what is to come is given up. */
void ring_close(Ring *ring);

#ifdef __cplusplus
}
#endif
#endif
