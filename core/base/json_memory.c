#include "core/base/json_memory.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>

/* In front of every block: the ring of those that the parser at work has taken. */
typedef struct Block {
    struct Block *next, *before; /* NULL: in no ring */
} Block;

_Static_assert(sizeof(Block) % 16 == 0, "what follows stays aligned as malloc aligns it");

/* A thread's own and file-level: jansson's hooks are told nothing but a size. */
typedef struct Parse {
    Block ring;
    jmp_buf refused;
} Parse;

static _Thread_local Parse *parse; /* NULL: none at work */

static void *take(size_t bytes)
{
    Block *block = bytes <= SIZE_MAX - sizeof *block ? malloc(sizeof *block + bytes) : NULL;
    if (!block && parse) longjmp(parse->refused, 1);
    if (!block) return NULL;
    *block = (Block){ 0 };
    if (parse) {
        *block = (Block){ .next = parse->ring.next, .before = &parse->ring };
        block->next->before = block;
        parse->ring.next = block;
    }
    return block + 1;
}

static void give_back(void *bytes)
{
    if (!bytes) return;
    Block *block = (Block *)bytes - 1;
    if (block->next) {
        block->next->before = block->before;
        block->before->next = block->next;
    }
    free(block);
}

static void set_hooks(void)
{
    json_set_alloc_funcs(take, give_back);
}

/* Opens the ring: the blocks stay, or go too. */
static void end_ring(Parse *ended, bool keep)
{
    for (Block *block = ended->ring.next, *next; block != &ended->ring; block = next) {
        next = block->next;
        *block = (Block){ 0 };
        if (!keep) free(block);
    }
}

json_t *json_memory_load(const char *text, size_t length, json_error_t *error, bool *no_memory)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    Parse own;
    pthread_once(&once, set_hooks);
    own.ring = (Block){ .next = &own.ring, .before = &own.ring };
    *no_memory = true;
    if (setjmp(own.refused) == 0) {
        parse = &own;
        json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, error);
        parse = NULL;
        *no_memory = false;
        end_ring(&own, true);
        return root;
    }
    parse = NULL;
    end_ring(&own, false);
    return NULL;
}
