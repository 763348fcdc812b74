/* h5_internal: what the files data/h5*.c share, and nobody else includes. */
#ifndef ZT_DATA_H5_INTERNAL_H
#define ZT_DATA_H5_INTERNAL_H

#include "data/h5.h"

#include <hdf5.h>
#include <stdbool.h>

struct H5File {
    hid_t id;
    bool writing;
    int64_t size_bytes; /* when reading: bounds what an array may claim to hold */
    char path[];
};

struct H5Array {
    hid_t id;
    const H5File *file; /* view */
    H5Shape shape;
    int64_t chunk[H5_MAX_DIMS];
    bool checksums; /* when reading: every chunk has one, which the library checks */
    char path[];
};

/* Take and give the one mutex; the first lock starts the library. */
void h5_lock(void);
void h5_unlock(void);

/* The type as it lies in a file, and as it lies in memory. Immutable ids: not to be closed. */
hid_t h5_file_type(H5Type type);
hid_t h5_memory_type(H5Type type);

/* Fails with "PATH: OBJECT: WHAT: the library's innermost reason". Call with the lock held,
 * straight after the call that failed. */
Status h5_fail(Status code, const H5File *file, const char *object, const char *what);

/* Every link on the way to `path` must exist, be hard, and lead to an object of the format with
 * checksums; called before anything follows it. */
Status h5_check_links(const H5File *file, const char *path);

/* Elements of dims[from .. ndim), or -1 when that does not fit. */
int64_t h5_product(const int64_t *dims, int from, int ndim);
/* Fills shape, chunk and checksums of an array that is open, and checks them. Lock held.
 */
Status h5_check_array(H5Array *array, const H5Shape *expected);

#endif
