/*
 * failing_malloc: malloc and its kin, of which the n-th call fails, alone or with all after it.
 *
 * It defines malloc: one test program includes it, and no sanitizer has its own there. Only the
 * calling thread's calls between failing_begin and failing_end count. By the address they come from
 * calls are the project's (this program's code) or a library's. Blocks that the project, libc,
 * jansson or libyaml took meanwhile and did not give back are leaks; HDF5 and OpenSSL keep lists of
 * theirs.
 */
#ifndef ZT_TESTS_SUPPORT_FAILING_MALLOC_H
#define ZT_TESTS_SUPPORT_FAILING_MALLOC_H

#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* glibc's own, under the names that it keeps for programs like this one */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *block);
extern const char __executable_start; /* the linker's: where this program lies */

typedef enum FailingScope { FAILING_OWN, FAILING_ALL } FailingScope;

typedef struct FailingCalls {
    int64_t calls, failed; /* that count; of them those that failed */
    int64_t leaks;
    const void *leaked_from; /* the caller of one of them */
} FailingCalls;

enum { FAILING_BLOCKS = 1 << 14, FAILING_RANGES = 32 };

typedef struct FailingRange {
    uintptr_t first, end;
    bool own;
} FailingRange;

typedef struct FailingBlock {
    void *block; /* NULL: never used here */
    const void *caller;
} FailingBlock;

/* File-level: malloc has no argument for it. Touched by the thread that set `failing_armed` only.
 */
static _Thread_local bool failing_armed;
static FailingScope failing_scope;
static bool failing_on;
static int64_t failing_at;
static FailingCalls failing_calls;
static FailingRange failing_ranges[FAILING_RANGES];
static int failing_range_count;
static FailingBlock failing_blocks[FAILING_BLOCKS]; /* open hash by address; freed: caller NULL */

/* ---- who calls ------------------------------------------------------------------------------ */

static int failing_add_ranges(struct dl_phdr_info *module, size_t size, void *context)
{
    const char *name = module->dlpi_name;
    const bool own = name[0] == 0, watched = own || strstr(name, "libc.so") != NULL ||
                                             strstr(name, "libjansson") != NULL ||
                                             strstr(name, "libyaml") != NULL;
    (void)size;
    (void)context;
    for (int i = 0; watched && i < module->dlpi_phnum; i++) {
        const uintptr_t first = module->dlpi_addr + module->dlpi_phdr[i].p_vaddr;
        const bool code =
            module->dlpi_phdr[i].p_type == PT_LOAD && (module->dlpi_phdr[i].p_flags & PF_X) != 0;
        if (!code || failing_range_count == FAILING_RANGES) continue;
        failing_ranges[failing_range_count++] =
            (FailingRange){ first, first + module->dlpi_phdr[i].p_memsz, own };
    }
    return 0;
}

static const FailingRange *failing_range_of(const void *caller)
{
    const uintptr_t at = (uintptr_t)caller;
    for (int i = 0; i < failing_range_count; i++)
        if (at >= failing_ranges[i].first && at < failing_ranges[i].end) return &failing_ranges[i];
    return NULL;
}

/* ---- what is taken -------------------------------------------------------------------------- */

static FailingBlock *failing_find(const void *block)
{
    size_t i = (uintptr_t)block / 16 % FAILING_BLOCKS;
    while (failing_blocks[i].block != NULL && failing_blocks[i].block != block)
        i = (i + 1) % FAILING_BLOCKS;
    return &failing_blocks[i];
}

static void *failing_note(void *block, const void *caller)
{
    if (!failing_armed || block == NULL || failing_range_of(caller) == NULL) return block;
    *failing_find(block) = (FailingBlock){ block, caller };
    return block;
}

static void failing_forget(const void *block)
{
    if (failing_armed && block != NULL) failing_find(block)->caller = NULL;
}

/* Whether this call is one that fails. */
static bool failing_now(const void *caller)
{
    if (!failing_armed) return false;
    const FailingRange *range = failing_range_of(caller);
    if (failing_scope == FAILING_OWN && (range == NULL || !range->own)) return false;
    const int64_t n = ++failing_calls.calls;
    if (n < failing_at || (n > failing_at && !failing_on)) return false;
    failing_calls.failed++;
    errno = ENOMEM;
    return true;
}

/* ---- malloc --------------------------------------------------------------------------------- */

#define FAILING_CALLER __builtin_return_address(0)

void *malloc(size_t bytes)
{
    if (failing_now(FAILING_CALLER)) return NULL;
    return failing_note(__libc_malloc(bytes), FAILING_CALLER);
}

void *calloc(size_t count, size_t bytes)
{
    if (failing_now(FAILING_CALLER)) return NULL;
    return failing_note(__libc_calloc(count, bytes), FAILING_CALLER);
}

void *realloc(void *old, size_t bytes)
{
    if (failing_now(FAILING_CALLER)) return NULL;
    void *block = __libc_realloc(old, bytes);
    if (block != NULL) failing_forget(old);
    return failing_note(block, FAILING_CALLER);
}

void *reallocarray(void *old, size_t count, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all) || failing_now(FAILING_CALLER)) return NULL;
    void *block = __libc_realloc(old, all);
    if (block != NULL) failing_forget(old);
    return failing_note(block, FAILING_CALLER);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    if (failing_now(FAILING_CALLER)) return NULL;
    return failing_note(__libc_memalign(alignment, bytes), FAILING_CALLER);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    if (failing_now(FAILING_CALLER)) return ENOMEM;
    *out = failing_note(__libc_memalign(alignment, bytes), FAILING_CALLER);
    return *out != NULL ? 0 : ENOMEM;
}

/* libc's own would call malloc from libc */
char *strndup(const char *text, size_t most)
{
    const size_t length = strnlen(text, most);
    if (failing_now(FAILING_CALLER)) return NULL;
    char *copy = failing_note(__libc_malloc(length + 1), FAILING_CALLER);
    if (copy == NULL) return NULL;
    memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

char *strdup(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    if (failing_now(FAILING_CALLER)) return NULL;
    char *copy = failing_note(__libc_malloc(bytes), FAILING_CALLER);
    return copy != NULL ? memcpy(copy, text, bytes) : NULL;
}

void free(void *block)
{
    const int before = errno;
    failing_forget(block);
    __libc_free(block);
    errno = before;
}

/* ---- for tests ------------------------------------------------------------------------------ */

/* From here on call `at` fails (from 1; 0: none), and with `on` all after it. */
static void failing_begin(FailingScope scope, int64_t at, bool on)
{
    if (failing_range_count == 0) (void)dl_iterate_phdr(failing_add_ranges, NULL);
    memset(failing_blocks, 0, sizeof failing_blocks);
    failing_calls = (FailingCalls){ 0 };
    failing_scope = scope;
    failing_on = on;
    failing_at = at > 0 ? at : INT64_MAX;
    failing_armed = true;
}

static FailingCalls failing_end(void)
{
    failing_armed = false;
    for (int i = 0; i < FAILING_BLOCKS; i++) {
        if (failing_blocks[i].caller == NULL) continue;
        failing_calls.leaks++;
        failing_calls.leaked_from = failing_blocks[i].caller;
    }
    return failing_calls;
}

#endif
