/*
 * arena: one planned allocation from which tensors are cut.
 *
 * The plan runs the same allocation code on a counting arena (data NULL, nothing reserved), reads
 * the high-water mark, and creates the real arena of exactly that size: a job that will not fit
 * stops before its first step. Allocation is a bump; take a mark, use, release. A plan that shows
 * what takes the memory watches the counting arena.
 */
#ifndef ZT_CORE_BASE_ARENA_H
#define ZT_CORE_BASE_ARENA_H

#include "core/base/status.h"
#include "core/base/tensor.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ARENA_ALIGN = 64 }; /* a cache line and an AVX-512 vector */

/* Told of each allocation: the tensor's name, and its bytes rounded up to the alignment. */
typedef struct ArenaWatcher {
    void *context;
    void (*allocated)(void *context, const char *name, size_t bytes);
} ArenaWatcher;

typedef struct Arena {
    char *base;  /* owned; NULL in a counting or planned arena */
    size_t size; /* bytes reserved, or that would be; without end in a counting arena */
    size_t used; /* bytes handed out now */
    size_t peak; /* most bytes ever handed out: what the plan reads */
    bool counting;
    const char *name;            /* "activations": what an error names */
    const ArenaWatcher *watcher; /* view; NULL: none */
} Arena;

/* An arena that only counts: every tensor from it has data NULL. */
Arena arena_counting(const char *name);
/* One that only counts, but no more than arena_create would reserve: a plan's stand-in for it. */
Arena arena_planned(const char *name, size_t size);
/* Reserves `size` bytes, zeroed. ERR_MEMORY names the arena and the size. */
Status arena_create(Arena *arena, const char *name, size_t size);
void arena_destroy(Arena *arena);

/* Cuts a tensor, contents undefined. ERR_MEMORY names the arena, the tensor and the bytes. */
Status tensor_alloc(Arena *arena, DType dtype, Shape shape, const char *name, Tensor *out);
/* Raw bytes, for tables and per-thread tiles. */
Status arena_alloc(Arena *arena, size_t bytes, const char *name, void **out);

size_t arena_mark(const Arena *arena);
void arena_release(Arena *arena, size_t mark);

#ifdef __cplusplus
}
#endif
#endif
