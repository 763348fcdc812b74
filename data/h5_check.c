/* What an array must be before anything is read from it: type, extent, storage, filters. */
#include "data/h5_internal.h"

/* Of any one dimension. */
static const int64_t MAX_EXTENT = (int64_t)1 << 40;
/* Deflate shrinks 1032-fold at best, so an array that claims more than this times the file is
 * lying. */
static const int64_t MAX_EXPANSION = 1100;

int64_t h5_product(const int64_t *dims, int from, int ndim)
{
    int64_t count = 1;
    for (int i = from; i < ndim; i++) {
        if (dims[i] < 0 || __builtin_mul_overflow(count, dims[i], &count)) return -1;
    }
    return count;
}

static Status check_type(const H5Array *array, H5Type wanted)
{
    const hid_t type = H5Dget_type(array->id);
    const bool equal =
        type >= 0 && H5Tcommitted(type) == 0 && H5Tequal(type, h5_file_type(wanted)) > 0;
    if (type >= 0) H5Tclose(type);
    CHECK(equal, ERR_FORMAT, "%s: %s has another type than the format's", array->file->path,
          array->path);
    return OK;
}

static Status check_extent(H5Array *array, const H5Shape *expected)
{
    hsize_t dims[H5_MAX_DIMS] = { 0 };
    const hid_t space = H5Dget_space(array->id);
    const bool same_rank = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SIMPLE &&
                           H5Sget_simple_extent_ndims(space) == expected->ndim &&
                           H5Sget_simple_extent_dims(space, dims, NULL) == expected->ndim;
    if (space >= 0) H5Sclose(space);
    CHECK(same_rank, ERR_FORMAT, "%s: %s is not of %d dimensions", array->file->path, array->path,
          expected->ndim);

    array->shape = (H5Shape){ .type = expected->type, .ndim = expected->ndim };
    for (int i = 0; i < expected->ndim; i++) {
        CHECK(dims[i] >= 1 && dims[i] <= (hsize_t)MAX_EXTENT, ERR_FORMAT,
              "%s: %s: dimension %d is %llu", array->file->path, array->path, i,
              (unsigned long long)dims[i]);
        array->shape.dims[i] = (int64_t)dims[i];
        CHECK(expected->dims[i] < 0 || array->shape.dims[i] == expected->dims[i], ERR_FORMAT,
              "%s: %s: dimension %d is %llu, expected %lld", array->file->path, array->path, i,
              (unsigned long long)dims[i], (long long)expected->dims[i]);
    }

    /* so that nothing is allocated on the word of a few bytes */
    const int64_t count = h5_product(array->shape.dims, 0, expected->ndim);
    const int64_t width = (int64_t)h5_type_bytes(expected->type);
    CHECK(count > 0 && count / MAX_EXPANSION <= array->file->size_bytes / width, ERR_FORMAT,
          "%s: %s claims %lld values in a file of %lld bytes", array->file->path, array->path,
          (long long)count, (long long)array->file->size_bytes);
    return OK;
}

static Status check_filters(H5Array *array, hid_t creation)
{
    const int filters = H5Pget_nfilters(creation);
    bool good = filters >= 0;
    array->checksums = false;
    for (int i = 0; good && i < filters; i++) {
        unsigned flags, config;
        size_t values = 0;
        char name[1];
        const H5Z_filter_t id = H5Pget_filter2(creation, (unsigned)i, &flags, &values, NULL,
                                               sizeof(name), name, &config);
        good = id == H5Z_FILTER_SHUFFLE || id == H5Z_FILTER_DEFLATE || id == H5Z_FILTER_FLETCHER32;
        array->checksums = array->checksums || id == H5Z_FILTER_FLETCHER32;
    }
    CHECK(good, ERR_FORMAT, "%s: %s has a filter other than shuffle, deflate and fletcher32",
          array->file->path, array->path);
    /* chunks that stand out over the end can be told to go without their filters */
    unsigned options = 0;
    const bool all = H5Pget_chunk_opts(creation, &options) >= 0 &&
                     (options & H5D_CHUNK_DONT_FILTER_PARTIAL_CHUNKS) == 0;
    array->checksums = array->checksums && all;
    return OK;
}

static Status check_storage(H5Array *array, hid_t creation)
{
    CHECK(H5Pget_external_count(creation) == 0 && H5Pget_layout(creation) == H5D_CHUNKED,
          ERR_FORMAT, "%s: %s is not stored in chunks in this file", array->file->path,
          array->path);
    hsize_t dims[H5_MAX_DIMS] = { 0 };
    const int ndim = array->shape.ndim;
    CHECK(H5Pget_chunk(creation, H5_MAX_DIMS, dims) == ndim, ERR_FORMAT,
          "%s: %s has chunks of another rank", array->file->path, array->path);
    for (int i = 0; i < ndim; i++) {
        CHECK(dims[i] >= 1 && dims[i] <= H5_MAX_CHUNK_BYTES, ERR_FORMAT,
              "%s: %s: chunk dimension %d is %llu", array->file->path, array->path, i,
              (unsigned long long)dims[i]);
        array->chunk[i] = (int64_t)dims[i];
    }
    const int64_t values = h5_product(array->chunk, 0, ndim);
    CHECK(values > 0 && values <= H5_MAX_CHUNK_BYTES / (int64_t)h5_type_bytes(array->shape.type),
          ERR_FORMAT, "%s: %s has chunks of more than %d bytes", array->file->path, array->path,
          H5_MAX_CHUNK_BYTES);
    return check_filters(array, creation);
}

Status h5_check_array(H5Array *array, const H5Shape *expected)
{
    TRY(check_type(array, expected->type));
    TRY(check_extent(array, expected));
    const hid_t creation = H5Dget_create_plist(array->id);
    if (creation < 0) return h5_fail(ERR_FORMAT, array->file, array->path, "cannot look at");
    const Status s = check_storage(array, creation);
    H5Pclose(creation);
    return s;
}
