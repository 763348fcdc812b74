#include "core/formats/safetensors_header.h"

#include "core/base/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Every type that the format knows; DTYPE_COUNT: can be listed and not read. */
static const struct {
    const char *name;
    int bits;
    DType dtype;
} DTYPES[] = {
    // clang-format off
    { "F32", 32, F32 },           { "BF16", 16, BF16 },           { "F16", 16, F16 },
    { "F64", 64, F64 },           { "I32", 32, I32 },             { "I64", 64, I64 },
    { "U8", 8, U8 },              { "BOOL", 8, DTYPE_COUNT },     { "I8", 8, DTYPE_COUNT },
    { "I16", 16, DTYPE_COUNT },   { "U16", 16, DTYPE_COUNT },     { "U32", 32, DTYPE_COUNT },
    { "U64", 64, DTYPE_COUNT },   { "C64", 64, DTYPE_COUNT },     { "F4", 4, DTYPE_COUNT },
    { "F6_E2M3", 6, DTYPE_COUNT }, { "F6_E3M2", 6, DTYPE_COUNT }, { "F8_E5M2", 8, DTYPE_COUNT },
    { "F8_E4M3", 8, DTYPE_COUNT }, { "F8_E8M0", 8, DTYPE_COUNT },
    { "F8_E4M3FNUZ", 8, DTYPE_COUNT }, { "F8_E5M2FNUZ", 8, DTYPE_COUNT },
    // clang-format on
};

enum { DTYPES_COUNT = sizeof DTYPES / sizeof DTYPES[0] };

const char *safetensors_shape(const SafetensorsEntry *entry, char out[352])
{
    /* 16 dimensions of at most 19 digits and ", " each */
    int n = snprintf(out, 352, "[");
    for (int i = 0; i < entry->ndim; i++)
        n +=
            snprintf(out + n, 352 - (size_t)n, "%s%lld", i ? ", " : "", (long long)entry->shape[i]);
    (void)snprintf(out + n, 352 - (size_t)n, "]");
    return out;
}

static Status parse_shape(const Json *tensor, const char *what, SafetensorsEntry *entry)
{
    const Json *shape;
    TRY(json_get_array(tensor, what, "shape", &shape));
    CHECK(json_count(shape) <= SAFETENSORS_MAX_DIMS, ERR_FORMAT,
          "%s: \"shape\" has %lld dimensions, at most %d are read", what,
          (long long)json_count(shape), SAFETENSORS_MAX_DIMS);
    entry->ndim = (int)json_count(shape);
    for (int i = 0; i < entry->ndim; i++) {
        int64_t *dim = &entry->shape[i];
        CHECK(json_as_int(json_at(shape, i), dim) && *dim >= 0, ERR_FORMAT,
              "%s: \"shape\" holds something that is not a size", what);
    }
    return OK;
}

/* Bytes of the tensor from its shape; every product is checked, even when a later size is 0. */
static Status shape_bytes(const SafetensorsEntry *entry, int bits, const char *what, int64_t *out)
{
    char shape[352];
    int64_t total = 1;
    bool overflow = false;
    for (int i = 0; i < entry->ndim; i++)
        overflow |= __builtin_mul_overflow(total, entry->shape[i], &total);
    overflow |= __builtin_mul_overflow(total, bits, &total);
    CHECK(!overflow, ERR_FORMAT, "%s: shape %s is too large to be", what,
          safetensors_shape(entry, shape));
    CHECK(total % 8 == 0, ERR_FORMAT, "%s: shape %s of %s is not a whole number of bytes", what,
          safetensors_shape(entry, shape), entry->dtype_name);
    *out = total / 8;
    return OK;
}

static Status parse_offsets(const Json *tensor, const char *what, int64_t data_bytes,
                            SafetensorsEntry *entry)
{
    const Json *offsets;
    int64_t begin, end;
    TRY(json_get_array(tensor, what, "data_offsets", &offsets));
    CHECK(json_count(offsets) == 2 && json_as_int(json_at(offsets, 0), &begin) &&
              json_as_int(json_at(offsets, 1), &end),
          ERR_FORMAT, "%s: \"data_offsets\" is not a pair of integers", what);
    CHECK(begin >= 0 && begin <= end && end <= data_bytes, ERR_FORMAT,
          "%s: data_offsets [%lld, %lld] lie outside the %lld bytes of data", what,
          (long long)begin, (long long)end, (long long)data_bytes);
    entry->begin = begin;
    entry->bytes = end - begin;
    return OK;
}

