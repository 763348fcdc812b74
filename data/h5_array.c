#include "data/h5_internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A filter may lengthen a chunk that does not compress: deflate by a few bytes, fletcher32 by four.
 */
static const size_t CHUNK_SLACK = 1024;

static Status array_alloc(const H5File *file, const char *path, H5Array **out)
{
    const size_t length = strlen(path) + 1;
    H5Array *array = malloc(sizeof(*array) + length);
    CHECK(array != NULL, ERR_MEMORY, "%s: %s: no memory for a handle", file->path, path);
    *array = (H5Array){ .id = H5I_INVALID_HID, .file = file };
    memcpy(array->path, path, length);
    *out = array;
    return OK;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Makes the groups on the way to `path`. Times are not recorded, in them or in arrays: the same
 * clips give the same bytes. Lock held. */
static Status make_groups(const H5File *file, const char *path)
{
    char prefix[128];
    const size_t length = strlen(path);
    assert(path[0] == '/' && length < sizeof(prefix));
    for (size_t i = 1; i < length; i++) {
        if (path[i] != '/') continue;
        memcpy(prefix, path, i);
        prefix[i] = '\0';
        if (H5Lexists(file->id, prefix, H5P_DEFAULT) > 0) continue;
        const hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
        if (creation >= 0) H5Pset_obj_track_times(creation, false);
        const hid_t group = H5Gcreate2(file->id, prefix, H5P_DEFAULT, creation, H5P_DEFAULT);
        const Status s = group >= 0 ? OK : h5_fail(ERR_IO, file, prefix, "cannot create");
        if (creation >= 0) H5Pclose(creation);
        if (group >= 0) H5Gclose(group);
        TRY(s);
    }
    return OK;
}

static hid_t creation_list(const H5Shape *shape, const int64_t *chunk)
{
    hsize_t dims[H5_MAX_DIMS];
    for (int i = 0; i < shape->ndim; i++) dims[i] = (hsize_t)chunk[i];
    const hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    if (list < 0) return list;
    /* shuffle puts bytes of one significance side by side, which is what deflate can use; level 1
     * is within a few percent of the best on latents, at several times the speed */
    const bool good = H5Pset_chunk(list, shape->ndim, dims) >= 0 && H5Pset_shuffle(list) >= 0 &&
                      H5Pset_deflate(list, 1) >= 0 && H5Pset_fletcher32(list) >= 0 &&
                      H5Pset_obj_track_times(list, false) >= 0;
    if (good) return list;
    H5Pclose(list);
    return H5I_INVALID_HID;
}

static hid_t growing_space(const H5Shape *shape)
{
    hsize_t dims[H5_MAX_DIMS], most[H5_MAX_DIMS];
    for (int i = 0; i < shape->ndim; i++) dims[i] = most[i] = (hsize_t)shape->dims[i];
    dims[0] = 0;
    most[0] = H5S_UNLIMITED;
    return H5Screate_simple(shape->ndim, dims, most);
}

static Status create_locked(H5Array *array, const int64_t *chunk)
{
    TRY(make_groups(array->file, array->path));
    const hid_t creation = creation_list(&array->shape, chunk);
    const hid_t space = growing_space(&array->shape);
    array->id = H5Dcreate2(array->file->id, array->path, h5_file_type(array->shape.type), space,
                           H5P_DEFAULT, creation, H5P_DEFAULT);
    const Status s =
        array->id >= 0 ? OK : h5_fail(ERR_IO, array->file, array->path, "cannot create");
    if (space >= 0) H5Sclose(space);
    if (creation >= 0) H5Pclose(creation);
    return s;
}

Status h5_array_create(H5File *file, const char *path, const H5Shape *shape, const int64_t *chunk,
                       H5Array **out)
{
    assert(file->writing && shape->ndim >= 1 && shape->ndim <= H5_MAX_DIMS);
    const int64_t row = h5_product(shape->dims, 1, shape->ndim);
    const int64_t in_chunk = h5_product(chunk, 0, shape->ndim);
    const int64_t bytes = (int64_t)h5_type_bytes(shape->type);
    CHECK(row > 0 && in_chunk > 0 && in_chunk <= H5_MAX_CHUNK_BYTES / bytes, ERR_FORMAT,
          "%s: %s: a chunk of %lld values of %lld bytes, at most %d bytes", file->path, path,
          (long long)in_chunk, (long long)bytes, H5_MAX_CHUNK_BYTES);

    H5Array *array = NULL;
    TRY(array_alloc(file, path, &array));
    array->shape = *shape;
    array->shape.dims[0] = 0;

    h5_lock();
    const Status s = create_locked(array, chunk);
    h5_unlock();
    if (s != OK) {
        free(array);
        return s;
    }
    *out = array;
    return OK;
}

/* What is read or written at once: [start, start + count) of every dimension. */
typedef struct Block {
    int64_t start[H5_MAX_DIMS], count[H5_MAX_DIMS];
} Block;

static Block block_of_rows(const H5Array *array, int64_t first, int64_t rows)
{
    Block block = { .start = { first } };
    memcpy(block.count, array->shape.dims, sizeof(block.count));
    block.count[0] = rows;
    return block;
}

/* Selects a block of the file and as much memory. Lock held. */
static bool select_block(const H5Array *array, const Block *block, hid_t *file_space,
                         hid_t *memory_space)
{
    hsize_t start[H5_MAX_DIMS], count[H5_MAX_DIMS];
    for (int i = 0; i < array->shape.ndim; i++) {
        start[i] = (hsize_t)block->start[i];
        count[i] = (hsize_t)block->count[i];
    }
    *file_space = H5Dget_space(array->id);
    *memory_space = H5Screate_simple(array->shape.ndim, count, NULL);
    return *file_space >= 0 && *memory_space >= 0 &&
           H5Sselect_hyperslab(*file_space, H5S_SELECT_SET, start, NULL, count, NULL) >= 0;
}

static void close_spaces(hid_t file_space, hid_t memory_space)
{
    if (file_space >= 0) H5Sclose(file_space);
    if (memory_space >= 0) H5Sclose(memory_space);
}

static Status append_locked(H5Array *array, int64_t rows, const void *data)
{
    hid_t file_space = H5I_INVALID_HID, memory_space = H5I_INVALID_HID;
    hsize_t dims[H5_MAX_DIMS];
    const int64_t first = array->shape.dims[0];
    const Block block = block_of_rows(array, first, rows);
    for (int i = 0; i < array->shape.ndim; i++) dims[i] = (hsize_t)array->shape.dims[i];
    dims[0] = (hsize_t)(first + rows);
    const bool good = H5Dset_extent(array->id, dims) >= 0 &&
                      select_block(array, &block, &file_space, &memory_space) &&
                      H5Dwrite(array->id, h5_memory_type(array->shape.type), memory_space,
                               file_space, H5P_DEFAULT, data) >= 0;
    const Status s = good ? OK : h5_fail(ERR_IO, array->file, array->path, "cannot write");
    close_spaces(file_space, memory_space);
    if (s == OK) array->shape.dims[0] += rows;
    return s;
}

Status h5_array_append(H5Array *array, int64_t rows, const void *data)
{
    assert(array->file->writing && rows > 0);
    h5_lock();
    const Status s = append_locked(array, rows, data);
    h5_unlock();
    return s;
}

/* ---- reading -------------------------------------------------------------------------------- */

static Status open_checked(H5Array *array, const H5Shape *expected)
{
    TRY(h5_check_links(array->file, array->path));
    /* a chunk is read whole, and not twice in a row: the library's chunk cache would only cost
     * memory */
    const hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    if (access >= 0) H5Pset_chunk_cache(access, 1, 0, 1.0);
    array->id = H5Dopen2(array->file->id, array->path, access);
    const Status opened =
        array->id >= 0 ? OK : h5_fail(ERR_FORMAT, array->file, array->path, "cannot open");
    if (access >= 0) H5Pclose(access);
    TRY(opened);
    return h5_check_array(array, expected);
}

Status h5_array_open(H5File *file, const char *path, const H5Shape *expected, H5Array **out)
{
    assert(expected->ndim >= 1 && expected->ndim <= H5_MAX_DIMS);
    H5Array *array = NULL;
    TRY(array_alloc(file, path, &array));
    h5_lock();
    const Status s = open_checked(array, expected);
    h5_unlock();
    if (s != OK) {
        h5_array_close(array);
        return s;
    }
    *out = array;
    return OK;
}

/* Where the chunk begins in which the block does. */
static int64_t first_chunk(const H5Array *array, const Block *block, int d)
{
    return block->start[d] / array->chunk[d] * array->chunk[d];
}

/* Visits the chunks under a block: each must be there, and not be longer than what its filters can
 * have made of it, or inflating it could take any amount of memory. Lock held. */
static Status check_chunks(const H5Array *array, const Block *block)
{
    const int ndim = array->shape.ndim;
    const size_t most =
        (size_t)h5_product(array->chunk, 0, ndim) * h5_type_bytes(array->shape.type) + CHUNK_SLACK;
    hsize_t at[H5_MAX_DIMS] = { 0 };
    for (int d = 0; d < ndim; d++) at[d] = (hsize_t)first_chunk(array, block, d);
    for (;;) {
        hsize_t stored = 0;
        const bool there = H5Dget_chunk_storage_size(array->id, at, &stored) >= 0;
        if (!there || stored == 0 || stored > most) {
            H5Eclear2(H5E_DEFAULT);
            return status_fail(ERR_FORMAT, "%s: %s: the chunk of row %llu is %s", array->file->path,
                               array->path, (unsigned long long)at[0],
                               !there || stored == 0 ? "missing" : "longer than it can be");
        }
        /* the next chunk, last dimension first */
        int d = ndim - 1;
        for (; d >= 0; d--) {
            at[d] += (hsize_t)array->chunk[d];
            if ((int64_t)at[d] < block->start[d] + block->count[d]) break;
            at[d] = (hsize_t)first_chunk(array, block, d);
        }
        if (d < 0) return OK;
    }
}

static Status read_locked(const H5Array *array, const Block *block, void *dst)
{
    TRY(check_chunks(array, block));
    hid_t file_space = H5I_INVALID_HID, memory_space = H5I_INVALID_HID;
    const bool good = select_block(array, block, &file_space, &memory_space) &&
                      H5Dread(array->id, h5_memory_type(array->shape.type), memory_space,
                              file_space, H5P_DEFAULT, dst) >= 0;
    const Status s = good ? OK : h5_fail(ERR_FORMAT, array->file, array->path, "cannot read");
    close_spaces(file_space, memory_space);
    return s;
}

static Status read_block(const H5Array *array, const Block *block, void *dst)
{
    h5_lock();
    const Status s = read_locked(array, block, dst);
    h5_unlock();
    return s;
}

Status h5_array_read(H5Array *array, int64_t first, int64_t rows, void *dst)
{
    CHECK(first >= 0 && rows >= 1 && rows <= array->shape.dims[0] &&
              first <= array->shape.dims[0] - rows,
          ERR_FORMAT, "%s: %s has %lld rows, not %lld from %lld on", array->file->path, array->path,
          (long long)array->shape.dims[0], (long long)rows, (long long)first);
    const Block block = block_of_rows(array, first, rows);
    return read_block(array, &block, dst);
}

Status h5_array_read_part(H5Array *array, int64_t row, int64_t first, int64_t count, void *dst)
{
    assert(array->shape.ndim >= 2);
    const int64_t rows = array->shape.dims[0], entries = array->shape.dims[1];
    CHECK(row >= 0 && row < rows, ERR_FORMAT, "%s: %s has %lld rows, no row %lld",
          array->file->path, array->path, (long long)rows, (long long)row);
    CHECK(first >= 0 && count >= 1 && count <= entries && first <= entries - count, ERR_FORMAT,
          "%s: a row of %s has %lld entries, not %lld from %lld on", array->file->path, array->path,
          (long long)entries, (long long)count, (long long)first);
    CHECK(array->checksums, ERR_FORMAT,
          "%s: %s has no checksums (fletcher32): it is only read by whole rows", array->file->path,
          array->path);
    Block block = block_of_rows(array, row, 1);
    block.start[1] = first;
    block.count[1] = count;
    return read_block(array, &block, dst);
}

const H5Shape *h5_array_shape(const H5Array *array)
{
    return &array->shape;
}

void h5_array_close(H5Array *array)
{
    if (array == NULL) return;
    h5_lock();
    if (array->id >= 0) H5Dclose(array->id);
    h5_unlock();
    free(array);
}
