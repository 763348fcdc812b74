#include "tools/tensor_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- opening --- */

static Status fill_rows(TensorTable *table)
{
    const int64_t count = safetensors_set_tensors(&table->set);
    table->rows = calloc((size_t)count + 1, sizeof *table->rows);
    CHECK(table->rows, ERR_MEMORY, "no memory for %lld tensors", (long long)count);
    for (int64_t f = 0; f < table->set.count; f++) {
        const Safetensors *file = table->set.files[f];
        for (int64_t i = 0; i < safetensors_count(file); i++) {
            TensorRow *row = &table->rows[table->count++];
            *row = (TensorRow){ file, safetensors_entry(file, i), 1 };
            /* the header's check saw that the product fits */
            for (int d = 0; d < row->entry->ndim; d++) row->elements *= row->entry->shape[d];
            table->elements += row->elements;
            table->bytes += row->entry->bytes;
        }
    }
    return OK;
}

Status tensor_table_open(const char *folder, const char *base, TensorTable *out)
{
    TensorTable table = { 0 };
    TRY(safetensors_set_open(folder, base, &table.set));
    const Status s = fill_rows(&table);
    if (s != OK)
        tensor_table_close(&table);
    else
        *out = table;
    return s;
}

Status tensor_table_open_file(const char *path, TensorTable *out)
{
    TensorTable table = { 0 };
    table.set.files = calloc(1, sizeof(Safetensors *));
    CHECK(table.set.files, ERR_MEMORY, "%s: no memory to open it", path);
    Status s = safetensors_open(path, &table.set.files[0]);
    if (s == OK) table.set.count = 1;
    if (s == OK) s = fill_rows(&table);
    if (s != OK)
        tensor_table_close(&table);
    else
        *out = table;
    return s;
}

void tensor_table_close(TensorTable *table)
{
    safetensors_set_close(&table->set);
    free(table->rows);
    *table = (TensorTable){ 0 };
}

const char *tensor_table_dtype(const TensorTable *table)
{
    if (table->count == 0) return "-";
    const char *first = table->rows[0].entry->dtype_name;
    for (int64_t i = 1; i < table->count; i++)
        if (strcmp(table->rows[i].entry->dtype_name, first) != 0) return "mixed";
    return first;
}

/* --- what a tensor holds --- */

enum { PIECE_BYTES = 1 << 20 };

/* The same bytes as a row of `count` elements of another type, which can be read in pieces. */
static SafetensorsEntry row_of(const SafetensorsEntry *entry, DType dtype, int64_t count)
{
    SafetensorsEntry row = *entry;
    row.dtype = dtype;
    row.ndim = 1;
    row.shape[0] = count;
    return row;
}

static Status hash_bytes(const TensorRow *tensor, DigestStream *stream, void *piece)
{
    const SafetensorsEntry row = row_of(tensor->entry, U8, tensor->entry->bytes);
    for (int64_t at = 0; at < row.bytes; at += PIECE_BYTES) {
        const int64_t n = row.bytes - at < PIECE_BYTES ? row.bytes - at : PIECE_BYTES;
        TRY(safetensors_read(tensor->file, &row, (SafetensorsSlice){ 0, at, n },
                             tensor_of(piece, U8, SHAPE(n))));
        digest_stream_update(stream, piece, (size_t)n);
    }
    return OK;
}

static void add_value(double value, double *sum, TensorFacts *facts)
{
    if (!isfinite(value)) {
        facts->nonfinite++;
        return;
    }
    if (!(value >= facts->min)) facts->min = value; /* also when it is still NAN */
    if (!(value <= facts->max)) facts->max = value;
    *sum += value;
}

static Status measure(const TensorRow *tensor, void *piece, TensorFacts *facts)
{
    const DType stored = tensor->entry->dtype;
    if (stored != F32 && stored != BF16 && stored != F16 && stored != F64) return OK;
    const DType read = stored == F64 ? F64 : F32;
    const int64_t room = PIECE_BYTES / (int64_t)dtype_bytes(read);
    const SafetensorsEntry row = row_of(tensor->entry, stored, tensor->elements);
    double sum = 0;
    facts->measured = true;
    facts->min = facts->max = NAN;
    for (int64_t at = 0; at < tensor->elements; at += room) {
        const int64_t n = tensor->elements - at < room ? tensor->elements - at : room;
        TRY(safetensors_read(tensor->file, &row, (SafetensorsSlice){ 0, at, n },
                             tensor_of(piece, read, SHAPE(n))));
        for (int64_t i = 0; i < n; i++)
            add_value(read == F64 ? ((const double *)piece)[i] : (double)((const float *)piece)[i],
                      &sum, facts);
    }
    facts->mean = sum / (double)(tensor->elements - facts->nonfinite);
    return OK;
}