static Status parse_entry(const Json *tensor, const char *what, int64_t data_bytes,
                          SafetensorsEntry *entry)
{
    const char *dtype;
    int64_t bytes;
    int row = 0;
    char shape[352];
    TRY(json_get_string(tensor, what, "dtype", &dtype));
    while (row < DTYPES_COUNT && strcmp(DTYPES[row].name, dtype) != 0) row++;
    CHECK(row < DTYPES_COUNT, ERR_FORMAT, "%s: dtype \"%.40s\" is not one of the format's", what,
          dtype);
    entry->dtype_name = DTYPES[row].name;
    entry->dtype = DTYPES[row].dtype;
    TRY(parse_shape(tensor, what, entry));
    TRY(parse_offsets(tensor, what, data_bytes, entry));
    TRY(shape_bytes(entry, DTYPES[row].bits, what, &bytes));
    CHECK(bytes == entry->bytes, ERR_FORMAT,
          "%s: shape %s of %s takes %lld bytes, data_offsets give %lld", what,
          safetensors_shape(entry, shape), entry->dtype_name, (long long)bytes,
          (long long)entry->bytes);
    CHECK(json_count(tensor) == 3, ERR_FORMAT,
          "%s: has members beside dtype, shape and data_offsets", what);
    return OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const SafetensorsEntry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Sorted by offset, tensors must follow each other from the first byte of the data to its last. */
static Status check_layout(const SafetensorsHeader *header, int64_t data_bytes, const char *what)
{
    int64_t end = 0;
    for (int64_t i = 0; i < header->count; i++) {
        const SafetensorsEntry *e = &header->entries[i];
        CHECK(e->begin >= end, ERR_FORMAT,
              "%s: tensor %s begins at %lld, inside another that ends at %lld", what, e->name,
              (long long)e->begin, (long long)end);
        CHECK(e->begin == end, ERR_FORMAT, "%s: %lld bytes of no tensor stand before tensor %s",
              what, (long long)(e->begin - end), e->name);
        end = e->begin + e->bytes;
    }
    CHECK(end == data_bytes, ERR_FORMAT, "%s: %lld bytes of no tensor follow the last one", what,
          (long long)(data_bytes - end));
    return OK;
}

static Status copy_metadata(const Json *json, const char *what, SafetensorsHeader *header)
{
    const int64_t count = json_count(json);
    header->metadata = calloc((size_t)(2 * count + 1), sizeof *header->metadata);
    CHECK(header->metadata, ERR_MEMORY, "%s: no memory for its metadata", what);
    for (void *i = json_first(json); i; i = json_next(json, i)) {
        const char *value = json_as_string(json_value(i));
        CHECK(value, ERR_FORMAT, "%s: __metadata__ \"%.60s\" is not a string", what, json_key(i));
        char **pair = &header->metadata[2 * header->metadata_count++];
        pair[0] = strdup(json_key(i));
        pair[1] = strdup(value);
        CHECK(pair[0] && pair[1], ERR_MEMORY, "%s: no memory for its metadata", what);
    }
    return OK;
}

/* Bytes of all names with their final 0, after checking each. */
static Status measure_names(const Json *root, const char *what, size_t *bytes, int64_t *count)
{
    *bytes = 0;
    *count = 0;
    for (void *i = json_first(root); i; i = json_next(root, i)) {
        const size_t length = strlen(json_key(i));
        if (strcmp(json_key(i), "__metadata__") == 0) continue;
        CHECK(length <= SAFETENSORS_MAX_NAME, ERR_FORMAT,
              "%s: the name \"%.40s...\" has %zu bytes, at most %d are read", what, json_key(i),
              length, SAFETENSORS_MAX_NAME);
        *bytes += length + 1;
        ++*count;
    }
    CHECK(*count <= SAFETENSORS_MAX_TENSORS, ERR_FORMAT,
          "%s: has %lld tensors, at most %d are read", what, (long long)*count,
          SAFETENSORS_MAX_TENSORS);
    return OK;
}

/* Two columns sorted by what they point to would need a context; names are sorted as pairs. */
typedef struct NamePlace {
    const char *name;
    int64_t place;
} NamePlace;

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const NamePlace *)a)->name, ((const NamePlace *)b)->name);
}

