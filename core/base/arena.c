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

static size_t whole_pages(size_t bytes)
{
    return (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

/* Large arenas come from the system as they are, zero and not there yet: whoever writes a page
 * first makes it, so several threads do, each where it will use it. They ask for pages of 2 MiB:
 * fewer faults, fewer misses when matrices are read. A system without them gives what it has. */
static char *map_pages(size_t bytes)
{
    const size_t whole = whole_pages(bytes);
    char *start =
        mmap(NULL, whole + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    const size_t before = (size_t)(-(uintptr_t)start % HUGE_PAGE);
    char *base = start + before;
    if (before > 0) (void)munmap(start, before);
    (void)munmap(base + whole, HUGE_PAGE - before);
    (void)madvise(base, whole, MADV_HUGEPAGE);
    return base;
}

static char *reserve(size_t bytes)
{
    if (bytes >= LARGE) return map_pages(bytes);
    char *base = aligned_alloc(ARENA_ALIGN, bytes);
    if (base) memset(base, 0, bytes);
    return base;
}

Status arena_create(Arena *arena, const char *name, size_t size)
{
    const size_t reserved = reserved_bytes(size);
    char *base = reserve(reserved);
    CHECK(base, ERR_MEMORY, "arena %s: %.1f MiB could not be reserved", name,
          (double)size / 1048576.0);
    *arena = (Arena){ .base = base, .size = reserved, .name = name };
    return OK;
}

void arena_destroy(Arena *arena)
{
    if (!arena) return;
    if (arena->size < LARGE || arena->counting)
        free(arena->base);
    else
        (void)munmap(arena->base, whole_pages(arena->size));
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
