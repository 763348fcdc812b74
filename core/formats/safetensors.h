/*
 * safetensors: named tensors in a file, read strictly and written as a stream.
 *
 * File: u64 length N, JSON header of N bytes, data. The reader believes nothing before it is
 * checked: sizes before allocation, shapes against offsets, offsets against each other (no hole, no
 * overlap, nothing after the last). It reads with pread, so a file that shrinks is an error and not
 * a signal. Not collective.
 */
#ifndef ZT_CORE_FORMATS_SAFETENSORS_H
#define ZT_CORE_FORMATS_SAFETENSORS_H

#include "core/base/digest.h"
#include "core/base/status.h"
#include "core/base/tensor.h"

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SAFETENSORS_MAX_DIMS = 16,
    SAFETENSORS_MAX_NAME = 1024,
    SAFETENSORS_MAX_TENSORS = 100000,
    SAFETENSORS_MAX_HEADER = 100000000, /* the format's own limit */
};

/* One tensor of a file. */
typedef struct SafetensorsEntry {
    const char *name;       /* view into the reader */
    const char *dtype_name; /* "F32", "F8_E4M3": static */
    DType dtype;            /* DTYPE_COUNT when only its name is known here */
    int ndim;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    int64_t begin, bytes; /* from the start of the file */
} SafetensorsEntry;

typedef struct Safetensors Safetensors;

/* Opens and checks the whole header. ERR_FORMAT names file and tensor; ERR_IO, ERR_MEMORY. */
Status safetensors_open(const char *path, Safetensors **out);
void safetensors_close(Safetensors *file);

const char *safetensors_path(const Safetensors *file);
int64_t safetensors_count(const Safetensors *file);
/* In the order of the data. */
const SafetensorsEntry *safetensors_entry(const Safetensors *file, int64_t index);
/* NULL when there is none of that name. */
const SafetensorsEntry *safetensors_find(const Safetensors *file, const char *name);
/* __metadata__: the value, or NULL. */
const char *safetensors_metadata(const Safetensors *file, const char *key);
/* The index-th pair, false beyond the last. */
bool safetensors_metadata_at(const Safetensors *file, int64_t index, const char **key,
                             const char **value);

/* Indices [first, first + count) of one dimension, all of the others. */
typedef struct SafetensorsSlice {
    int dim; /* -1: the whole tensor */
    int64_t first, count;
} SafetensorsSlice;

/*
 * Reads the slice into out, which has the slice's element count. out F32 or BF16: F32, BF16 and F16
 * are converted; any other out must have the tensor's own dtype. ERR_FORMAT names what cannot be.
 */
Status safetensors_read(const Safetensors *file, const SafetensorsEntry *entry,
                        SafetensorsSlice slice, Tensor out);
/* The same of the elements from `first` on in the order of the file, as many as out has. */
Status safetensors_read_elements(const Safetensors *file, const SafetensorsEntry *entry,
                                 int64_t first, Tensor out);
/* The format allows infinities and NaN; a model that has one gives nothing else ever after:
 * ERR_FORMAT. values: read from the tensor, F32 or BF16. */
Status safetensors_check_finite(const Safetensors *file, const SafetensorsEntry *entry,
                                Tensor values);
/* "[8, 4, 2]" into out. */
const char *safetensors_shape(const SafetensorsEntry *entry, char out[352]);

/* What a file to be written will hold, in the order of its data. */
typedef struct SafetensorsSpec {
    const char *name; /* view */
    DType dtype;
    Shape shape;
} SafetensorsSpec;

typedef struct SafetensorsWriter SafetensorsWriter;

/* Opens PATH.tmp and writes the header. metadata: pairs of key and value ended by NULL, or NULL. */
Status safetensors_create(const char *path, const SafetensorsSpec *specs, int64_t count,
                          const char *const *metadata, SafetensorsWriter **out);
/* The next bytes of the data, in pieces of any size. ERR_IO. */
Status safetensors_write(SafetensorsWriter *writer, const void *bytes, size_t length);
/* Flushes and renames to PATH; digest and size (both may be NULL) are those of the whole file.
 * Asserts that every byte was written. The writer is gone whatever the answer. */
Status safetensors_finish(SafetensorsWriter *writer, Digest *digest, int64_t *size);
/* Removes PATH.tmp; NULL is fine. */
void safetensors_abandon(SafetensorsWriter *writer);

#ifdef __cplusplus
}
#endif
#endif
