/*
 * tensor_table: every tensor of a set of safetensors files, what their bytes hold, and one digest
 * of all. Not collective.
 *
 * The digest is the SHA-256 of "name 0 dtype 0 shape 0 sha256 0" of every tensor, sorted by name by
 * bytes: shape as "[8, 4]", sha256 in hexadecimal of the tensor's bytes, 0 a zero byte. How the
 * tensors are cut into files does not enter it.
 */
#ifndef ZT_TOOLS_TENSOR_TABLE_H
#define ZT_TOOLS_TENSOR_TABLE_H

#include "core/base/digest.h"
#include "core/formats/safetensors_set.h"
#include "tools/disk.h"

#include <stdbool.h>

typedef struct TensorRow {
    const Safetensors *file;       /* view */
    const SafetensorsEntry *entry; /* view */
    int64_t elements;
} TensorRow;

typedef struct TensorTable {
    SafetensorsSet set; /* owned */
    TensorRow *rows;    /* owned; in the order of the files' data */
    int64_t count, elements, bytes;
} TensorTable;

/* FOLDER/BASE.safetensors or what its index says. */
Status tensor_table_open(const char *folder, const char *base, TensorTable *out);
/* One file by its path. */
Status tensor_table_open_file(const char *path, TensorTable *out);
void tensor_table_close(TensorTable *table);
/* "F32", or "mixed"; "-" when there are no tensors. */
const char *tensor_table_dtype(const TensorTable *table);

typedef struct TensorFacts {
    Digest digest;
    bool measured;         /* F32, BF16, F16, F64: the four below hold */
    double min, max, mean; /* of the finite values; NAN when there are none */
    int64_t nonfinite;
} TensorFacts;

/* Reads the tensor in pieces. */
Status tensor_facts(const TensorRow *row, TensorFacts *out);
/* facts (may be NULL): room for table->count, in the order of the rows. progress may be NULL. */
Status tensor_table_digest(const TensorTable *table, ByteProgress *progress, TensorFacts *facts,
                           Digest *out);

/* The sets of a folder by their bases: "model", "exp_avg". Free with file_list_destroy. */
Status tensor_sets(const char *folder, FileList *out);

#endif
