#include "core/text/sentencepiece_check.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* --- the file: a message of protocol buffers --- */

enum { WIRE_VARINT = 0, WIRE_8 = 1, WIRE_BYTES = 2, WIRE_4 = 5 };

/* Fields of ModelProto, and of what is looked at in it. */
enum {
    MODEL_TRAINER = 2,
    MODEL_NORMALIZER = 3,
    MODEL_DENORMALIZER = 5,
    TRAINER_TYPE = 3,
    TYPE_UNIGRAM = 1,
    NORMALIZER_CHARSMAP = 2,
};

typedef struct Bytes {
    const unsigned char *at;
    size_t count;
} Bytes;

typedef struct Field {
    uint64_t number, value; /* value: of a varint */
    int wire;
    Bytes bytes; /* of WIRE_BYTES */
} Field;

static bool read_varint(Bytes *from, uint64_t *out)
{
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && from->count > 0; shift += 7) {
        const unsigned char byte = *from->at++;
        from->count--;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return true;
        }
    }
    return false;
}

/* The next field of a message that has one; false: what follows is none. */
static bool read_field(Bytes *from, Field *out)
{
    uint64_t key, length = 0;
    if (!read_varint(from, &key)) return false;
    *out = (Field){ .number = key >> 3, .wire = (int)(key & 7) };
    switch (out->wire) {
    case WIRE_VARINT: return read_varint(from, &out->value);
    case WIRE_8: length = 8; break;
    case WIRE_4: length = 4; break;
    case WIRE_BYTES:
        if (!read_varint(from, &length)) return false;
        break;
    default: return false;
    }
    if (length > from->count) return false;
    out->bytes = (Bytes){ from->at, (size_t)length };
    from->at += length;
    from->count -= (size_t)length;
    return true;
}

/* --- the table: u32 bytes of trie, the trie's u32 units, strings that each end with a 0 --- */

typedef struct Trie {
    const unsigned char *units;
    size_t count, strings; /* units; bytes behind them */
} Trie;

static uint32_t u32_at(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t unit_at(const Trie *trie, size_t i)
{
    return u32_at(trie->units + 4 * i);
}

/* A unit's fields, as Darts-clone packs them. */
static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 0x200u) >> 6);
}

static bool unit_has_leaf(uint32_t unit)
{
    return (unit >> 8) & 1;
}

static uint32_t unit_label(uint32_t unit)
{
    return unit & 0x800000FFu;
}

static uint32_t unit_value(uint32_t unit)
{
    return unit & 0x7FFFFFFFu;
}

/* Where the children of the node at `position` begin; whether all of them, which a walk looks at
 * before it knows which are there, and its leaf's value lie inside. */
static bool children_of(const Trie *trie, size_t position, size_t *first)
{
    const uint32_t unit = unit_at(trie, position);
    *first = position ^ unit_offset(unit);
    if ((*first | 0xFF) >= trie->count) return false;
    return !unit_has_leaf(unit) || unit_value(unit_at(trie, *first)) < trie->strings;
}

/* seen (count), stack (count): zeroed, and room. */
static bool walk(const Trie *trie, bool *seen, uint32_t *stack)
{
    size_t depth = 0;
    stack[depth++] = 0;
    seen[0] = true;
    while (depth > 0) {
        size_t first;
        if (!children_of(trie, stack[--depth], &first)) return false;
        for (uint32_t byte = 0; byte < 256; byte++) {
            const size_t child = first ^ byte;
            if (seen[child] || unit_label(unit_at(trie, child)) != byte) continue;
            seen[child] = true;
            stack[depth++] = (uint32_t)child;
        }
    }
    return true;
}

static Status check_charsmap(Bytes map, const char *what)
{
    if (map.count == 0) return OK; /* no normalisation */
    const size_t trie_bytes = map.count >= 4 ? u32_at(map.at) : 0;
    CHECK(trie_bytes > 0 && trie_bytes % 4 == 0 && trie_bytes < map.count - 4 &&
              map.at[map.count - 1] == 0,
          ERR_FORMAT, "%s: its normalisation table of %zu bytes is damaged", what, map.count);
    const Trie trie = { map.at + 4, trie_bytes / 4, map.count - 4 - trie_bytes };
    bool *seen = calloc(trie.count, sizeof *seen);
    uint32_t *stack = malloc(trie.count * sizeof *stack);
    Status s = OK;
    if (!seen || !stack)
        s = status_fail(ERR_MEMORY, "%s: no memory to check its normalisation table", what);
    else if (!walk(&trie, seen, stack))
        s = status_fail(ERR_FORMAT, "%s: its normalisation table leads outside of itself", what);
    free(seen);
    free(stack);
    return s;
}

static Status check_part(const Field *part, const char *what)
{
    Bytes rest = part->bytes;
    while (rest.count > 0) {
        Field field;
        CHECK(read_field(&rest, &field), ERR_FORMAT, "%s: is damaged or no SentencePiece model",
              what);
        if (part->number == MODEL_TRAINER && field.number == TRAINER_TYPE)
            CHECK(field.value == TYPE_UNIGRAM, ERR_FORMAT,
                  "%s: is a SentencePiece model of type %llu, umT5's is %d (Unigram)", what,
                  (unsigned long long)field.value, TYPE_UNIGRAM);
        if (part->number != MODEL_TRAINER && field.number == NORMALIZER_CHARSMAP)
            TRY(check_charsmap(field.bytes, what));
    }
    return OK;
}

Status sentencepiece_check(const char *model, size_t bytes, const char *what)
{
    Bytes rest = { (const unsigned char *)model, bytes };
    CHECK(bytes > 0, ERR_FORMAT, "%s: is empty", what);
    while (rest.count > 0) {
        Field field;
        CHECK(read_field(&rest, &field), ERR_FORMAT, "%s: is damaged or no SentencePiece model",
              what);
        if (field.wire == WIRE_BYTES &&
            (field.number == MODEL_TRAINER || field.number == MODEL_NORMALIZER ||
             field.number == MODEL_DENORMALIZER))
            TRY(check_part(&field, what));
    }
    return OK;
}
