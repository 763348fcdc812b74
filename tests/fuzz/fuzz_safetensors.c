/*
 * fuzz_safetensors: the header of a safetensors file.
 *
 * The first byte gives the length of the data, so that both sides of the offset checks are reached.
 */
#include "core/formats/safetensors_header.h"
#include "tests/fuzz/fuzz.h"

/* Tensors fill the data from its first byte to its last, in order, without hole or overlap. */
static void check(const SafetensorsHeader *header, int64_t first, int64_t bytes)
{
    int64_t end = first;
    for (int64_t i = 0; i < header->count; i++) {
        const SafetensorsEntry *e = &header->entries[i];
        MUST(e->begin == end && e->bytes >= 0);
        MUST(e->ndim >= 0 && e->ndim <= SAFETENSORS_MAX_DIMS);
        MUST(strlen(e->name) <= SAFETENSORS_MAX_NAME);
        end += e->bytes;
        if (i == 0) continue;
        /* names are sorted, so no two are the same */
        const int64_t *order = header->by_name;
        MUST(strcmp(header->entries[order[i - 1]].name, header->entries[order[i]].name) < 0);
    }
    MUST(end == first + bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    SafetensorsHeader header = { 0 };
    if (size == 0) return 0;
    const int64_t first = 8 + (int64_t)size - 1, data = bytes[0];
    char *text = fuzz_copy(bytes + 1, size - 1);
    const Status s = safetensors_header_parse(text, size - 1, first, data, "fuzz", &header);
    if (s == OK)
        check(&header, first, data);
    else
        fuzz_refused(s, ERR_FORMAT);
    safetensors_header_destroy(&header);
    free(text);
    return 0;
}
