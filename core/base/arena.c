#include "core/base/arena.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, LARGE = 64 << 20 };

Arena arena_counting(const char *name)
{
    return (Arena){ .name = name, .size = SIZE_MAX, .counting = true };
}

static size_t round_up(size_t bytes)
{
    return (bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

/* Never nothing: a base that is NULL would be a failure. */
static size_t reserved_bytes(size_t size)
{
    return round_up(size > 0 ? size : 1);
}

Arena arena_planned(const char *name, size_t size)
{
    return (Arena){ .name = name, .size = reserved_bytes(size), .counting = true };
}

/* Large arenas ask for pages of 2 MiB: fewer faults while they are filled, fewer misses when
 * matrices are read. A system without them gives what it has. */
static char *reserve(size_t bytes)
{
    const bool large = bytes >= LARGE;
    const size_t unit = large ? HUGE_PAGE : ARENA_ALIGN; /* of which a size must be a multiple */
    char *base = aligned_alloc(unit, (bytes + unit - 1) / unit * unit);
    if (base && large) (void)madvise(base, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return base;
}

Status arena_create(Arena *arena, const char *name, size_t size)
{
    const size_t reserved = reserved_bytes(size);
    char *base = reserve(reserved);
    CHECK(base, ERR_MEMORY, "arena %s: %.1f MiB could not be reserved", name,
          (double)size / 1048576.0);
    memset(base, 0, reserved);
    *arena = (Arena){ .base = base, .size = reserved, .name = name };
    return OK;
}

void arena_destroy(Arena *arena)
{
    if (!arena) return;
    free(arena->base);
    *arena = (Arena){ 0 };
}

Status arena_alloc(Arena *arena, size_t bytes, const char *name, void **out)
{
    const size_t reserved = round_up(bytes);
    const bool wrapped = reserved < bytes; /* a size near the end of the address space */
    const bool fits = reserved <= arena->size - arena->used;
    CHECK(fits && !wrapped, ERR_MEMORY, "arena %s: %s needs %zu bytes, %zu of %zu are left",
          arena->name, name, bytes, arena->size - arena->used, arena->size);
    *out = arena->counting ? NULL : arena->base + arena->used;
    arena->used += reserved;
    if (arena->used > arena->peak) arena->peak = arena->used;
    if (arena->watcher) arena->watcher->allocated(arena->watcher->context, name, reserved);
    return OK;
}

Status tensor_alloc(Arena *arena, DType dtype, Shape shape, const char *name, Tensor *out)
{
    Tensor t = tensor_of(NULL, dtype, shape);
    TRY(arena_alloc(arena, tensor_bytes(t), name, &t.data));
    *out = t;
    return OK;
}

size_t arena_mark(const Arena *arena)
{
    return arena->used;
}

void arena_release(Arena *arena, size_t mark)
{
    assert(mark <= arena->used);
    arena->used = mark;
}