static Status sort_names(SafetensorsHeader *header, const char *what)
{
    NamePlace *pairs = malloc(((size_t)header->count + 1) * sizeof *pairs);
    header->by_name = malloc(((size_t)header->count + 1) * sizeof *header->by_name);
    if (!pairs || !header->by_name) {
        free(pairs);
        return status_fail(ERR_MEMORY, "%s: no memory for its names", what);
    }
    for (int64_t i = 0; i < header->count; i++)
        pairs[i] = (NamePlace){ header->entries[i].name, i };
    qsort(pairs, (size_t)header->count, sizeof *pairs, compare_names);
    for (int64_t i = 0; i < header->count; i++) header->by_name[i] = pairs[i].place;
    free(pairs);
    return OK;
}

static Status fill(const Json *root, int64_t data_first, int64_t data_bytes, const char *what,
                   SafetensorsHeader *header)
{
    size_t names_bytes;
    int64_t count;
    TRY(measure_names(root, what, &names_bytes, &count));
    header->entries = calloc((size_t)count + 1, sizeof *header->entries);
    header->names = malloc(names_bytes + 1);
    CHECK(header->entries && header->names, ERR_MEMORY, "%s: no memory for its %lld tensors", what,
          (long long)count);

    char *name = header->names;
    for (void *i = json_first(root); i; i = json_next(root, i)) {
        const char *key = json_key(i);
        if (strcmp(key, "__metadata__") == 0) {
            /* the reference reader takes null for absent */
            if (!json_has(root, key)) continue;
            const Json *metadata;
            TRY(json_get_object(root, what, key, &metadata));
            TRY(copy_metadata(metadata, what, header));
            continue;
        }
        char where[256];
        SafetensorsEntry *entry = &header->entries[header->count++];
        entry->name = strcpy(name, key);
        name += strlen(key) + 1;
        (void)snprintf(where, sizeof where, "%.160s: tensor %.80s", what, key);
        CHECK(json_as_object(json_value(i)), ERR_FORMAT, "%s: is not an object", where);
        TRY(parse_entry(json_value(i), where, data_bytes, entry));
    }
    qsort(header->entries, (size_t)header->count, sizeof *header->entries, compare_offsets);
    TRY(check_layout(header, data_bytes, what));
    for (int64_t i = 0; i < header->count; i++) header->entries[i].begin += data_first;
    return sort_names(header, what);
}

Status safetensors_header_parse(const char *text, size_t length, int64_t data_first,
                                int64_t data_bytes, const char *what, SafetensorsHeader *out)
{
    /* an entry is 8 values and its dimensions; the tree of one value costs some 100 bytes */
    const JsonLimits limits = { .bytes = SAFETENSORS_MAX_HEADER,
                                .depth = 4,
                                .values = 10 * SAFETENSORS_MAX_TENSORS };
    Status s = OK;
    Json *root = NULL;
    SafetensorsHeader header = { 0 };
    TRY_TO(done, s, json_parse(text, length, what, &limits, &root));
    CHECK_TO(done, s, json_as_object(root), ERR_FORMAT, "%s: its header is not a JSON object",
             what);
    TRY_TO(done, s, fill(root, data_first, data_bytes, what, &header));
    *out = header;
    header = (SafetensorsHeader){ 0 };
done:
    safetensors_header_destroy(&header);
    json_free(root);
    return s;
}

void safetensors_header_destroy(SafetensorsHeader *header)
{
    for (int64_t i = 0; i < 2 * header->metadata_count; i++) free(header->metadata[i]);
    free(header->metadata);
    free(header->entries);
    free(header->by_name);
    free(header->names);
    *header = (SafetensorsHeader){ 0 };
}
