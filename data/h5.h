/*
 * h5: the little of HDF5 that a dataset needs, and nothing of the rest.
 *
 * HDF5 is not meant for hostile files, and much of its trouble is in what a dataset has no use for.
 * So there are fixed names only, never a walk over what a file offers; hard links only; arrays of
 * five fixed types, chunked, bounded, with the filters shuffle, deflate and fletcher32; attributes
 * of the root that are one number or one fixed-length string; metadata of the format since 1.8,
 * where every piece has a checksum. No plugin is ever loaded.
 *
 * One mutex around every call: whether the library is thread-safe depends on the distribution's
 * build (Debian: the serial one is, the parallel one is not), and where it is, it has one lock too.
 */
#ifndef ZT_DATA_H5_H
#define ZT_DATA_H5_H

#include "core/base/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    H5_MAX_DIMS = 3,
    H5_MAX_TEXT = 255,            /* bytes of a text attribute */
    H5_MAX_CHUNK_BYTES = 1 << 24, /* one chunk is decompressed as a whole */
};

/* Little-endian in the file, the machine's own in memory. */
typedef enum H5Type { H5_TYPE_U8, H5_TYPE_U16, H5_TYPE_I64, H5_TYPE_F32, H5_TYPE_F64 } H5Type;

size_t h5_type_bytes(H5Type type);

typedef struct H5File H5File;

/* A new file, write once; there must be none of this name. */
Status h5_create(const char *path, H5File **out);
/* Read-only. ERR_FORMAT: a link, no regular file, truncated, not HDF5. */
Status h5_open(const char *path, H5File **out);
/* A file being written: everything is in the kernel's hands when this is OK; the caller fsyncs.
 * Frees the file whatever it returns. Every array of it must be closed. NULL is fine. */
Status h5_close(H5File *file);
const char *h5_path(const H5File *file);
/* "1.10.8" of the library in use. */
void h5_version(char out[24]);

/* ---- attributes of the root ----------------------------------------------------------------- */

Status h5_write_text(H5File *file, const char *name, const char *value);
Status h5_write_i64(H5File *file, const char *name, int64_t value);
Status h5_write_f64(H5File *file, const char *name, double value);
/* out of H5_MAX_TEXT + 1 bytes */
Status h5_read_text(H5File *file, const char *name, char *out);
Status h5_read_i64(H5File *file, const char *name, int64_t *out);
Status h5_read_f64(H5File *file, const char *name, double *out);

/* ---- arrays --------------------------------------------------------------------------------- */

/* Dimension 0 counts rows; what follows is the shape of a row. */
typedef struct H5Shape {
    H5Type type;
    int ndim;
    int64_t dims[H5_MAX_DIMS];
} H5Shape;

typedef struct H5Array H5Array;

/* path: "/group/name" or deeper; groups on the way are made. shape.dims[0] is 0 and grows; `chunk`
 * has ndim entries. */
Status h5_array_create(H5File *file, const char *path, const H5Shape *shape, const int64_t *chunk,
                       H5Array **out);
/* `data`: rows rows of the array's type. Each chunk is stored with its checksum (fletcher32). */
Status h5_array_append(H5Array *array, int64_t rows, const void *data);
/* Opens and checks; type and ndim must be as in `expected`, and so must every dimension of it that
 * is not negative; the true shape is in h5_array_shape. */
Status h5_array_open(H5File *file, const char *path, const H5Shape *expected, H5Array **out);
const H5Shape *h5_array_shape(const H5Array *array);
/* dst = rows [first, first + rows) */
Status h5_array_read(H5Array *array, int64_t first, int64_t rows, void *dst);
/* dst = entries [first, first + count) along dimension 1 of one row. Only the chunks they lie in
 * are read, and each of those is checked whole against its checksum: an array without them is
 * refused, as whoever reads a part has nothing else to go by. */
Status h5_array_read_part(H5Array *array, int64_t row, int64_t first, int64_t count, void *dst);
void h5_array_close(H5Array *array);

#ifdef __cplusplus
}
#endif
#endif