Status tensor_facts(const TensorRow *row, TensorFacts *out)
{
    Status s = OK;
    TensorFacts facts = { 0 };
    DigestStream *stream = NULL;
    void *piece = malloc(PIECE_BYTES);
    CHECK_TO(done, s, piece, ERR_MEMORY, "%s: no memory to read it", safetensors_path(row->file));
    TRY_TO(done, s, digest_stream_create(&stream));
    TRY_TO(done, s, hash_bytes(row, stream, piece));
    digest_stream_finish(stream, &facts.digest);
    TRY_TO(done, s, measure(row, piece, &facts));
    *out = facts;
done:
    digest_stream_destroy(stream);
    free(piece);
    return s;
}

/* --- all of them --- */

typedef struct Named {
    const char *name; /* view */
    int64_t row;
} Named;

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const Named *)a)->name, ((const Named *)b)->name);
}

static void hash_row(DigestStream *stream, const SafetensorsEntry *entry, const Digest *digest)
{
    char shape[352], hex[DIGEST_HEX];
    (void)safetensors_shape(entry, shape);
    digest_hex(digest, hex);
    /* with their zeros: no name can pass for two fields */
    digest_stream_update(stream, entry->name, strlen(entry->name) + 1);
    digest_stream_update(stream, entry->dtype_name, strlen(entry->dtype_name) + 1);
    digest_stream_update(stream, shape, strlen(shape) + 1);
    digest_stream_update(stream, hex, DIGEST_HEX);
}

Status tensor_table_digest(const TensorTable *table, ByteProgress *progress, TensorFacts *facts,
                           Digest *out)
{
    Status s = OK;
    DigestStream *stream = NULL;
    Named *order = calloc((size_t)table->count + 1, sizeof *order);
    CHECK_TO(done, s, order, ERR_MEMORY, "no memory for %lld tensors", (long long)table->count);
    TRY_TO(done, s, digest_stream_create(&stream));
    for (int64_t i = 0; i < table->count; i++) order[i] = (Named){ table->rows[i].entry->name, i };
    qsort(order, (size_t)table->count, sizeof *order, compare_names);
    for (int64_t i = 0; i < table->count; i++) {
        const TensorRow *row = &table->rows[order[i].row];
        TensorFacts own;
        TRY_TO(done, s, tensor_facts(row, &own));
        hash_row(stream, row->entry, &own.digest);
        if (facts) facts[order[i].row] = own;
        if (progress) byte_progress_add(progress, row->entry->bytes);
    }
    digest_stream_finish(stream, out);
done:
    digest_stream_destroy(stream);
    free(order);
    return s;
}

/* --- sets of a folder --- */

/* "a.safetensors", "a.safetensors.index.json", "a-00001-of-00002.safetensors": cut to "a". */
static bool cut_to_base(char *name)
{
    char *end = strstr(name, ".safetensors");
    if (!end || (end[12] != 0 && strcmp(end + 12, ".index.json") != 0)) return false;
    *end = 0;
    const size_t n = (size_t)(end - name), part = strlen("-00001-of-00002");
    if (n <= part) return true;
    char *tail = end - part;
    if (tail[0] == '-' && strspn(tail + 1, "0123456789") == 5 && !strncmp(tail + 6, "-of-", 4) &&
        strspn(tail + 10, "0123456789") == 5)
        *tail = 0;
    return true;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

Status tensor_sets(const char *folder, FileList *out)
{
    FileList list = { 0 };
    int64_t kept = 0;
    TRY(file_list(folder, &list));
    for (int64_t i = 0; i < list.count; i++) {
        char *name = list.names[i];
        list.names[i] = NULL;
        if (cut_to_base(name))
            list.names[kept++] = name;
        else
            free(name);
    }
    if (kept > 0) qsort(list.names, (size_t)kept, sizeof *list.names, compare_strings);
    /* a base once, however many files it has */
    int64_t unique = 0;
    for (int64_t i = 0; i < kept; i++) {
        if (unique > 0 && strcmp(list.names[unique - 1], list.names[i]) == 0)
            free(list.names[i]);
        else
            list.names[unique++] = list.names[i];
    }
    list.count = unique;
    *out = list;
    return OK;
}
